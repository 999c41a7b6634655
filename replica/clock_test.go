package replica_test

import (
	"path/filepath"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/retain"
	"tidemark/replica/upkeep"
)

// A clock that is a month ahead for a moment does not keep snapshots from being made
// until that month is over.
func TestClockAhead(t *testing.T) {
	t.Parallel()
	w, c := newWriter(newApp(t)), newClock()
	b := newYearBucket(c.Now)
	opts := replica.Options{
		Path: w.path, Bucket: b, Now: c.Now, StateDir: filepath.Join(t.TempDir(), "state"), SnapshotInterval: time.Hour,
		Retain: true, Retention: retain.Policy{History: 6 * time.Hour, Hourly: 12 * time.Hour, Daily: 100 * time.Hour, Grace: time.Hour},
	}.Packed(upkeep.Packing{Newest: 4, Most: 8, Share: 8})
	e := launch(t, opts)
	hour := func() {
		c.pass(time.Hour)
		w.write()
		shipped(t, b, w.last())
	}
	for range 5 {
		hour()
		waitFor(t, func() bool { return newestSnapshot(t, b) == w.last() })
	}
	c.pass(30 * 24 * time.Hour)
	hour()
	waitFor(t, func() bool { return newestSnapshot(t, b) == w.last() })
	c.pass(-30 * 24 * time.Hour)
	before := b.put["snapshot"]
	for i := range 72 {
		hour()
		if i%24 == 23 { // and a restart changes nothing
			e.stop()
			e = launch(t, opts)
		}
	}
	e.stop()
	t.Log(b.put, b.gone)
	if b.put["snapshot"] == before {
		t.Errorf("in three days after the clock was a month ahead for a moment there is no snapshot")
	}
}

// Runs that end at once prune, too, where storage tells how old what it has is.
func TestOncePrunes(t *testing.T) {
	t.Parallel()
	w, c := newWriter(newApp(t)), newClock()
	b := newYearBucket(c.Now)
	opts := replica.Options{
		Path: w.path, Bucket: b, Now: c.Now, StateDir: filepath.Join(t.TempDir(), "state"), SnapshotInterval: time.Hour,
		Retain: true, Retention: retain.Policy{History: 6 * time.Hour, Hourly: 12 * time.Hour, Daily: 100 * time.Hour, Grace: time.Hour},
	}.Packed(upkeep.Packing{Newest: 4, Most: 8, Share: 8})
	for range 4 * 48 {
		c.pass(15 * time.Minute)
		w.write()
		if _, err := replica.Once(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(b.put, b.gone)
	if b.gone["snapshot"] == 0 {
		t.Errorf("in 48 h with a history of 6 h nothing was pruned: %d objects are left", len(objects(t, b)))
	}
}
