package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"tidemark/replica"
)

// another makes a file of the same database as it was, with other content in a
// table that the WAL does not have.
func (s *scene) another() []byte {
	s.t.Helper()
	o := &app{t: s.t, path: filepath.Join(s.t.TempDir(), "another.db")}
	write(s.t, o.path, read(s.t, s.a.path))
	o.open()
	o.exec("UPDATE big SET v=randomblob(40000)")
	o.close()
	return read(s.t, o.path)
}

// The file is exchanged while tidemark is not there. Whatever SQLite makes of
// what it then finds is what the history goes on with.
func TestReplacedWhileDown(t *testing.T) {
	t.Parallel()
	closed := func(do func(s *scene)) func(*scene) {
		return func(s *scene) { s.a.close(); do(s); s.a.open() }
	}
	leftover := func(put func(s *scene, file []byte)) func(*scene) {
		return func(s *scene) { s.crash(asIs); put(s, s.another()) }
	}
	run(t, map[string]down{
		"mv of another": {closed(func(s *scene) { rename(s.t, s.other(), s.a.path) }), resync, resync},
		"cp of another": {closed(func(s *scene) { write(s.t, s.a.path, read(s.t, s.other())) }), resync, resync},
		"cp of an older one": {closed(func(s *scene) {
			_, old := restoredFile(s.t, s.b, 2)
			write(s.t, s.a.path, old)
		}), resync, resync},
		"cp, leftover WAL": {leftover(func(s *scene, file []byte) { write(s.t, s.a.path, file) }), resync, resync},
		"mv, leftover WAL": {leftover(func(s *scene, file []byte) {
			write(s.t, s.a.path+".new", file)
			rename(s.t, s.a.path+".new", s.a.path)
		}), resync, resync},
		"cp, leftover WAL, then written": {func(s *scene) {
			s.crash(asIs)
			write(s.t, s.a.path, s.another())
			s.insert(2)
		}, resync, resync},
		"created again": {closed(func(s *scene) {
			remove(s.t, s.a.path)
			s.a.open()
			s.a.exec("PRAGMA journal_mode=WAL")
			s.a.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
			s.a.exec("CREATE TABLE big(v)")
			s.a.exec("INSERT INTO t(v) VALUES(1)")
			s.a.close()
		}), resync, resync},
		"backup":              {func(s *scene) { s.restoreBackup(s.other()) }, exact, exact},
		"backup, then closed": {func(s *scene) { s.restoreBackup(s.other()); s.a.close(); s.a.open() }, resync, resync},
	}, isStopped, isKilled)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// restoreBackup overwrites the database by SQLite's backup interface, as one
// commit.
func (s *scene) restoreBackup(from string) {
	s.t.Helper()
	conn, err := s.a.db.Conn(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	err = conn.Raw(func(c any) error {
		b, err := c.(interface {
			NewRestore(uri string) (*sqlite.Backup, error)
		}).NewRestore(from)
		if err != nil {
			return err
		}
		_, err = b.Step(-1)
		return errors.Join(err, b.Finish())
	})
	if err = errors.Join(err, conn.Close()); err != nil {
		s.t.Fatal(err)
	}
	s.states = append(s.states, s.a.content())
}

// Pages of another size make another database: no history holds both.
func TestPageSizeChanged(t *testing.T) {
	t.Parallel()
	s := newScene(t, cleanly)
	for _, q := range []string{"PRAGMA journal_mode=DELETE", "PRAGMA page_size=1024", "VACUUM", "PRAGMA journal_mode=WAL"} {
		s.a.exec(q)
	}
	if got := row(t, s.a.db, "PRAGMA page_size"); got != "1024" {
		t.Fatal("page size ", got)
	}
	for range 2 {
		err := s.refused()
		if !errors.Is(err, replica.ErrRefused) || !strings.Contains(err.Error(), "4096 bytes, the database's 1024") {
			t.Errorf("got %v, want ErrRefused with both sizes", err)
		}
		s.opts.Takeover = true
	}
	s.compare(commitsOf(t, s.b), s.states)
}

// linked makes the next run reach the database through a symbolic link.
func (s *scene) linked() {
	s.t.Helper()
	link := filepath.Join(s.t.TempDir(), "link.db")
	if err := os.Symlink(s.a.path, link); err != nil {
		s.t.Fatal(err)
	}
	s.opts.Path = link
}

// A link is as good as the path, and can be exchanged for it.
func TestSymlink(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]func(*scene){
		"state directory given": func(*scene) {},
		"beside the database":   func(s *scene) { s.opts.StateDir = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(s *scene) {
				dir(s)
				direct := s.opts.Path
				s.linked()
				cleanly(s)
				s.opts.Path = direct
				s.insert(2)
				cleanly(s)
				s.linked()
			})
			s.insert(1)
			s.resume(exact)
		})
	}
}

// A link that leads to another database now is like a database that was replaced,
// or, if the local state lies beside the database, like one that is not known.
func TestSymlinkRetargeted(t *testing.T) {
	t.Parallel()
	retarget := func(s *scene, link string) {
		remove(s.t, link)
		s.a.close()
		s.a.path = s.other()
		s.a.open()
		if err := os.Symlink(s.a.path, link); err != nil {
			s.t.Fatal(err)
		}
	}
	t.Run("state directory given", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, func(s *scene) { s.linked(); cleanly(s) })
		retarget(s, s.opts.Path)
		s.resume(resync)
	})
	t.Run("beside the database", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, func(s *scene) { s.opts.StateDir = ""; s.linked(); cleanly(s) })
		retarget(s, s.opts.Path)
		if err := s.refused(); !errors.Is(err, replica.ErrRefused) || !strings.Contains(err.Error(), "--takeover") {
			t.Errorf("got %v, want ErrRefused and a hint", err)
		}
		s.opts.Takeover = true
		s.resume(resync)
	})
}
