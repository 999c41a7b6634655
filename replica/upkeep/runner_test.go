package upkeep_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"tidemark/replica/archive"
	"tidemark/replica/upkeep"
	"tidemark/storage"
)

// runs makes a world in a synctest bubble, whose clock is the bubble's, with a
// Runner for its Keeper.
func runs(t *testing.T, change func(*world)) (*world, *upkeep.Runner) {
	t.Helper()
	w := newWorld(t, func(w *world) {
		w.now = time.Now()
		w.opts.Now = time.Now
		if change != nil {
			change(w)
		}
	})
	return w, upkeep.Run(w.keeper)
}

// tells writes a segment of which the Runner is told.
func (w *world) tells(r *upkeep.Runner) {
	w.t.Helper()
	w.now = time.Now()
	w.tell = r.Put
	w.write(1)
}

// TestRunner packs at once, deletes an hour later, and then rests.
func TestRunner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, r := runs(t, nil)
		defer r.Stop()
		for range 7 {
			w.tells(r)
		}
		synctest.Wait()
		if n := len(w.keys("pack/")); n != 1 {
			t.Errorf("%d packs", n)
		}
		<-time.After(upkeep.Hold - time.Second)
		synctest.Wait()
		if n := len(w.open().Listing().Covered); n != 5 {
			t.Errorf("%d covered objects are left before the hour is over", n)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if n := len(w.open().Listing().Covered); n != 0 {
			t.Errorf("%d covered objects are left after the hour", n)
		}
		if got := w.requests(func() { <-time.After(1000 * time.Hour) }); got != (storage.Requests{}) {
			t.Errorf("requests while nothing is put: %+v", got)
		}
		w.restores(w.all(1)...)
	})
}

// TestRunnerStops is stopped while it joins, and while it waits for its turn.
func TestRunnerStops(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			turn := semaphore.NewWeighted(1)
			w, r := runs(t, func(w *world) {
				w.opts.Turn = turn
				w.seen = stuck{w.counter}
			})
			if waits && turn.Acquire(t.Context(), 1) != nil {
				t.Fatal("no turn")
			}
			for range 7 {
				w.tells(r)
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			r.Finish(ctx)
			if took := time.Since(began); took != time.Minute {
				t.Errorf("gave up after %v", took)
			}
			w.tells(r)
			synctest.Wait()
			if n := len(w.keys("pack/")); n != 0 {
				t.Errorf("%d packs", n)
			}
		})
	}
}

// stuck is a bucket whose Put ends with its context only.
type stuck struct{ storage.Bucket }

func (s stuck) Put(ctx context.Context, key string, _ io.Reader, _ storage.PutOptions) error {
	<-ctx.Done()
	return fmt.Errorf("put %s: %w", key, context.Cause(ctx))
}

// TestRunnerFinishes waits for what is due.
func TestRunnerFinishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, r := runs(t, func(w *world) { w.seen = &slow{Bucket: w.counter} })
		for range 7 {
			w.tells(r)
		}
		r.Finish(t.Context())
		if n := len(w.keys("pack/")); n != 1 {
			t.Errorf("%d packs", n)
		}
	})
}

// slow is a bucket whose Put takes a while. It knows how many there are at a time.
type slow struct {
	storage.Bucket
	now *inFlight
}

type inFlight struct {
	mu        sync.Mutex
	now, most int
}

func (f *inFlight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now += n
	f.most = max(f.most, f.now)
}

func (s *slow) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if s.now != nil {
		s.now.add(1)
		defer s.now.add(-1)
	}
	<-time.After(time.Second)
	return s.Bucket.Put(ctx, key, body, opts)
}

// TestTurns lets no more than so many work at a time, and all in the end.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn, flight := semaphore.NewWeighted(2), &inFlight{}
		var worlds []*world
		for range 8 {
			w, r := runs(t, func(w *world) {
				w.opts.Turn = turn
				w.seen = &slow{Bucket: w.counter, now: flight}
			})
			for range 7 {
				w.tells(r)
			}
			worlds = append(worlds, w)
			defer r.Stop()
		}
		<-time.After(time.Minute)
		synctest.Wait()
		for i, w := range worlds {
			if n := len(w.keys("pack/")); n != 1 {
				t.Errorf("world %d: %d packs", i, n)
			}
		}
		if flight.most != 2 {
			t.Errorf("%d worked at a time, want 2", flight.most)
		}
	})
}

// TestRunnerTells is told beside the work, from many sides.
func TestRunnerTells(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, r := runs(t, func(w *world) {
			retaining(w)
			w.seen = &slow{Bucket: w.counter}
		})
		for range 60 {
			w.tells(r)
			<-time.After(300 * time.Millisecond)
		}
		r.PutSnapshot(archive.Snapshot{TXID: 1, Size: w.open().Listing().Snapshots[0].Size}, w.now)
		r.FreeDisk()
		r.Finish(t.Context())
		w.knows()
		if n := len(w.open().Listing().Segments); n > 30 {
			t.Errorf("%d objects in the log", n)
		}
		w.restores(1, 2, 30, w.last())
	})
}
