package replica_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/disk/disktest"
	"tidemark/replica/retain"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// told is a bucket that tells when a segment was put.
type told struct {
	storage.Bucket
	segments chan struct{}
}

func (b *told) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	err := b.Bucket.Put(ctx, key, body, opts)
	if err == nil && strings.HasPrefix(key, "log/") {
		b.segments <- struct{}{}
	}
	return err
}

// TestHourOfRequests counts requests for an hour of a commit every few seconds,
// after a start, and while nothing happens.
func TestHourOfRequests(t *testing.T) {
	t.Parallel()
	const commits = 450
	w, c, b := newWriter(newApp(t)), newClock(), mem.New()
	counter := storage.Count(b)
	opts := replica.Options{Path: w.path, Bucket: counter, Now: c.Now, StateDir: filepath.Join(t.TempDir(), "state")}
	launch(t, opts).stop()
	before := counter.Requests()
	bucket := &told{counter, make(chan struct{}, commits)}
	opts.Bucket = bucket
	e := launch(t, opts)
	if got := counter.Requests().Sub(before).List; got != 1 {
		t.Errorf("a start takes %d LISTs", got)
	}
	before = counter.Requests()
	for range commits {
		w.insert(1)
		<-bucket.segments
		c.pass(time.Hour / commits)
	}
	waitFor(t, func() bool { return packsIn(t, b) > 5 })
	e.stop()
	got := counter.Requests().Sub(before)
	packs := int64(packsIn(t, b)) // nothing has covered a pack yet that was deleted
	t.Logf("%+v, %d packs", got, packs)
	if got.Put != commits+packs || got.List != 0 || got.Get > packs || got.Delete > commits {
		t.Errorf("requests in an hour of %d commits: %+v, and there are %d packs", commits, got, packs)
	}

	before = counter.Requests()
	e = launch(t, opts)
	start := counter.Requests().Sub(before)
	before = counter.Requests()
	c.pass(100 * time.Hour)
	<-time.After(200 * time.Millisecond)
	if got := counter.Requests().Sub(before); got != (storage.Requests{}) {
		t.Errorf("requests while nothing is committed: %+v", got)
	}
	e.stop()
	if start.List != 1 || start.Get+start.Put > 6 {
		t.Errorf("requests of a start: %+v", start)
	}
	if a, err := archive.Open(t.Context(), b); err != nil || len(a.Listing().Segments) > 140 {
		t.Errorf("%d objects in the log, error %v", len(a.Listing().Segments), err)
	}
	if got := restored(t, b, state.TXID(commits+1)); got != w.digest() {
		t.Error("the newest commit is restored wrong")
	}
}

func packsIn(t *testing.T, b storage.Bucket) (n int) {
	t.Helper()
	for _, key := range objects(t, b) {
		if strings.HasPrefix(key, "pack/") {
			n++
		}
	}
	return n
}

// TestRetention replicates for two days, and keeps what the policy says.
func TestRetention(t *testing.T) {
	t.Parallel()
	w, c, b := newWriter(newApp(t)), newClock(), mem.New()
	opts := replica.Options{
		Path: w.path, Bucket: b, Now: c.Now, StateDir: filepath.Join(t.TempDir(), "state"), SnapshotInterval: time.Hour,
		Retain: true, Retention: retain.Policy{History: 6 * time.Hour, Hourly: 12 * time.Hour, Daily: 100 * time.Hour, Grace: time.Hour},
	}.Packed(upkeep.Packing{Newest: 4, Most: 8, Share: 8})
	e := launch(t, opts)
	for hour := range 48 {
		for range 3 {
			c.pass(20 * time.Minute)
			w.write()
			shipped(t, b, w.last())
		}
		waitFor(t, func() bool { return newestSnapshot(t, b) > w.last()-3 })
		if hour%12 == 11 {
			e.stop()
			e = launch(t, opts)
		}
	}
	c.pass(20 * time.Minute)
	w.write()
	shipped(t, b, w.last())
	e.stop()
	_, err := replica.Once(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	l := a.Listing()
	t.Logf("%d segments and packs, %d covered, %d snapshots", len(l.Segments), len(l.Covered), len(l.Snapshots))
	if len(l.Segments) > 25 || len(l.Snapshots) > 25 || l.Segments[0].First < 10 {
		t.Errorf("the log is %v, snapshots %v", l.Segments, l.Snapshots)
	}
	for id := w.last() - 3*6; id <= w.last(); id++ {
		if got := restored(t, b, id); got != w.want[id] {
			t.Errorf("TXID %v is restored wrong", id)
		}
	}
}

// newestSnapshot is the commit of the archive's newest snapshot.
func newestSnapshot(t *testing.T, b storage.Bucket) state.TXID {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	l := a.Listing().Snapshots
	return l[len(l)-1].TXID
}

// slowPuts is a bucket that takes its time for each object whose key begins so.
type slowPuts struct {
	storage.Bucket
	prefix string
	takes  time.Duration
}

func (s slowPuts) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if strings.HasPrefix(key, s.prefix) {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return s.Bucket.Put(ctx, key, body, opts)
}

// TestOncePacks packs in runs that ship what there is and end.
func TestOncePacks(t *testing.T) {
	t.Parallel()
	w, b := newWriter(newApp(t)), mem.New()
	opts := replica.Options{Path: w.path, Bucket: slowPuts{b, "pack/", 50 * time.Millisecond}, StateDir: filepath.Join(t.TempDir(), "state")}.
		Packed(upkeep.Packing{Newest: 2, Most: 4, Share: 1})
	for range 9 {
		if _, err := replica.Once(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		w.write()
	}
	if packsIn(t, b) == 0 {
		t.Errorf("nothing is packed: %q", objects(t, b))
	}
	names, err := os.ReadDir(filepath.Join(opts.StateDir, "cache"))
	if err != nil || len(names) == 0 {
		t.Errorf("no local copies are kept: %v", err)
	}
	if _, err := replica.Once(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	w.verify(b)
}

// TestFullDisk gives up the local copies of segments when the disk is full.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w, b := newWriter(newApp(t)), mem.New()
	state := filepath.Join(t.TempDir(), "state")
	cached := func() int {
		names, err := os.ReadDir(filepath.Join(state, "cache"))
		if err != nil {
			return 0
		}
		return len(names)
	}
	var full atomic.Bool
	d := disktest.New(func(_ int, op string) disktest.Verdict {
		if full.Load() && strings.HasPrefix(op, "write ") {
			return disktest.Verdict{Err: syscall.ENOSPC}
		}
		return disktest.Verdict{}
	})
	e := launch(t, replica.Options{Path: w.path, Bucket: b, StateDir: state}.On(d))
	w.write()
	w.write()
	waitFor(t, func() bool { return cached() > 0 })
	full.Store(true)
	w.write()
	waitFor(t, func() bool { return cached() == 0 })
	full.Store(false)
	shipped(t, b, w.last())
	e.stop()
	w.verify(b)
}
