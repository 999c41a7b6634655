package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
)

// variant is a scene whose local state and archive can be spoilt without the
// scene's own.
func (s *scene) variant(t *testing.T) *scene {
	t.Helper()
	v := *s
	v.t = t
	v.opts.StateDir = filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(v.opts.StateDir, os.DirFS(s.opts.StateDir)); err != nil {
		t.Fatal(err)
	}
	v.b = clone(t, s.b, func(string) bool { return true })
	v.opts.Bucket = v.b
	return &v
}

// catchUp runs tidemark once. It may refuse, naming the flag that makes it go on:
// then it is told to. The history is checked; the database stays as it is.
func (s *scene) catchUp(want outcome) (refused bool) {
	s.t.Helper()
	n := len(commitsOf(s.t, s.b))
	_, err := replica.Once(s.t.Context(), s.opts)
	if refused = errors.Is(err, replica.ErrRefused); refused {
		if !strings.Contains(err.Error(), "--takeover") {
			s.t.Errorf("%q does not name the flag", err)
		}
		if now := len(commitsOf(s.t, s.b)); now != n {
			s.t.Errorf("%d commits are in the archive after it was refused, there were %d", now, n)
		}
		s.opts.Takeover = true
		_, err = replica.Once(s.t.Context(), s.opts)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.check(want, s.a.content(), len(s.states))
	return refused
}

// stateFiles lists the files of a state directory that hold anything.
func stateFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != "lock" {
			rel, _ := filepath.Rel(dir, path) // below it
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Whatever becomes of a file of the local state, the history goes on exactly, or
// with one resync, or not before the user says so.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	for how, stop := range map[string]func(*scene){isStopped: cleanly, isKilled: killed, isSpooling: killedSpooling} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, stop)
			s.update(1)
			safe := len(commitsOf(t, s.b)) // what is only in the spool can get lost with it
			files := stateFiles(t, s.opts.StateDir)
			if want := []string{"shipped.json", "state.json", "sums"}; len(files) < len(want) {
				t.Fatalf("the state is %v, want %v at least", files, want)
			}
			for _, name := range files {
				good := read(t, filepath.Join(s.opts.StateDir, name))
				spoilt := map[string][]byte{"empty": {}, "cut off": good[:len(good)/2], "missing": nil}
				for _, at := range []int{len(good) / 3, len(good) - 2} {
					b := slices.Clone(good)
					b[at] ^= 0x04
					spoilt["byte "+string(rune('a'+len(spoilt)))] = b
				}
				for what, b := range spoilt {
					t.Run(name+"/"+what, func(t *testing.T) {
						v := s.variant(t)
						v.safe = safe
						path := filepath.Join(v.opts.StateDir, name)
						if remove(t, path); b != nil {
							write(t, path, b)
						}
						v.catchUp(either)
					})
				}
			}
		})
	}
}

// A local state that is not the newest one of this database and this archive.
func TestForeignState(t *testing.T) {
	t.Parallel()
	for _, how := range []func(*scene){cleanly, killed} {
		s := newScene(t, how)
		old := s.variant(t) // the state and the archive as they are now
		s.update(2)
		if _, err := replica.Once(t.Context(), s.opts); err != nil {
			t.Fatal(err)
		}
		s.safe = len(s.states)
		s.update(1)
		for name, spoil := range map[string]func(v *scene){
			"older than the archive": func(v *scene) { v.opts.StateDir = old.variant(v.t).opts.StateDir },
			"newer than the archive": func(v *scene) {
				v.b, v.safe = old.variant(v.t).b, len(commitsOf(v.t, old.b))
				v.opts.Bucket = v.b
			},
			"of another database": func(v *scene) {
				o := newScene(v.t, how)
				v.opts.StateDir = o.opts.StateDir
			},
			"none": func(v *scene) { v.opts.StateDir = filepath.Join(v.t.TempDir(), "none") },
		} {
			t.Run(name, func(t *testing.T) {
				v := s.variant(t)
				spoil(v)
				v.catchUp(either)
			})
		}
	}
}

// Files of different moments, as a power cut can leave them: the directory's
// entries are not written in order.
func TestMixedState(t *testing.T) {
	t.Parallel()
	for _, how := range []func(*scene){cleanly, killed} {
		s := newScene(t, how)
		old := s.variant(t)
		s.update(2)
		if _, err := replica.Once(t.Context(), s.opts); err != nil {
			t.Fatal(err)
		}
		s.safe = len(s.states)
		s.update(1)
		files := []string{"shipped.json", "state.json", "sums"}
		for mix := 1; mix < 1<<len(files)-1; mix++ {
			v := s.variant(t)
			for i, name := range files {
				if mix&(1<<i) != 0 {
					write(t, filepath.Join(v.opts.StateDir, name), read(t, filepath.Join(old.opts.StateDir, name)))
				}
			}
			v.catchUp(either)
			// An older bucket, as if the last uploads had been lost: then the state is newer.
			v = s.variant(t)
			v.b = clone(t, old.b, func(string) bool { return true })
			v.opts.Bucket, v.safe = v.b, len(commitsOf(t, old.b))
			for i, name := range files {
				if mix&(1<<i) != 0 {
					write(t, filepath.Join(v.opts.StateDir, name), read(t, filepath.Join(old.opts.StateDir, name)))
				}
			}
			v.catchUp(either)
		}
	}
}

// forked makes two databases that went on from one, and shipped as many commits
// under the same keys, each to an archive of its own.
func forked(t *testing.T) (s, fork *scene) {
	t.Helper()
	s = newScene(t, cleanly)
	fork = s.variant(t)
	fork.a = &app{t: t, path: filepath.Join(t.TempDir(), "app.db")}
	_, b := restoredFile(t, fork.b, 0)
	write(t, fork.a.path, b)
	fork.a.open()
	fork.a.exec("PRAGMA journal_mode=WAL")
	fork.opts.Path = fork.a.path
	fork.states = slices.Clone(s.states)
	for _, f := range []*scene{s, fork} {
		f.insert(2)
		if _, err := replica.Once(t.Context(), f.opts); err != nil {
			t.Fatal(err)
		}
		f.safe = len(f.states)
	}
	return s, fork
}

// A state that says of an archive what another one of the same replica holds.
// Neither line may be taken for the other.
func TestForkedState(t *testing.T) {
	t.Parallel()
	s, fork := forked(t)
	fork.insert(1)
	// Now it meets the archive of the first.
	fork.b = clone(t, s.b, func(string) bool { return true })
	fork.opts.Bucket = fork.b
	_, err := replica.Once(t.Context(), fork.opts)
	if err != nil && !errors.Is(err, replica.ErrRefused) && !errors.Is(err, replica.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if err == nil {
		s.states = append(s.states, fork.a.content())
	}
	fork.compare(commitsOf(t, fork.b), s.states)
}

// A segment of the other line among those of the first is noticed by a start that
// has nothing but the archive.
func TestForkedArchive(t *testing.T) {
	t.Parallel()
	s, fork := forked(t)
	key := archive.SegmentKey(state.TXID(s.safe - 1))
	s.insert(2)
	if _, err := replica.Once(t.Context(), s.opts); err != nil {
		t.Fatal(err)
	}
	put(t, s.b, key, object(t, fork.b, key))
	s.opts.StateDir, s.opts.Takeover = filepath.Join(t.TempDir(), "lost"), true
	before := keys(t, s.b)
	if _, err := replica.Once(t.Context(), s.opts); !errors.Is(err, archive.ErrBroken) {
		t.Errorf("got %v, want ErrBroken", err)
	}
	if after := keys(t, s.b); !slices.Equal(before, after) {
		t.Errorf("the archive went from %v to %v", before, after)
	}
}

// A state directory without an archive, as after a new bucket: the history begins
// anew.
func TestStateWithoutArchive(t *testing.T) {
	t.Parallel()
	s := newScene(t, killedSpooling)
	s.b = mem.New()
	s.opts.Bucket = s.b
	s.states, s.safe = []string{s.a.content()}, 1
	s.resume(exact)
}
