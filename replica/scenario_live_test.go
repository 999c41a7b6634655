package replica_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/storage"
)

// live runs something next to tidemark, stops it, and checks every commit.
func live(t *testing.T, do func(*scene), pragmas ...string) {
	t.Helper()
	s := newScene(t, func(s *scene) { s.opts.CheckpointPages = 6 }, pragmas...)
	s.safe = 1
	e := launch(t, s.opts)
	attached := s.a.content()
	do(s)
	e.stop()
	s.check(exact, attached, 1)
}

// What applications do with transactions next to tidemark.
func TestLive(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*scene){
		"spilled": func(s *scene) {
			for range 3 {
				s.spill("COMMIT")
				s.update(1)
			}
		},
		"rolled back": func(s *scene) {
			for range 3 {
				s.spill("ROLLBACK")
				s.update(2)
			}
		},
		"committed and checkpointed": func(s *scene) { // before anybody can have read it
			for range 15 {
				s.commit("UPDATE t SET v=randomblob(5000) WHERE id=2")
				s.a.exec("PRAGMA wal_checkpoint(PASSIVE)")
			}
		},
		"VACUUM": func(s *scene) {
			for range 4 {
				s.insert(2)
				s.commit("DELETE FROM t WHERE id > 1")
				s.commit("VACUUM")
			}
		},
		"grown and truncated": func(s *scene) {
			for range 5 {
				s.commit("INSERT INTO big VALUES(randomblob(50000))")
				s.commit("DELETE FROM big WHERE rowid > 1")
				s.commit("PRAGMA incremental_vacuum(5)") // pages of the commit before are gone
				s.commit("PRAGMA incremental_vacuum")
			}
		},
		"backup": func(s *scene) {
			s.update(2)
			s.restoreBackup(s.other())
			s.update(3)
			s.restoreBackup(s.other())
		},
		// The pin keeps the database in WAL mode.
		"journal_mode=DELETE": func(s *scene) {
			for range 3 {
				s.update(2)
				err := s.a.attempt("PRAGMA journal_mode=DELETE")
				if err == nil || !strings.Contains(err.Error(), "locked") {
					s.t.Errorf("journal_mode=DELETE: %v, want that it is locked", err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pragma := "PRAGMA auto_vacuum=NONE"
			if name == "grown and truncated" {
				pragma = "PRAGMA auto_vacuum=INCREMENTAL"
			}
			live(t, do, pragma)
		})
	}
}

// The same with pages that vanish at each commit, and with some that never come
// to be although frames of them are in the WAL.
func TestLiveAutoVacuum(t *testing.T) {
	t.Parallel()
	live(t, func(s *scene) {
		for range 4 {
			s.commit("INSERT INTO big VALUES(randomblob(50000))")
			s.commit("DELETE FROM big WHERE rowid > 1")
			s.a.spills()
			s.a.exec("BEGIN")
			s.a.exec("INSERT INTO big VALUES(randomblob(150000))")
			s.a.exec("UPDATE t SET v=randomblob(600) WHERE id=2")
			s.a.exec("DELETE FROM big WHERE rowid > 1")
			s.commit("COMMIT")
		}
	}, "PRAGMA auto_vacuum=FULL")
}

// fails waits for tidemark to stop by itself. It looks once a second.
func (e *engine) fails() error {
	e.t.Helper()
	select {
	case err := <-e.done:
		if err == nil {
			e.t.Fatal("it ended without an error")
		}
		return err
	case <-time.After(20 * time.Second):
		e.t.Fatal("it goes on as if nothing had happened")
		return nil
	}
}

// The file is exchanged under tidemark. It stops and says why, what it had read
// is shipped, and the next start goes on with what is there then.
func TestReplacedLive(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(s *scene){
		"mv away":       func(s *scene) { rename(s.t, s.a.path, s.a.path+".away") },
		"mv of another": func(s *scene) { rename(s.t, s.other(), s.a.path) },
		"deleted":       func(s *scene) { remove(s.t, s.a.path) },
		"created again": func(s *scene) {
			o := s.other()
			remove(s.t, s.a.path)
			cp(s.t, o, s.a.path)
		},
		"another database by the link": func(s *scene) {
			remove(s.t, s.opts.Path)
			if err := os.Symlink(s.other(), s.opts.Path); err != nil {
				s.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(*scene) {})
			s.linked()
			s.opts.CheckpointPages = 6
			e := launch(t, s.opts)
			s.insert(10)
			shipped(t, s.b, 11)
			do(s)
			err := e.fails()
			if !errors.Is(err, replica.ErrReplaced) || !strings.Contains(err.Error(), s.a.path) {
				t.Errorf("got %v, want ErrReplaced with the path", err)
			}
			s.compare(commitsOf(t, s.b), s.states)
		})
	}
}

// Once it is in its place again, nothing is missing.
func TestMovedAwayAndBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(*scene) {})
	e := launch(t, s.opts)
	s.insert(5)
	shipped(t, s.b, 6)
	rename(t, s.a.path, s.a.path+".away")
	if err := e.fails(); !errors.Is(err, replica.ErrReplaced) {
		t.Errorf("got %v, want ErrReplaced", err)
	}
	rename(t, s.a.path+".away", s.a.path)
	s.safe = len(s.states)
	s.insert(3)
	s.resume(exact)
}

// cp copies a file as another process would.
func cp(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "cp", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// The file's content is exchanged under tidemark and under SQLite. What SQLite
// makes of it is anybody's guess, so tidemark says what happened and stops. What
// is in the archive is not touched.
func TestOverwrittenLive(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(s *scene){
		"idle":    func(*scene) {},
		"written": func(s *scene) { _, _ = s.a.db.ExecContext(s.t.Context(), "UPDATE t SET v=1 WHERE id=1") },
		"checkpointed": func(s *scene) {
			_, _ = s.a.db.ExecContext(s.t.Context(), "UPDATE t SET v=1 WHERE id=1")
			_, _ = s.a.db.ExecContext(s.t.Context(), "PRAGMA wal_checkpoint")
		},
	} {
		for _, size := range []string{"smaller", "same size"} {
			t.Run(name+", "+size, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, func(*scene) {})
				from := s.other()
				if size == "same size" {
					from = s.a.path + ".copy"
					write(t, from, s.another())
				}
				e := launch(t, s.opts)
				s.insert(5)
				shipped(t, s.b, 6)
				cp(t, from, s.a.path)
				then(s)
				err := e.fails()
				named := errors.Is(err, replica.ErrOverwritten) || errors.Is(err, replica.ErrReplaced) || errors.Is(err, replica.ErrDamaged)
				if !named || !strings.Contains(err.Error(), s.a.path) {
					t.Errorf("got %v, want an error that names the cause and the path", err)
				}
				s.compare(commitsOf(t, s.b)[:6], s.states)
			})
		}
	}
}

// A database that is replaced is noticed also while nothing can begin, since what is
// needed for that is in storage, which does not answer.
func TestReplacedWhileStorageIsAway(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(*scene) {})
	e := launch(t, s.opts)
	s.insert(3)
	shipped(t, s.b, 4)
	e.stop()
	remove(t, filepath.Join(s.opts.StateDir, "shipped.json"))
	away := &fickle{Bucket: s.b}
	away.set(storageDown)
	s.opts.Bucket = away
	asked, ended := away.next(), make(chan error, 1)
	go func() {
		_, err := replica.Run(t.Context(), s.opts)
		ended <- err
	}()
	for range 2 {
		select {
		case <-asked:
			asked = away.next()
		case err := <-ended:
			t.Fatal("it ended before: ", err)
		}
	}
	rename(t, s.a.path, s.a.path+".away")
	if err := <-ended; !errors.Is(err, replica.ErrReplaced) || !errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("got %v, want ErrReplaced, and what came of it", err)
	}
}
