package upkeep_test

import (
	"context"
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/upkeep"
	"tidemark/storage"
)

// stamped tells when its objects were put.
type stamped struct {
	storage.Bucket
	at time.Time
}

// List implements [storage.Bucket].
func (s stamped) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	return s.Bucket.List(ctx, prefix, after, func(o storage.Info) error {
		o.Modified = s.at
		return fn(o)
	})
}

// TestClearByStorageClock deletes what an earlier process has packed, an hour after
// that, where storage tells when it was; and an hour after it was found where the
// clock there is ahead.
func TestClearByStorageClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		put  time.Duration // before now
		left int
	}{
		"within the hour": {upkeep.Hold - time.Second, 5},
		"an hour ago":     {upkeep.Hold, 0},
		"ahead":           {-upkeep.Hold, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			for range 7 {
				w.write(1)
			}
			w.work()
			a, err := archive.Open(t.Context(), stamped{w.bucket, w.now.Add(-c.put)})
			if err != nil {
				t.Fatal(err)
			}
			w.keeper = upkeep.New(archive.Known(w.seen, a.Meta()).As(a.Listing()), w.opts)
			w.work()
			if n := len(w.open().Listing().Covered); n != c.left {
				t.Errorf("%d covered objects are left, want %d", n, c.left)
			}
			w.pass(upkeep.Hold)
			w.work()
			if n := len(w.open().Listing().Covered); n != 0 {
				t.Errorf("%d covered objects are left at the end", n)
			}
			w.restores(w.all(1)...)
		})
	}
}
