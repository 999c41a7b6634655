package replica_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tidemark/replica"
	"tidemark/replica/local"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
)

// kilobytes bounds what may be uploaded for a hundred rows.
const kilobytes = 200 << 10

// large is a database of incompressible pages: 64 MiB, or 1 GiB in a long run.
func large(t *testing.T) *app {
	t.Helper()
	rows := 64
	if os.Getenv("TIDEMARK_TEST_LONG") != "" {
		rows = 1024
	}
	a := newApp(t, "PRAGMA page_size=16384", "PRAGMA synchronous=OFF", "PRAGMA journal_mode=OFF")
	b, rng := make([]byte, 1<<20), rand.NewChaCha8([32]byte{})
	for range rows {
		_, _ = rng.Read(b) // never fails
		if _, err := a.db.ExecContext(t.Context(), "INSERT INTO t(v) VALUES(?)", b); err != nil {
			t.Fatal(err)
		}
	}
	a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return a
}

// rows changes little of a large database, and closes it: the WAL is gone.
func (a *app) rows() {
	a.t.Helper()
	for range 100 {
		a.exec("INSERT INTO t(v) VALUES(randomblob(100))")
	}
	a.close()
	a.open()
}

// newest is the digest of the small rows of the newest restorable state.
func newest(t *testing.T, b *mem.Bucket) string {
	t.Helper()
	o := &app{t: t, path: filepath.Join(t.TempDir(), "newest.db")}
	if _, err := restore.Run(t.Context(), restore.Options{Bucket: b, Output: o.path, Logger: discard()}); err != nil {
		t.Fatal(err)
	}
	o.open()
	defer o.close()
	return o.small()
}

// small tells all small rows.
func (a *app) small() string {
	a.t.Helper()
	return row(a.t, a.db, "SELECT count(*) || ' ' || max(id) || ' ' || group_concat(hex(v)) FROM t WHERE length(v) = 100")
}

// A start uploads what has changed since the last one, not the database, whether
// the page sums are found here or in the archive.
func TestStartUploadsKilobytes(t *testing.T) {
	t.Parallel()
	a, b := large(t), mem.New()
	opts := replica.Options{Path: a.path, Bucket: b, Logger: discard()}
	once := func(most int64) {
		t.Helper()
		rep, err := replica.Once(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if rep.UploadedBytes > most {
			t.Errorf("TXID %v: %d bytes are uploaded, want at most %d", rep.TXID, rep.UploadedBytes, most)
		}
	}
	if rep, err := replica.Once(t.Context(), opts); err != nil || rep.UploadedBytes < 64<<20 {
		t.Fatalf("%+v %v, want that all of it is uploaded", rep, err)
	}
	a.rows()
	once(kilobytes) // a WAL that is gone, a state that is here
	if got := newest(t, b); got != a.small() {
		t.Error("the newest state differs")
	}

	lose(t, a) // the state is gone, and the database is at the newest commit
	once(0)
	a.rows() // the state tells that it is ours
	once(kilobytes)

	a.rows() // nothing does
	lose(t, a)
	if _, err := replica.Once(t.Context(), opts); !errors.Is(err, replica.ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	opts.Takeover = true
	once(kilobytes)
	cs := commitsOf(t, b)
	if len(cs) != 4 || !cs[1].Resync || !cs[2].Resync || !cs[3].Resync {
		t.Errorf("the commits are %+v, want three resyncs", cs)
	}
	if got := newest(t, b); got != a.small() {
		t.Error("the newest state differs")
	}
}

// A database that was restored goes on with its replica, and nothing is uploaded
// that is there already.
func TestAdoption(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(s *scene) string{
		"in the same place": func(s *scene) string {
			s.a.close()
			remove(s.t, s.a.path)
			return s.a.path
		},
		"in the same place, without local state": func(s *scene) string {
			s.a.close()
			remove(s.t, s.a.path)
			s.opts.StateDir = filepath.Join(s.t.TempDir(), "new")
			return s.a.path
		},
		"elsewhere": func(s *scene) string {
			s.opts.StateDir = ""
			return filepath.Join(s.t.TempDir(), "elsewhere.db")
		},
	} {
		for _, stop := range []func(*scene){cleanly, killed} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, stop)
				s.states = s.states[:len(commitsOf(t, s.b))]
				path := place(s)
				if _, err := restore.Run(t.Context(), restore.Options{Bucket: s.b, Output: path, Logger: discard()}); err != nil {
					t.Fatal(err)
				}
				s.a = &app{t: t, path: path}
				s.a.open()
				s.opts.Path = path
				rep, err := replica.Once(t.Context(), s.opts)
				if err != nil || rep.UploadedBytes != 0 || int(rep.TXID) != len(s.states) {
					t.Errorf("%+v %v, want nothing uploaded and TXID %d", rep, err, len(s.states))
				}
				s.a.exec("PRAGMA journal_mode=WAL")
				s.insert(2)
				s.resume(exact)
			})
		}
	}
}

// A database that was restored to an earlier commit is no longer at the replica's
// head. Where the local state tells that it is the same, that is a resync; where
// nothing does, the user is asked.
func TestAdoptionOfEarlier(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{true, false} {
		s := newScene(t, cleanly)
		s.a.close()
		remove(t, s.a.path)
		_, err := restore.Run(t.Context(), restore.Options{Bucket: s.b, Output: s.a.path, Target: restore.Target{TXID: state.TXID(2)}, Logger: discard()})
		if err != nil {
			t.Fatal(err)
		}
		s.a.open()
		if !keep {
			s.opts.StateDir = ""
		}
		if refused := s.catchUp(resync); refused == keep {
			t.Errorf("refused is %t with local state %t", refused, keep)
		}
		if _, err := os.Stat(local.DefaultPath(s.a.path)); (err == nil) == keep {
			t.Errorf("the state directory: %v", err)
		}
	}
}
