package replica_test

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tidemark/replica"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// object gives an object's bytes.
func object(t *testing.T, b *mem.Bucket, key string) []byte {
	t.Helper()
	r, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// put replaces an object.
func put(t *testing.T, b *mem.Bucket, key string, body []byte) {
	t.Helper()
	if err := b.Put(t.Context(), key, bytes.NewReader(body), storage.PutOptions{Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
}

// keys lists the objects.
func keys(t *testing.T, b *mem.Bucket) (ks []string) {
	t.Helper()
	err := b.List(t.Context(), "", "", func(o storage.Info) error {
		ks = append(ks, o.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ks
}

// damages are what can become of an object.
func damages(good []byte) map[string][]byte {
	m := map[string][]byte{
		"empty": {}, "a header": good[:min(len(good), 30)], "cut off": good[:len(good)/2], "a byte short": good[:len(good)-1],
		"a byte long": append(slices.Clone(good), 0),
	}
	for i := range 6 {
		b := slices.Clone(good)
		at := i * (len(b) - 1) / 5
		b[at] ^= 1 << (i % 8)
		m["bit "+string(rune('a'+i))] = b
	}
	return m
}

// archived is a scene with a snapshot and several segments, and a commit that is
// not shipped yet.
func archived(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, cleanly)
	for range 3 {
		s.insert(2)
		if _, err := replica.Once(t.Context(), s.opts); err != nil {
			t.Fatal(err)
		}
	}
	s.safe = len(s.states)
	s.insert(1)
	return s
}

// starts runs tidemark with an object damaged. It may stop, naming the object and
// leaving the archive as it is; or go on, and then the history must be right when
// the object is what it was.
func (s *scene) starts(key string, bad []byte) (stopped bool) {
	s.t.Helper()
	good := object(s.t, s.b, key)
	put(s.t, s.b, key, bad)
	before := keys(s.t, s.b)
	_, err := replica.Once(s.t.Context(), s.opts)
	if err != nil {
		if !strings.Contains(err.Error(), key) {
			s.t.Errorf("%q does not name %s", err, key)
		}
		if after := keys(s.t, s.b); !slices.Equal(before, after) {
			s.t.Errorf("it stopped with %v, and the archive went from %v to %v", err, before, after)
		}
		return true
	}
	s.unrestorable(key)
	put(s.t, s.b, key, good)
	s.check(either, s.a.content(), len(s.states))
	return false
}

// unrestorable checks that no restore gives anything else than what was committed
// while an object is damaged, and that one that fails names it.
func (s *scene) unrestorable(key string) {
	s.t.Helper()
	for _, id := range []int{s.safe, 2} {
		out := filepath.Join(s.t.TempDir(), "out.db")
		_, err := restore.Run(s.t.Context(), restore.Options{Bucket: s.b, Output: out, Target: restore.Target{TXID: state.TXID(id)}, Logger: discard()})
		if err != nil {
			if !strings.Contains(err.Error(), key) {
				s.t.Errorf("restore of TXID %d: %q does not name %s", id, err, key)
			}
			continue
		}
		o := &app{t: s.t, path: out}
		o.open()
		if got := o.content(); got != s.states[id-1] {
			s.t.Errorf("TXID %d is restored with other content than was committed", id)
		}
		o.close()
	}
}

// Whatever becomes of an object, a start that needs it stops and names it, and a
// start that does not need it goes on with the right history.
func TestDamagedArchive(t *testing.T) {
	t.Parallel()
	s := archived(t)
	for _, lost := range []bool{false, true} {
		for _, key := range keys(t, s.b) {
			stopped, bad := 0, damages(object(t, s.b, key))
			for what, b := range bad {
				if !lost && len(what)%3 == 0 {
					continue // enough of them: these are not read
				}
				t.Run(key+"/"+what, func(t *testing.T) {
					v := s.variant(t)
					if lost {
						v.opts.StateDir, v.opts.Takeover = filepath.Join(t.TempDir(), "lost"), true
					}
					if v.starts(key, b) {
						stopped++
					}
				})
			}
			// Without local state the page sums come from the archive: all objects
			// are read, if not all of their bytes.
			if lost && stopped < 5 {
				t.Errorf("%s: %d of %d damages are found at the start", key, stopped, len(bad))
			}
		}
	}
}

// An object in another's place, or another replica's, is not taken for the right
// one.
func TestSwappedArchive(t *testing.T) {
	t.Parallel()
	s, other := archived(t), archived(t)
	all := keys(t, s.b)
	for _, key := range all {
		bad := map[string][]byte{}
		for _, from := range all {
			if from != key {
				bad[from] = object(t, s.b, from)
			}
		}
		if slices.Contains(keys(t, other.b), key) {
			bad["another replica's"] = object(t, other.b, key)
		}
		for what, b := range bad {
			t.Run(key+" is "+what, func(t *testing.T) {
				v := s.variant(t)
				v.opts.StateDir, v.opts.Takeover = filepath.Join(t.TempDir(), "lost"), true
				if !v.starts(key, b) {
					t.Error("it is taken")
				}
				v.unrestorable(key)
			})
		}
	}
}

// A segment that is missing is noticed by a start that needs it.
func TestMissingObject(t *testing.T) {
	t.Parallel()
	s := archived(t)
	for _, key := range keys(t, s.b) {
		for _, lost := range []bool{false, true} {
			v := s.variant(t)
			v.b = clone(t, s.b, func(k string) bool { return k != key })
			v.opts.Bucket = v.b
			if lost {
				v.opts.StateDir, v.opts.Takeover = filepath.Join(t.TempDir(), "lost"), true
			}
			before := keys(t, v.b)
			if _, err := replica.Once(t.Context(), v.opts); err != nil {
				if !slices.Equal(before, keys(t, v.b)) {
					t.Errorf("without %s: it stopped with %v and changed the archive", key, err)
				}
				continue
			}
			for id := range len(s.states) + 1 {
				got, err := tryRestore(t, v.b, state.TXID(id+1))
				committed := got == s.states[min(id, len(s.states)-1)]
				resynced := lost && id+1 >= len(commitsOf(t, v.b)) && got == s.a.content()
				if err == nil && !committed && !resynced {
					t.Errorf("without %s: TXID %d is not what was committed", key, id+1)
				}
			}
		}
	}
}

// tryRestore is restoredFile for a commit that may not be there.
func tryRestore(t *testing.T, b storage.Bucket, id state.TXID) (string, error) {
	t.Helper()
	o := &app{t: t, path: filepath.Join(t.TempDir(), "out.db")}
	if _, err := restore.Run(t.Context(), restore.Options{Bucket: b, Output: o.path, Target: restore.Target{TXID: id}, Logger: discard()}); err != nil {
		return "", err
	}
	o.open()
	defer o.close()
	return o.content(), nil
}
