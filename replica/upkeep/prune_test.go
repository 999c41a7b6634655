package upkeep_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/retain"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
)

// week keeps a day of commits and a snapshot an hour for two.
func retaining(w *world) {
	w.opts.Retain, w.opts.Packing.Share = true, 6
	w.opts.Policy = retain.Policy{History: 24 * time.Hour, Hourly: 48 * time.Hour, Grace: time.Hour}
}

// live writes and snapshots for some hours, ten minutes at a time.
func (w *world) live(hours int) {
	w.t.Helper()
	for range hours {
		for range 6 {
			w.pass(10 * time.Minute)
			w.write(1)
			w.work()
		}
		w.snapshot()
		w.work()
	}
}

// TestPrune keeps what the policy says, and no more, for days.
func TestPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t, retaining)
	w.live(100)
	// A day of commits, and the snapshots of two.
	if n := len(w.keys("snapshot/")); n < 48 || n > 51 {
		t.Errorf("%d snapshots are left", n)
	}
	day := w.last() - 24*6
	w.restores(w.all(day)...)
	for id := w.last() - 40*6; id < day-24*6; id++ {
		if err := w.restore(id); (err == nil) != slices.Contains(w.keys("snapshot/"), archive.SnapshotKey(id, 0)) {
			t.Errorf("TXID %v: error %v", id, err)
		}
	}
	if n := len(w.open().Listing().Covered); n > 20 {
		t.Errorf("%d covered objects", n)
	}
}

// TestPruneRequests lists marks only before something is deleted.
func TestPruneRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, retaining)
	for range 30 {
		w.pass(time.Hour)
		w.write(1)
		w.work()
		n := len(w.keys(""))
		w.snapshot()
		r := w.requests(w.work)
		if deleted := n + 1 - len(w.keys("")); int64(deleted) != r.Delete || (deleted > 0) != (r.List > 0) || r.List > 2 {
			t.Fatalf("requests %+v for %d deleted objects", r, deleted)
		}
	}
	w.start()
	w.pass(2 * time.Hour)
	w.write(1)
	w.snapshot()
	if r, n := w.requests(w.work), len(w.keys("snapshot/")); r.Get < int64(n)-2 || r.Get > int64(n)+2 {
		t.Errorf("after a restart: requests %+v for %d snapshots", r, n)
	}
}

// TestPruneWaits deletes nothing of the log that it does not know for an hour.
func TestPruneWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.live(30)
	retaining(w)
	w.opts.Policy.History = time.Hour
	w.start()
	w.write(1)
	w.snapshot()
	n := len(w.keys(""))
	w.work()
	if got := len(w.keys("")); got != n {
		t.Errorf("%d objects were deleted at once", n-got)
	}
	began := w.now
	w.now = w.keeper.Next()
	if wait := w.now.Sub(began); wait <= 0 || wait > upkeep.Hold {
		t.Errorf("it waits %v", wait)
	}
	w.work()
	w.now = began.Add(upkeep.Hold)
	w.work()
	if got := len(w.keys("")); got > n-5 {
		t.Errorf("%d of %d objects are left", got, n)
	}
	w.restores(w.all(w.last() - 6)...)
}

// TestPruneWaitsForUploads has commits that are old when they are uploaded, and
// packed at once: their keys must be taken for an hour from then.
func TestPruneWaitsForUploads(t *testing.T) {
	t.Parallel()
	late := 30 * time.Hour
	w := newWorld(t, func(w *world) {
		w.opts.Now = func() time.Time { return w.now.Add(late) }
		w.opts.Retain, w.opts.Policy = true, retain.Policy{History: time.Hour, Grace: time.Hour}
	})
	w.write(1)
	w.pass(2 * time.Hour)
	for range 4 {
		w.write(1)
	}
	w.snapshot()
	w.pass(2 * time.Hour)
	late -= 2 * time.Hour // no time has passed for the Keeper
	w.write(1)
	w.write(1)
	w.snapshot()
	w.work()
	if n := len(w.keys("pack/")); n != 1 {
		t.Errorf("%d packs, want one that is there still", n)
	}
	w.pass(upkeep.Hold)
	w.work()
	if n := len(w.keys("pack/")); n != 0 {
		t.Errorf("%d packs are left after the hour", n)
	}
}

// TestPruneNewest keeps the newest segments whatever the policy is.
func TestPruneNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.opts.Retain, w.opts.Policy = true, retain.Policy{}
		w.opts.Packing.Newest = 3
	})
	w.live(5)
	for range 3 {
		w.pass(2 * time.Hour)
		w.write(1)
		w.snapshot()
		w.work()
	}
	w.pass(2 * time.Hour)
	w.work()
	want := []string{archive.SegmentKey(w.last() - 2), archive.SegmentKey(w.last() - 1), archive.SegmentKey(w.last())}
	if diff := cmp.Diff(want, append(w.keys("log/"), w.keys("pack/")...)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	w.restores(w.last())
}

// TestPruneMarks keeps what is marked, also if it was marked a moment ago.
func TestPruneMarks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, retaining)
	w.live(2)
	marked := []state.TXID{5, 9}
	for i, id := range marked {
		if err := w.open().PutMark(t.Context(), archive.Mark{Name: []string{"one", "two"}[i], TXID: id}); err != nil {
			t.Fatal(err)
		}
	}
	w.live(60)
	w.restores(marked...)
	w.restores(w.last() - 10)
	if err := w.restore(100); err == nil {
		t.Error("TXID 100 is there without a mark")
	}
	for _, name := range []string{"one", "two"} {
		if err := w.open().DeleteMark(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	w.live(2)
	if err := w.restore(5); err == nil {
		t.Error("TXID 5 is there although its mark is gone")
	}
}

// TestPruneCovered deletes a pack together with what it covers, which would be
// read again without it.
func TestPruneCovered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		retaining(w)
		w.opts.Policy = retain.Policy{History: time.Hour, Grace: time.Hour}
	})
	for range 7 {
		w.write(1)
	}
	w.snapshot()
	w.pass(2 * time.Hour)
	w.write(1)
	w.write(1)
	w.snapshot()
	w.pass(2 * time.Hour)
	w.start() // packs and prunes in one go; but nothing of the log is old enough
	w.write(1)
	w.work()
	w.pass(upkeep.Hold)
	w.snapshot()
	w.work()
	w.pass(upkeep.Hold)
	w.work()
	l := w.open().Listing()
	if len(l.Covered) > 0 || l.Segments[0].First < 6 {
		t.Errorf("left are %v, covered %v", l.Segments, l.Covered)
	}
	w.restores(w.last())
}

// TestPruneDenied may not delete: the archive stays as it is.
func TestPruneDenied(t *testing.T) {
	t.Parallel()
	b := &denying{}
	w := newWorld(t, func(w *world) { retaining(w); b.Bucket = w.counter; w.seen = b })
	w.live(40)
	if b.asked > 40 {
		t.Errorf("asked %d times", b.asked)
	}
	if n := strings.Count(w.log.String(), "is refused"); n != 2 { // clearing, pruning
		t.Errorf("said %d times that it is refused:\n%s", n, &w.log)
	}
	w.restores(1, 2, 7, w.last())
	b.allow = true
	w.pass(25 * time.Hour)
	w.live(1)
	if err := w.restore(2); err == nil {
		t.Error("TXID 2 is there still, although it may delete now")
	}
}

// TestBadSnapshot does not count one that can't be read.
func TestBadSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, retaining)
	w.live(20)
	snaps := w.keys("snapshot/")
	for _, key := range snaps[1:] {
		b := w.object(key)
		w.overwrite(key, append([]byte("damaged!"), b[8:]...))
	}
	w.start()
	w.pass(48 * time.Hour)
	w.write(1)
	w.work()
	w.snapshot()
	w.work()
	if !slices.Contains(w.keys(""), snaps[0]) {
		t.Error("the only snapshot that could be used is gone")
	}
	w.restores(w.all(1)...)
}
