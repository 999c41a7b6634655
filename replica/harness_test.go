package replica_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// app is an application with one connection to a database of its own. It notes
// the digest of the content after each commit.
type app struct {
	t       *testing.T
	path    string
	db      *sql.DB
	commits int
}

func newApp(t *testing.T, pragmas ...string) *app {
	t.Helper()
	a := &app{t: t, path: filepath.Join(t.TempDir(), "app.db")}
	a.open()
	for _, p := range append(pragmas, "PRAGMA journal_mode=WAL") {
		a.exec(p)
	}
	a.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
	a.commits = 0
	return a
}

func (a *app) open() {
	a.t.Helper()
	db, err := sql.Open("sqlite", a.path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		a.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	a.db = db
	a.t.Cleanup(a.close)
}

func (a *app) close() {
	if err := a.db.Close(); err != nil {
		a.t.Error(err)
	}
}

func (a *app) exec(q string) {
	a.t.Helper()
	if _, err := a.db.ExecContext(a.t.Context(), q); err != nil {
		a.t.Fatalf("%s: %v", q, err)
	}
	a.commits++
}

// spills has the next transaction that writes more than some pages put them into
// the WAL before it ends. The page caches of a process share their memory, so that
// a small one can have all of its pages nevertheless: these are dropped.
func (a *app) spills() {
	a.t.Helper()
	a.exec("PRAGMA cache_size=8")
	a.exec("PRAGMA shrink_memory")
}

// attempt executes what tidemark's pin stands in the way of. That does not wait for long,
// but the commits after it do: for them a hand-off's lock is no reason to fail.
func (a *app) attempt(q string) error {
	a.t.Helper()
	a.exec("PRAGMA busy_timeout=20")
	_, err := a.db.ExecContext(a.t.Context(), q)
	a.exec("PRAGMA busy_timeout=10000")
	return err
}

// insert makes n commits.
func (a *app) insert(n int) {
	a.t.Helper()
	for range n {
		a.exec("INSERT INTO t(v) VALUES(randomblob(500))")
	}
}

func (a *app) digest() string { a.t.Helper(); return digest(a.t, a.db) }

// digest sums up the content of the table t.
func digest(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id, hex(v) FROM t ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // only read
	h := sha256.New()
	for rows.Next() {
		var id int64
		var v string
		if err := rows.Scan(&id, &v); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintln(h, id, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// engine is a running replication.
type engine struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan error
	rep    replica.Report
}

// launch starts replication and waits until the database is pinned.
func launch(t *testing.T, opts replica.Options) *engine {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e := &engine{t: t, cancel: cancel, done: make(chan error, 1)}
	ready := make(chan struct{})
	opts.Ready = sync.OnceFunc(func() { close(ready) })
	go func() {
		var err error
		e.rep, err = replica.Run(ctx, opts)
		e.done <- err
		close(e.done)
	}()
	t.Cleanup(func() { cancel(); <-e.done })
	select {
	case <-ready:
	case err := <-e.done:
		t.Fatal("replication ended: ", err)
	}
	return e
}

// stop ends it cleanly.
func (e *engine) stop() replica.Report {
	e.t.Helper()
	if err := e.end(); err != nil {
		e.t.Fatal("replication: ", err)
	}
	return e.rep
}

func (e *engine) end() error { e.cancel(); return <-e.done }

// shipped waits until the archive's newest commit is at least id.
func shipped(t *testing.T, b storage.Bucket, id state.TXID) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last(t, b) < id {
		if time.Now().After(deadline) {
			t.Fatalf("TXID %v is not in the archive, the last is %v", id, last(t, b))
		}
		<-tick.C
	}
}

// last is the archive's newest commit, 0 without one.
func last(t *testing.T, b storage.Bucket) state.TXID {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		return 0
	}
	h, err := a.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h.Last
}

// restored gives the digest of the database as restored at a commit.
func restored(t *testing.T, b storage.Bucket, id state.TXID) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "restored.db")
	_, err := restore.Run(t.Context(), restore.Options{
		Bucket: b, Output: out, Target: restore.Target{TXID: id}, Integrity: restore.Full, Logger: discard(),
	})
	if err != nil {
		t.Fatalf("restore TXID %v: %v", id, err)
	}
	db, err := sql.Open("sqlite", out)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	return digest(t, db)
}

// commitsOf lists the archive's commits, oldest first, and checks that their
// TXIDs have no gaps and their times never decrease.
func commitsOf(t *testing.T, b storage.Bucket) []archive.Commit {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var cs []archive.Commit
	err = a.Commits(t.Context(), archive.Query{}, func(c archive.Commit) error {
		cs = append([]archive.Commit{c}, cs...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cs {
		if c.TXID != state.TXID(i+1) {
			t.Fatalf("commit %d has TXID %v", i+1, c.TXID)
		}
		if i > 0 && c.Time.Before(cs[i-1].Time) {
			t.Fatalf("TXID %v is older than the one before it", c.TXID)
		}
	}
	return cs
}

// copyState copies a state directory as a crash would leave it. The remembered
// state goes first: what is in the spool may be ahead of it, never behind.
func copyState(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(to, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	copyFile := func(name string) {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"state.json", "shipped.json", "sums"} {
		copyFile(name)
	}
	spool, err := os.ReadDir(filepath.Join(from, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range spool {
		copyFile(filepath.Join("spool", e.Name()))
	}
}

// faulty fails every Put of a log object while it is down.
type faulty struct {
	*mem.Bucket
	mu   sync.Mutex
	down bool
	hold chan struct{} // if not nil, Puts of snapshots wait for it
}

var errDown = errors.New("storage is down")

func (f *faulty) set(down bool) { f.mu.Lock(); defer f.mu.Unlock(); f.down = down }

func (f *faulty) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down && strings.HasPrefix(key, "log/") {
		return errDown
	}
	if f.hold != nil && strings.HasPrefix(key, "snapshot/") {
		<-f.hold
	}
	return f.Bucket.Put(ctx, key, body, opts)
}
