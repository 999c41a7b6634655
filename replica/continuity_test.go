package replica_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
)

// row gives the one value of a query.
func row(t *testing.T, db *sql.DB, q string) (v string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), q).Scan(&v); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return v
}

// While tidemark is down, the database can come back to the last state byte for
// byte, and the WAL can hold the way there. Its commits must not be taken for ones
// that follow that state: they would give states that never were.
func TestStateComesBack(t *testing.T) {
	t.Parallel()
	a, b := newApp(t, "PRAGMA wal_autocheckpoint=0"), mem.New()
	for _, q := range []string{"CREATE TABLE p(v)", "CREATE TABLE x(v)", "CREATE TABLE o(v)", "INSERT INTO p VALUES('a')", "INSERT INTO x VALUES(0)", "INSERT INTO o VALUES(0)"} {
		a.exec(q)
	}
	reader, err := sql.Open("sqlite", a.path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close() //nolint:errcheck // only read
	tx, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Millisecond}
	launch(t, opts).stop()
	a.exec("UPDATE p SET v='b'")
	a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	a.exec("UPDATE x SET v=1")
	a.exec("UPDATE p SET v='a'")
	a.exec("UPDATE x SET v=0") // back again
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM p").Scan(&n); err != nil {
		t.Fatal(err) // keeps the WAL from restarting
	}
	a.exec("PRAGMA wal_checkpoint(PASSIVE)")
	a.exec("UPDATE o SET v=7")
	launch(t, opts).stop()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for _, c := range commitsOf(t, b) {
		out := filepath.Join(t.TempDir(), "r.db")
		if _, err := restore.Run(t.Context(), restore.Options{Bucket: b, Output: out, Target: restore.Target{TXID: c.TXID}, Logger: discard()}); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", out)
		if err != nil {
			t.Fatal(err)
		}
		got := row(t, db, "SELECT p.v || x.v || o.v FROM p, x, o")
		if want := map[bool]string{false: "a00", true: "a07"}[c.Resync]; got != want {
			t.Errorf("TXID %v (resync: %t) is %s, want %s", c.TXID, c.Resync, got, want)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A WAL that does not hold all that SQLite counts is damaged. What it holds and
// what the database file holds then don't make a state.
func TestDamagedWAL(t *testing.T) {
	t.Parallel()
	a, b := newApp(t, "PRAGMA wal_autocheckpoint=0"), mem.New()
	a.insert(5)
	at := header(t, a.path+"-wal").Offset(3) + wal.FrameHeaderSize + 200
	f, err := os.OpenFile(a.path+"-wal", os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0x77}, at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Once(t.Context(), replica.Options{Path: a.path, Bucket: b}); !errors.Is(err, replica.ErrDamaged) {
		t.Errorf("a frame is damaged: %v, want ErrDamaged", err)
	}
}

// Commits that a start has read from a WAL which then restarts survive that the
// process is killed before they are uploaded.
func TestKilledAfterResuming(t *testing.T) {
	t.Parallel()
	a, b := newApp(t, "PRAGMA wal_autocheckpoint=0"), mem.New()
	opts := replica.Options{Path: a.path, Bucket: b, StateDir: filepath.Join(t.TempDir(), "state"), SyncInterval: time.Millisecond}
	for range 2 {
		if _, err := replica.Once(t.Context(), opts); err != nil { // the second time without a hand-off
			t.Fatal(err)
		}
		a.insert(1)
	}
	before := clone(t, b, func(string) bool { return true })
	a.insert(9) // while tidemark is down
	a.exec("PRAGMA wal_checkpoint(PASSIVE)")
	opts.SyncInterval = time.Hour // stands for storage that does not answer
	e := launch(t, opts)
	a.insert(1) // restarts the WAL
	salt := fmt.Sprintf(`"salt1":%d,`, header(t, a.path+"-wal").Salts.Salt1)
	waitFor(t, func() bool { // until it has seen that
		b, err := os.ReadFile(filepath.Join(opts.StateDir, "state.json"))
		return err == nil && strings.Contains(string(b), salt)
	})
	crashed := filepath.Join(t.TempDir(), "crashed")
	copyState(t, opts.StateDir, crashed)
	opts.StateDir, opts.Bucket, opts.SyncInterval = crashed, before, time.Millisecond
	if _, err := replica.Once(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	e.end() //nolint:errcheck // shown elsewhere
	cs := commitsOf(t, before)
	for _, c := range cs {
		if c.Resync {
			t.Errorf("TXID %v is a resync", c.TXID)
		}
	}
	if len(cs) != 13 {
		t.Errorf("%d commits, want the first state and 12", len(cs))
	}
}

// header reads a WAL's header.
func header(t *testing.T, path string) wal.Header {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := wal.ReadHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// clone copies the objects of a bucket whose keys are wanted.
func clone(t *testing.T, b *mem.Bucket, want func(key string) bool) *mem.Bucket {
	t.Helper()
	c := mem.New()
	err := b.List(t.Context(), "", "", func(o storage.Info) error {
		if !want(o.Key) {
			return nil
		}
		r, err := b.Get(t.Context(), o.Key, 0, -1)
		if err != nil {
			return err
		}
		defer r.Close() //nolint:errcheck // only read
		return c.Put(t.Context(), o.Key, r, storage.PutOptions{Size: o.Size})
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A database that tidemark itself switches to WAL is followed like any other.
func TestSwitchedDatabase(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	a.exec("PRAGMA journal_mode=DELETE")
	e := launch(t, replica.Options{Path: a.path, Bucket: b, SyncInterval: 0, CheckpointPages: 10})
	want := []string{"", a.digest()}
	for range 40 {
		a.insert(1)
		want = append(want, a.digest())
	}
	shipped(t, b, 41)
	e.stop()
	for id := 1; id < len(want); id++ {
		if got := restored(t, b, state.TXID(id)); got != want[id] {
			t.Errorf("TXID %d: digest %s, want %s", id, got, want[id])
		}
	}
}
