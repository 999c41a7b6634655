package current_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"tidemark/replica"
	"tidemark/replica/current"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a database with an application, and maybe a replicator.
type world struct {
	t      *testing.T
	path   string
	bucket storage.Bucket
	db     *sql.DB
	stop   func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "app.db"), bucket: mem.New()}
	w.open()
	w.exec("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)")
	t.Cleanup(func() {
		w.halt()
		w.close()
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(20000)")
	if err != nil {
		w.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	w.db = db
}

func (w *world) close() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) exec(q string) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), q); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) insert(n int) {
	w.t.Helper()
	for range n {
		w.exec("INSERT INTO t(b) VALUES(randomblob(100))")
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (w *world) options() replica.Options {
	return replica.Options{Path: w.path, Bucket: w.bucket, Name: "mem", SyncInterval: 10 * time.Millisecond, CheckpointPages: 100, Logger: discard()}
}

// replicate starts a replicator and waits until it follows.
func (w *world) replicate() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	opts, ready := w.options(), make(chan struct{})
	opts.Ready = func() { close(ready) }
	done := make(chan error, 1)
	go func() {
		_, err := replica.Run(ctx, opts)
		done <- err
	}()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Log(err)
		}
	}
	select {
	case <-ready:
	case err := <-done:
		w.stop = nil
		w.t.Fatal(err)
	}
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *world) find(ctx context.Context, bucket storage.Bucket) (current.Commit, error) {
	return current.Find(ctx, current.Options{Path: w.path, Bucket: bucket, Logger: discard()})
}

// found finds the commit that is current, which must have at least n rows.
func (w *world) found(n int) current.Commit {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	c, err := w.find(ctx, w.bucket)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := w.rowsAt(c.TXID); got < n {
		w.t.Errorf("TXID %v has %d rows, and %d had been committed", c.TXID, got, n)
	}
	return c
}

// rowsAt counts the rows in a restored commit.
func (w *world) rowsAt(id state.TXID) (n int) {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "restored.db")
	_, err := restore.Run(w.t.Context(), restore.Options{Bucket: w.bucket, Output: out, Target: restore.Target{TXID: id}, Logger: discard()})
	if err != nil {
		w.t.Fatalf("TXID %v: %v", id, err)
	}
	db, err := sql.Open("sqlite", "file:"+out+"?immutable=1")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	if err := db.QueryRowContext(w.t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.insert(3)
	w.replicate()
	first := w.found(3)
	w.insert(5)
	second := w.found(8)
	if second.TXID != first.TXID+5 || second.Time.Before(first.Time) || time.Since(second.Time) > time.Hour || second.Archive == nil {
		t.Errorf("%+v, then %+v", first, second)
	}
	if again := w.found(8); again.TXID != second.TXID {
		t.Errorf("at rest it is %v, then %v", second.TXID, again.TXID)
	}
}

// Whatever the WAL does meanwhile, nothing is missing that had been committed.
func TestFindUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.replicate()
	var committed atomic.Int64
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := w.db.Exec("INSERT INTO t(b) VALUES(randomblob(2000))"); err != nil {
				t.Error(err)
				return
			}
			committed.Add(1)
			if i%97 == 0 {
				mode := []string{"TRUNCATE", "RESTART", "FULL", "PASSIVE"}[i/97%4]
				if _, err := w.db.Exec("PRAGMA wal_checkpoint(" + mode + ")"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 25 {
		w.found(int(committed.Load()))
	}
	close(stop)
	writer.Wait()
	w.found(int(committed.Load()))
}

// After a checkpoint that leaves no WAL, the file itself proves it.
func TestFindWithoutWAL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.close() // deletes the WAL
	w.replicate()
	w.found(0)
	w.open()
	w.insert(7)
	w.found(7)
	w.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	w.found(7)
	w.insert(2)
	w.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	w.found(9)
	w.halt()
	w.found(9)
	w.close() // the last one deletes the WAL
	w.found(9)
	w.open()
	w.exec("UPDATE t SET b = 'changed' WHERE n = 1")
	w.close()
	if c, err := w.find(t.Context(), w.bucket); !errors.Is(err, current.ErrBehind) {
		t.Errorf("what is in the file only, after TXID %v: %v", c.TXID, err)
	}
	w.open()
}

// Without a replicator all must be there.
func TestFindStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if c, err := w.find(t.Context(), w.bucket); !errors.Is(err, current.ErrBehind) || !strings.Contains(err.Error(), "nobody replicates") {
		t.Errorf("before the first run: %+v, %v", c, err)
	}
	w.insert(3)
	if _, err := replica.Once(t.Context(), w.options()); err != nil {
		t.Fatal(err)
	}
	at := w.found(3)
	w.insert(1)
	if c, err := w.find(t.Context(), w.bucket); !errors.Is(err, current.ErrBehind) || !strings.Contains(err.Error(), fmt.Sprintf("after TXID %v", at.TXID)) {
		t.Errorf("with a commit more: %+v, %v", c, err)
	}
	if _, err := w.find(t.Context(), mem.New()); !errors.Is(err, current.ErrBehind) {
		t.Errorf("the storage is asked in vain: %v", err)
	}
	if _, err := current.Find(t.Context(), current.Options{Path: w.path + "x", Bucket: w.bucket, Logger: discard()}); err == nil {
		t.Error("a database that is not there is no error")
	}
}

// gate is a bucket whose uploads wait.
type gate struct {
	storage.Bucket
	mu     sync.Mutex
	closed chan struct{} // nil: open; guarded by mu
}

func (g *gate) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		select {
		case <-closed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g.Bucket.Put(ctx, key, body, opts)
}

func (g *gate) set(closed chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
}

// It waits for uploads, and says so.
func TestFindWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := &gate{Bucket: w.bucket}
	w.bucket = g
	w.insert(1)
	w.replicate()
	at := w.found(1)
	closed := make(chan struct{})
	g.set(closed)
	w.insert(1)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := w.find(ctx, w.bucket)
	if !errors.Is(err, current.ErrBehind) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "TXID") {
		t.Errorf("got %v", err)
	}
	var log bytes.Buffer
	var mu sync.Mutex
	told := make(chan struct{})
	logger := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if log.Len() == 0 {
			close(told)
		}
		return log.Write(b)
	}), nil))
	done := make(chan error, 1)
	var c current.Commit
	go func() {
		var err error
		c, err = current.Find(t.Context(), current.Options{Path: w.path, Bucket: w.bucket, Logger: logger})
		done <- err
	}()
	<-told
	g.set(nil)
	close(closed)
	if err := <-done; err != nil || c.TXID != at.TXID+1 {
		t.Errorf("%+v, %v; before it was %v", c, err, at.TXID)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := fmt.Sprintf("waiting: TXID %v has not been uploaded", at.TXID+1); !strings.Contains(log.String(), want) {
		t.Errorf("it says %s, want %s", &log, want)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Another replica is not taken for this one.
func TestFindElsewhere(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	w.insert(1)
	for _, x := range []*world{w, other} {
		if _, err := replica.Once(t.Context(), x.options()); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := w.find(t.Context(), other.bucket); !errors.Is(err, current.ErrOther) {
		t.Errorf("%+v, %v", c, err)
	}
}
