package replica_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/storage/mem"
)

// heldBack gives options under which a database is read so slowly that it never ends, but
// for the first piece.
func heldBack(t *testing.T, a *app, b *mem.Bucket) replica.Options {
	t.Helper()
	p := replica.NewProcess()
	p.SetSnapshotRate(1)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return replica.Options{
		Path: a.path, Bucket: b, StateDir: filepath.Join(t.TempDir(), "state"), Process: p,
		SyncInterval: time.Millisecond, CheckpointPages: 20,
	}.On(nil)
}

func newLargeApp(t *testing.T) *app {
	t.Helper()
	a := newApp(t, "PRAGMA wal_autocheckpoint=0")
	a.exec("CREATE TABLE large(v)")
	a.exec("INSERT INTO large VALUES(randomblob(600000))")
	a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return a
}

// handedOff commits until the WAL has restarted so many times, and wants it to stay short.
func (a *app) handedOff(times int) {
	a.t.Helper()
	longest, was := 0, header(a.t, a.path+"-wal").Salts
	for range times {
		waitFor(a.t, func() bool {
			a.insert(1)
			longest = max(longest, framesOf(a.t, a.path))
			return header(a.t, a.path+"-wal").Salts != was
		})
		was = header(a.t, a.path+"-wal").Salts
	}
	if longest > 5000 { // on a machine that is busy the writer runs ahead
		a.t.Errorf("the WAL had %d frames", longest)
	}
}

// The first copy of a database may take for ever: its WAL is handed off all the same.
func TestSlowFirstCopy(t *testing.T) {
	t.Parallel()
	a, b := newLargeApp(t), mem.New()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := replica.Run(ctx, heldBack(t, a, b)); done <- err }()
	a.insert(1)
	a.handedOff(3)
	stop()
	if err := <-done; !errors.Is(err, replica.ErrUnfinished) {
		t.Errorf("it was not under way to the end: %v", err)
	}
}

// While a later snapshot is held back, commits are shipped and the WAL is handed off;
// while all pages are compared, only until somebody would have to wait.
func TestSlowSnapshots(t *testing.T) {
	t.Parallel()
	a, b := newLargeApp(t), mem.New()
	opts := heldBack(t, a, b)
	if _, err := replica.Once(t.Context(), replica.Options{Path: a.path, Bucket: b, StateDir: opts.StateDir}); err != nil {
		t.Fatal(err)
	}
	opts.StateDir, opts.Takeover = filepath.Join(t.TempDir(), "lost"), true
	ctx, stop := context.WithCancel(t.Context())
	opts.SnapshotInterval = time.Nanosecond
	done := make(chan error, 1)
	a.exec("UPDATE large SET v = randomblob(600000)")
	go func() { _, err := replica.Run(ctx, opts); done <- err }()
	waitFor(t, func() bool { a.insert(1); return last(t, b) >= 2 }) // the comparison is complete
	a.handedOff(5)
	a.insert(1)
	now, want := last(t, b), a.digest()
	shipped(t, b, now+1)
	if all := snapshotsOf(t, b); len(all) != 1 {
		t.Errorf("%v were not held back", all)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if restored(t, b, 0) != want {
		t.Error("the newest state differs")
	}
}
