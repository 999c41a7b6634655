package verify_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/verify"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// live is a database with an application, and maybe a replicator.
type live struct {
	t      *testing.T
	path   string
	bucket *mem.Bucket
	// shipTo is what a replicator sees of bucket.
	shipTo storage.Bucket
	db     *sql.DB
	stop   func()
}

func newLive(t *testing.T) *live {
	t.Helper()
	w := &live{t: t, path: filepath.Join(t.TempDir(), "app.db"), bucket: mem.New()}
	w.shipTo = w.bucket
	w.open()
	w.exec("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)", "CREATE TABLE quiet(x)", "INSERT INTO quiet SELECT randomblob(2000)")
	w.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	t.Cleanup(func() {
		w.halt()
		w.close()
	})
	return w
}

func (w *live) open() {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(20000)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		w.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	w.db = db
}

func (w *live) close() {
	if w.db != nil {
		if err := w.db.Close(); err != nil {
			w.t.Error(err)
		}
		w.db = nil
	}
}

func (w *live) exec(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		if _, err := w.db.ExecContext(w.t.Context(), s); err != nil {
			w.t.Fatal(err)
		}
	}
}

const insert = "INSERT INTO t(b) VALUES(randomblob(300))"

// replicate starts a replicator and waits until it follows.
func (w *live) replicate() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	opts := replica.Options{
		Path: w.path, Bucket: w.shipTo, Name: "mem", SyncInterval: 10 * time.Millisecond, CheckpointPages: 1 << 20,
		Logger: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
	}
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

func (w *live) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// against compares.
func (w *live) against() *verify.Report {
	w.t.Helper()
	opts := options(w.t, w.bucket, verify.List)
	opts.Against = &verify.Live{Path: w.path, Timeout: time.Minute}
	return run(w.t, opts)
}

// files are the contents of the folder that the database is in.
func (w *live) files() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(filepath.Dir(w.path), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "-shm") {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// A database at rest beside a replicator is found equal, and is left as it is.
func TestAgainstEqual(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.exec(insert, insert)
	r := w.against()
	if a := r.Against; !a.Known || !a.Equal || a.TXID != 3 || a.Time.IsZero() || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", a, r.Findings)
	}
	w.halt()
	before := w.files()
	if a := w.against().Against; !a.Known || !a.Equal || a.TXID != 3 {
		t.Errorf("without a replicator: %+v", a)
	}
	if after := w.files(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the files have changed")
	}
	w.close()
	before = w.files()
	if a := w.against().Against; !a.Known || !a.Equal {
		t.Errorf("closed: %+v", a)
	}
	if after := w.files(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the files have changed: %d are %d", len(before), len(after))
	}
}

// A database whose application has crashed is read with its WAL, and left as it is.
func TestAgainstCrashed(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.exec(insert)
	w.halt()
	crashed := filepath.Join(t.TempDir(), "app.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(w.path + suffix)
		if err == nil {
			err = os.WriteFile(crashed+suffix, b, 0o600)
		}
		if err != nil || len(b) == 0 {
			t.Fatal(err)
		}
	}
	c := &live{t: t, path: crashed, bucket: w.bucket}
	before := c.files()
	if a := c.against().Against; !a.Known || !a.Equal || a.TXID != 2 {
		t.Errorf("%+v", a)
	}
	if after := c.files(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the files have changed")
	}
}

// A database that is written to all the time is compared at one commit, and its
// writer waits for nothing.
func TestAgainstBusy(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			_, err = w.db.ExecContext(context.WithoutCancel(ctx), insert)
		}
		done <- err
	}()
	for range 3 {
		r := w.against()
		if a := r.Against; !a.Known || !a.Equal || len(r.Findings) > 0 {
			t.Errorf("%+v, %v", a, r.Findings)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A page that was changed without SQLite is named, with its table.
func TestAgainstDiffers(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.exec(insert)
	w.halt() // the WAL stays as it is, since the application has it open
	b, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	var root int
	if err := w.db.QueryRowContext(t.Context(), "SELECT rootpage FROM sqlite_schema WHERE name='quiet'").Scan(&root); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	offset := (root-1)*4096 + 4000
	if _, err := f.WriteAt([]byte{b[offset] ^ 1}, int64(offset)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r := w.against()
	a := r.Against
	if !a.Known || a.Equal || a.TXID != 2 || a.Differ != 1 || !slices.Equal(a.Pages, []uint32{uint32(root)}) || !slices.Equal(a.Tables, []string{"quiet"}) {
		t.Errorf("%+v", a)
	}
	if _, bad := r.Errors(); !bad || !strings.Contains(r.Findings[0].Problem, "tables quiet") {
		t.Errorf("%v", r.Findings)
	}
}

// What nobody has shipped can't be told from what is wrong.
func TestAgainstUnknown(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.halt()
	w.exec(insert)
	r := w.against()
	if a := r.Against; a.Known || a.Equal || !strings.Contains(a.Why, "can't be told") || !strings.Contains(a.Why, "nobody replicates") || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", a, r.Findings)
	}
}

// A database that is not in WAL mode is not read: its writers would wait.
func TestAgainstJournal(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.halt()
	w.exec("PRAGMA journal_mode=DELETE")
	opts := options(t, w.bucket, verify.List)
	opts.Against = &verify.Live{Path: w.path, Timeout: time.Minute}
	if _, err := verify.Run(t.Context(), opts); !errors.Is(err, verify.ErrNotWAL) {
		t.Errorf("error %v", err)
	}
	opts.Against.Path += "-not"
	if _, err := verify.Run(t.Context(), opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// lag holds the replica to a limit.
func (w *live) lag(limit time.Duration) *verify.Report {
	w.t.Helper()
	opts := options(w.t, w.bucket, verify.List)
	opts.MaxLag = &verify.Limit{Path: w.path, MaxLag: limit, Timeout: time.Minute}
	return run(w.t, opts)
}

// A database at rest is not behind, however old its newest commit is; one of which
// something is not shipped is, and nothing is bad about the data.
func TestLag(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.exec(insert)
	if r := w.lag(time.Minute); !r.Lag.OK || !r.Lag.Shipped || r.Lag.TXID != 2 || r.Lag.Time.IsZero() || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r.Lag, r.Findings)
	}
	w.halt()
	if r := w.lag(0); !r.Lag.OK {
		t.Errorf("all is shipped, and nobody replicates: %+v", r.Lag)
	}
	w.exec(insert)
	r := w.lag(time.Millisecond)
	if n, bad := r.Errors(); r.Lag.OK || n != 1 || bad || r.Lag.TXID != 2 || !strings.Contains(r.Lag.Why, "nobody replicates") {
		t.Errorf("%+v, %v", r.Lag, r.Findings)
	}
}

// A replicator that can't reach storage is waited for as long as is allowed, and no
// longer than the timeout: then what it tells of itself counts.
func TestLagOfReplicator(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	away := &away{Bucket: w.bucket}
	w.shipTo = away
	w.replicate()
	away.gone.Store(true)
	w.exec(insert)
	for limit, ok := range map[time.Duration]bool{time.Hour: true, time.Millisecond: false} {
		opts := options(t, w.bucket, verify.List)
		opts.MaxLag = &verify.Limit{Path: w.path, MaxLag: limit, Timeout: time.Second}
		r := run(t, opts)
		if r.Lag.OK != ok || r.Lag.Shipped || len(r.Findings) == 0 != ok || r.Lag.Behind <= 0 || r.Lag.TXID != 1 {
			t.Errorf("%s allowed: %+v, %v", limit, r.Lag, r.Findings)
		}
	}
	away.gone.Store(false)
}

// away is storage that refuses to take anything for a while.
type away struct {
	storage.Bucket
	gone atomic.Bool
}

func (a *away) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if a.gone.Load() {
		return storage.ErrUnreachable
	}
	return a.Bucket.Put(ctx, key, body, opts)
}

// The two ways to restore give the same bytes: that of package restore, and the one
// by which this package compares.
func TestAgainstRestored(t *testing.T) {
	t.Parallel()
	w := newLive(t)
	w.replicate()
	w.exec(insert, "DELETE FROM quiet", "VACUUM", insert)
	w.halt()
	w.close()
	content, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	if a := w.against().Against; !a.Equal {
		t.Errorf("%+v", a)
	}
	if now, err := os.ReadFile(w.path); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the database has changed (%v)", err)
	}
}
