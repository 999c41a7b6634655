package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/disk/disktest"
	"tidemark/replica/upkeep"
	"tidemark/storage"
)

// TestPacks writes segment after segment: the log stays short, every commit can be
// restored, and it takes a PUT for each pack and nothing else.
func TestPacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var got storage.Requests
	for range 40 {
		w.write(1 + w.rng.IntN(2))
		r := w.requests(w.work)
		got.Put += r.Put
		if r.Put = 0; r != (storage.Requests{}) {
			t.Fatalf("requests beside PUT: %+v", r)
		}
		if n := len(w.open().Listing().Segments); n > 2+4+4+1 {
			t.Fatalf("%d objects in the log", n)
		}
		w.pass(time.Second)
	}
	if n := int64(len(w.keys("pack/"))); got.Put != n || n < 4 {
		t.Errorf("%d PUTs for %d packs", got.Put, n)
	}
	w.restores(w.all(1)...)
}

// TestRestarts packs with a new Keeper after each segment, as with one that goes on.
func TestRestarts(t *testing.T) {
	t.Parallel()
	var keys [2][]string
	for i := range keys {
		w := newWorld(t, nil)
		for range 60 {
			w.write(1)
			w.work()
			if i > 0 {
				w.start()
				w.knows()
			}
		}
		keys[i] = append(w.keys("pack/"), w.keys("log/")...)
	}
	if diff := cmp.Diff(keys[0], keys[1]); diff != "" {
		t.Errorf("objects with restarts (-without +with):\n%s", diff)
	}
}

// TestWithoutCache reads back what is joined.
func TestWithoutCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.opts.Cache = upkeep.NewCache(disktest.New(nil), w.dir+"/cache", 0) })
	for range 6 {
		w.write(1)
	}
	if w.requests(w.work); len(w.keys("pack/")) != 0 {
		t.Fatal("packed too soon")
	}
	w.write(1)
	if got, want := w.requests(w.work), (storage.Requests{Get: 5, Put: 1}); got != want {
		t.Errorf("requests %+v, want %+v", got, want)
	}
	if names := files(t, w.dir); len(names) > 0 {
		t.Errorf("files %q", names)
	}
	w.restores(w.all(1)...)
}

// TestClear waits an hour before it deletes what was packed, and then has nothing
// to do for ever.
func TestClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	w.work()
	packed := w.now
	if next := w.keeper.Next(); !next.Equal(packed.Add(upkeep.Hold)) {
		t.Errorf("the next thing is to be done at %v, want an hour after %v", next, packed)
	}
	w.pass(upkeep.Hold - time.Second)
	if got := w.requests(w.work); got != (storage.Requests{}) {
		t.Errorf("requests before the hour is over: %+v", got)
	}
	w.pass(time.Second)
	if got, want := w.requests(w.work), (storage.Requests{Get: 1, Delete: 5}); got != want {
		t.Errorf("requests %+v, want %+v", got, want)
	}
	if n := len(w.keys("log/")); n != 2 {
		t.Errorf("%d segments are left, want the newest 2", n)
	}
	if next := w.keeper.Next(); !next.IsZero() {
		t.Errorf("there is something to do at %v", next)
	}
	w.restores(w.all(1)...)
}

// TestClearWaitsFromPacking counts the hour from when it was packed, not from when it
// was put.
func TestClearWaitsFromPacking(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 6 {
		w.write(1)
	}
	w.work()
	w.pass(2 * upkeep.Hold)
	w.write(1)
	w.work()
	w.pass(upkeep.Hold - time.Second)
	w.work()
	if n := len(w.open().Listing().Covered); n != 5 {
		t.Errorf("%d covered objects are left, want 5", n)
	}
	w.pass(time.Second)
	w.work()
	if n := len(w.open().Listing().Covered); n != 0 {
		t.Errorf("%d covered objects are left", n)
	}
}

// TestClearEach deletes what was packed at one time, and not yet what was packed
// later.
func TestClearEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	w.work()
	first := w.open().Listing().Covered
	w.pass(upkeep.Hold / 2)
	for range 5 {
		w.write(1)
		w.work()
	}
	later := len(w.open().Listing().Covered) - len(first)
	w.pass(upkeep.Hold / 2)
	w.work()
	if n := len(w.open().Listing().Covered); later == 0 || n != later {
		t.Errorf("%d covered objects are left, want the %d later ones", n, later)
	}
}

// TestClearAfterRestart waits another hour: nothing tells when it was packed.
func TestClearAfterRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	w.work()
	w.pass(upkeep.Hold - time.Second)
	w.start()
	w.pass(upkeep.Hold - time.Second)
	w.work()
	if n := len(w.open().Listing().Covered); n != 5 {
		t.Errorf("%d covered objects are left, want 5", n)
	}
	w.pass(time.Second)
	w.work()
	if n := len(w.open().Listing().Covered); n != 0 {
		t.Errorf("%d covered objects are left", n)
	}
}

// TestUnfitPack keeps what a pack covers that can't be read.
func TestUnfitPack(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)-1] },
		"damaged": func(b []byte) []byte { b[len(b)-30]++; return b },
		"replaced": func([]byte) []byte {
			return []byte("something else, and not short at all: it has more than enough bytes")
		},
	} {
		w := newWorld(t, nil)
		for range 7 {
			w.write(1)
		}
		w.work()
		key := w.keys("pack/")[0]
		w.overwrite(key, change(w.object(key)))
		w.start()
		w.pass(upkeep.Hold)
		w.keeper.Work(t.Context())
		if n := len(w.keys("log/")); n != 7 {
			t.Errorf("%s: %d segments are left, want 7", name, n)
		}
		if next := w.keeper.Next(); !next.IsZero() {
			t.Errorf("%s: there is something to do at %v", name, next)
		}
		if !strings.Contains(w.log.String(), key) {
			t.Errorf("%s: nothing is said about it: %s", name, &w.log)
		}
		w.remove(key)
		w.restores(w.all(1)...)
	}
}

// TestDenied may not delete: it says so once, and does not ask again before a day
// has passed and something is put.
func TestDenied(t *testing.T) {
	t.Parallel()
	b := &denying{}
	w := newWorld(t, func(w *world) { b.Bucket = w.counter; w.seen = b })
	for range 7 {
		w.write(1)
	}
	w.work()
	w.pass(upkeep.Hold)
	w.work()
	if b.asked != 1 {
		t.Errorf("asked %d times, want once", b.asked)
	}
	if next := w.keeper.Next(); !next.IsZero() {
		t.Errorf("there is something to do at %v", next)
	}
	for range 30 {
		w.pass(time.Hour)
		w.work()
	}
	if b.asked != 1 {
		t.Errorf("asked %d times while nothing was put", b.asked)
	}
	w.write(1)
	w.work()
	w.write(1)
	w.work()
	if b.asked != 2 {
		t.Errorf("asked %d times after something was put, want once more", b.asked)
	}
	if n := strings.Count(w.log.String(), "is refused"); n != 1 {
		t.Errorf("said %d times that it is refused:\n%s", n, &w.log)
	}
	b.allow = true
	w.pass(25 * time.Hour)
	w.write(1)
	w.work()
	if n := len(w.open().Listing().Covered); n != 0 {
		t.Errorf("%d covered objects are left once it may delete", n)
	}
}

type denying struct {
	storage.Bucket
	allow bool
	asked int
}

func (d *denying) Delete(ctx context.Context, key string) error {
	if d.asked++; !d.allow {
		return fmt.Errorf("delete %s: %w", key, storage.ErrDenied)
	}
	return d.Bucket.Delete(ctx, key)
}

// TestRetries fails each task, which is tried again later and later.
func TestRetries(t *testing.T) {
	t.Parallel()
	down := false
	w := newWorld(t, func(w *world) {
		d := disktest.New(func(int, string) disktest.Verdict {
			if down {
				return disktest.Verdict{Err: storage.ErrUnreachable}
			}
			return disktest.Verdict{}
		})
		w.seen = faulty{w.counter, d}
	})
	for range 7 {
		w.write(1)
	}
	for _, done := range []func() bool{
		func() bool { return len(w.keys("pack/")) > 0 },
		func() bool { return len(w.open().Listing().Covered) == 0 },
	} {
		down = true
		var waited time.Duration
		for range 10 {
			w.work()
			next := w.keeper.Next()
			if next.IsZero() || next.After(w.now.Add(90*time.Minute)) {
				t.Fatalf("tried again at %v, it is %v", next, w.now)
			}
			waited = next.Sub(w.now)
			w.now = next
		}
		if waited < 4*time.Minute { // 15 s * 1.5^9, and half of it by chance
			t.Errorf("after ten failures it waits %v", waited)
		}
		down = false
		w.work()
		if !done() {
			t.Error("not done once storage answers")
		}
		w.pass(2 * upkeep.Hold)
	}
	w.restores(w.all(1)...)
}

// TestBrokenLog joins what can be joined around what can't.
func TestBrokenLog(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w *world, key string){
		"damaged": func(w *world, key string) {
			b := w.object(key)
			b[segment0+10]++
			w.overwrite(key, b)
		},
		"other history": func(w *world, key string) {
			other := newWorld(w.t, func(o *world) { o.now = w.now.Add(time.Minute) })
			for range 20 {
				other.write(1)
			}
			w.overwrite(key, other.object(key))
		},
	}
	for name, spoil := range tests {
		for _, cached := range []bool{false, true} {
			w := newWorld(t, nil)
			for i := range 20 {
				w.write(1)
				if i == 3 {
					spoil(w, archive.SegmentKey(w.last()))
				}
				if !cached {
					w.start()
					_ = os.RemoveAll(w.dir + "/cache")
				}
				w.keeper.Work(t.Context())
			}
			if n := len(w.open().Listing().Segments); n > 12 {
				t.Errorf("%s, cached %v: %d objects in the log", name, cached, n)
			}
			if log := w.log.String(); !cached && !strings.Contains(log, "log/0000000000000005.seg") {
				t.Errorf("%s: nothing is said about the object: %s", name, log)
			}
		}
	}
}

const segment0 = 128 // a segment's header

// TestDamagedCopy reads the archive when a local copy is damaged.
func TestDamagedCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	name := w.dir + "/cache/log-0000000000000004.seg"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[segment0+10]++
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := w.requests(w.work), (storage.Requests{Get: 5, Put: 2}); got != want {
		t.Errorf("requests %+v, want %+v", got, want)
	}
	if n := len(w.keys("pack/")); n != 1 {
		t.Errorf("%d packs", n)
	}
	w.restores(w.all(1)...)
}

// TestMissing has an object deleted by somebody else: it looks again what there is.
func TestMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 6 {
		w.write(1)
	}
	w.remove(archive.SegmentKey(2))
	w.remove(archive.SegmentKey(3))
	w.keeper.Work(t.Context())
	_ = os.RemoveAll(w.dir + "/cache")
	w.start()
	for range 6 {
		w.write(1)
		w.pass(2 * time.Minute)
		w.keeper.Work(t.Context())
	}
	w.knows()
	if n := len(w.keys("pack/")); n == 0 {
		t.Errorf("nothing is packed:\n%s", &w.log)
	}
}

// TestGapAfterPack does not try to join what a listing shows to be apart.
func TestGapAfterPack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	w.work()
	w.remove(archive.SegmentKey(7))
	w.start()
	for range 20 {
		w.write(1)
		w.work()
	}
	if w.log.Len() > 0 {
		t.Errorf("it says %s", &w.log)
	}
	if n := len(w.open().Listing().Segments); n > 12 {
		t.Errorf("%d objects in the log", n)
	}
}

// TestMissingMeanwhile has one deleted that the Keeper knows of.
func TestMissingMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.opts.Cache = upkeep.NewCache(disktest.New(nil), w.dir+"/cache", 0) })
	for range 7 {
		w.write(1)
	}
	w.remove(archive.SegmentKey(2))
	w.work()
	for range 3 {
		w.write(1)
		w.pass(2 * time.Minute)
		w.work()
	}
	if n := len(w.keys("pack/")); n == 0 {
		t.Errorf("nothing is packed:\n%s", &w.log)
	}
}

// TestStops ends Work by its context, without a word.
func TestStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to stop"))
	w.keeper.Work(ctx)
	if w.log.Len() > 0 || len(w.keys("pack/")) > 0 {
		t.Errorf("packs %q, log %s", w.keys("pack/"), &w.log)
	}
	w.work()
	if len(w.keys("pack/")) != 1 {
		t.Error("nothing is packed afterwards")
	}
}

// TestNoPacks joins nothing, and deletes what was packed before.
func TestNoPacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 7 {
		w.write(1)
	}
	w.work()
	w.opts.NoPacks = true
	w.start()
	for range 10 {
		w.write(1)
	}
	w.pass(upkeep.Hold)
	w.work()
	if n, covered := len(w.keys("pack/")), w.open().Listing().Covered; n != 1 || len(covered) > 0 {
		t.Errorf("%d packs, %d covered objects", n, len(covered))
	}
}
