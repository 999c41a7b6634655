package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/upkeep"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)} }

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// gate is a bucket that holds back the Puts of segments while it is closed.
type gate struct {
	storage.Bucket
	mu      sync.Mutex
	hold    chan struct{}
	waiting chan struct{}
	// denies lets no Delete pass.
	denies bool
}

func (g *gate) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold != nil && strings.HasPrefix(key, "log/") {
		g.waiting <- struct{}{}
		<-hold
	}
	return g.Bucket.Put(ctx, key, body, opts)
}

func (g *gate) Delete(ctx context.Context, key string) error {
	if g.denies {
		return fmt.Errorf("delete %s: %w", key, storage.ErrDenied)
	}
	return g.Bucket.Delete(ctx, key)
}

// sleepers are two replicators of one database that was copied with its local
// state. One of them sleeps.
type sleepers struct {
	t             *testing.T
	bucket        *mem.Bucket
	gate          *gate
	clocks        [2]*clock
	sleeps, wakes *writer
	asleep, awake *engine
	// open opens the gate.
	open func()
}

// newSleepers starts both. What the one that sleeps puts waits for hold, if that is
// not nil.
func newSleepers(t *testing.T, hold chan struct{}) *sleepers {
	t.Helper()
	s := &sleepers{t: t, bucket: mem.New(), clocks: [2]*clock{newClock(), newClock()}}
	s.gate = &gate{Bucket: s.bucket, hold: hold, waiting: make(chan struct{}, 1)}
	if hold != nil {
		s.open = sync.OnceFunc(func() { close(hold) })
		defer t.Cleanup(s.open) // before the engines end
	}
	a := newApp(t)
	opts := replica.Options{
		Path: a.path, Bucket: s.bucket, StateDir: filepath.Join(t.TempDir(), "one"), Now: s.clocks[0].Now,
	}.Packed(upkeep.Packing{Newest: 2, Most: 4, Share: 1})
	launch(t, opts).stop()
	a.close()
	image, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	b := &app{t: t, path: filepath.Join(t.TempDir(), "app.db")}
	write(t, b.path, image)
	other := opts
	other.Path, other.StateDir, other.Now = b.path, filepath.Join(t.TempDir(), "two"), s.clocks[1].Now
	copyState(t, opts.StateDir, other.StateDir)
	a.open()
	b.open()
	opts.Bucket, opts.Writer = s.gate, "sleeper"
	s.sleeps, s.wakes = newWriter(a), newWriter(b)
	s.asleep, s.awake = launch(t, opts), launch(t, other)
	return s
}

// moveOn lets the one that is awake write, pack, and delete what was packed.
func (s *sleepers) moveOn() {
	s.t.Helper()
	for range 10 {
		s.wakes.write()
		shipped(s.t, s.bucket, s.wakes.last())
	}
	s.clocks[1].pass(upkeep.Hold)
	s.wakes.write()
	waitFor(s.t, func() bool { return !slices.Contains(objects(s.t, s.bucket), archive.SegmentKey(2)) })
}

func objects(t *testing.T, b storage.Bucket) (keys []string) {
	t.Helper()
	err := b.List(t.Context(), "", "", func(o storage.Info) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestFenceAfterSleep wakes a writer when what it is about to put has been put by
// another one, packed, and deleted.
func TestFenceAfterSleep(t *testing.T) {
	t.Parallel()
	s := newSleepers(t, nil)
	s.moveOn()
	s.clocks[0].pass(upkeep.Hold)
	s.sleeps.write()
	if err := s.asleep.ended(); !errors.Is(err, replica.ErrFenced) {
		t.Errorf("the writer that slept ended with %v, want ErrFenced", err)
	}
	if slices.Contains(objects(t, s.bucket), archive.SegmentKey(2)) {
		t.Error("it has put its segment")
	}
	s.goesOn()
}

// TestFenceAfterSleepInPut does so when it sleeps in a PUT: that succeeds, since the
// key is free again.
func TestFenceAfterSleepInPut(t *testing.T) {
	t.Parallel()
	for _, denied := range []bool{false, true} {
		s := newSleepers(t, make(chan struct{}))
		s.gate.denies = denied
		s.sleeps.write()
		<-s.gate.waiting
		s.moveOn()
		s.clocks[0].pass(upkeep.Hold)
		s.open()
		if err := s.asleep.ended(); !errors.Is(err, replica.ErrFenced) {
			t.Errorf("the writer that slept ended with %v, want ErrFenced", err)
		}
		if there := slices.Contains(objects(t, s.bucket), archive.SegmentKey(2)); there != denied {
			t.Errorf("its segment is there: %v, want %v", there, denied)
		}
		s.goesOn()
	}
}

// goesOn checks the history of the one that is awake.
func (s *sleepers) goesOn() {
	s.t.Helper()
	s.wakes.write()
	shipped(s.t, s.bucket, s.wakes.last())
	s.awake.stop()
	s.wakes.verify(s.bucket)
}

// TestFenceLists lists the log's end after half an hour without a PUT, and only
// then.
func TestFenceLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		idle  time.Duration
		lists int64
	}{{time.Second, 0}, {upkeep.Hold / 2, 0}, {upkeep.Hold/2 + time.Second, 1}} {
		w, c, b := newWriter(newApp(t)), newClock(), mem.New()
		counter := storage.Count(b)
		e := launch(t, replica.Options{Path: w.path, Bucket: counter, Now: c.Now})
		w.write()
		shipped(t, b, w.last())
		w.write()
		shipped(t, b, w.last())
		before := counter.Requests()
		c.pass(tt.idle)
		w.write()
		shipped(t, b, w.last())
		if got, want := counter.Requests().Sub(before), (storage.Requests{Put: 1, List: tt.lists}); got != want {
			t.Errorf("after %v: requests %+v, want %+v", tt.idle, got, want)
		}
		e.stop()
	}
}
