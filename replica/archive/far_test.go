package archive_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

// far is a bucket that answers after a second, by the virtual clock of a synctest
// bubble.
type far struct {
	storage.Bucket
	gets atomic.Int64
}

func (f *far) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	f.gets.Add(1)
	wait(ctx, time.Second)
	return f.Bucket.Get(ctx, key, off, n)
}

func (f *far) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	wait(ctx, time.Second)
	return f.Bucket.List(ctx, prefix, after, fn)
}

// wait returns when a time has passed, by the bubble's clock.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// What is known to be needed is asked for at once.
func TestRequestsAtOnce(t *testing.T) {
	t.Parallel()
	h := begin(t, 65536, 40)
	h.commits(5)
	h.segment()
	small := begin(t, 512, 4)
	small.commits(5)
	small.segment()
	for name, tc := range map[string]struct {
		do    func(context.Context, *history, storage.Bucket) error
		small bool
		trips int
		gets  int64
	}{
		"Open": {func(ctx context.Context, _ *history, b storage.Bucket) error {
			_, err := archive.Open(ctx, b)
			return err
		}, true, 2, 1},
		"OpenAtOnce": {func(ctx context.Context, _ *history, b storage.Bucket) error {
			_, err := archive.OpenAtOnce(ctx, b)
			return err
		}, true, 1, 1},
		"the index of a segment":       {index, false, 3, 3},
		"the index of a small segment": {index, true, 3, 2},
		"a snapshot":                   {openSnapshot, false, 3, 3},
		"a small snapshot":             {openSnapshot, true, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := h
			if tc.small {
				h = small
			}
			synctest.Test(t, func(t *testing.T) {
				f := &far{Bucket: h.bucket}
				began := time.Now()
				if err := tc.do(t.Context(), h, f); err != nil {
					t.Fatal(err)
				}
				if n := int(time.Since(began) / time.Second); n != tc.trips || f.gets.Load() != tc.gets {
					t.Errorf("%d round trips and %d Gets, want %d and %d", n, f.gets.Load(), tc.trips, tc.gets)
				}
			})
		})
	}
}

// index opens a replica and reads its newest segment's index.
func index(ctx context.Context, h *history, b storage.Bucket) error {
	a, err := archive.Open(ctx, b)
	if err != nil {
		return err
	}
	s := a.Listing().Segments[0]
	_, x, err := a.Index(ctx, s)
	if err == nil && x.Trailer.Last != h.last() {
		err = errors.New("not the segment's")
	}
	return err
}

// openSnapshot opens a replica and its snapshot.
func openSnapshot(ctx context.Context, h *history, b storage.Bucket) error {
	a, err := archive.Open(ctx, b)
	if err != nil {
		return err
	}
	r, err := a.Snapshot(ctx, a.Listing().Snapshots[0])
	if err == nil && r.Checksum() != h.states[0].table(h.size).Checksum() {
		err = errors.New("not the snapshot's")
	}
	return err
}

// An object that is shorter than the listing said is damaged, however much of it is read
// at once.
func TestShorterThanListed(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 65536} {
		h := begin(t, size, 40)
		h.commits(5)
		h.segment()
		a := h.open()
		for _, more := range []int64{1, 100, 5000} {
			s, snap := a.Listing().Segments[0], a.Listing().Snapshots[0]
			s.Size += more
			if _, _, err := a.Index(t.Context(), s); !errors.Is(err, block.ErrCorrupt) {
				t.Errorf("segment of pages of %d and %d bytes more: %v", size, more, err)
			}
			snap.Size += more
			if _, err := a.Snapshot(t.Context(), snap); !errors.Is(err, block.ErrCorrupt) {
				t.Errorf("snapshot of pages of %d and %d bytes more: %v", size, more, err)
			}
		}
	}
}

// late is a bucket in which tidemark.json appears after it was asked for.
type late struct {
	storage.Bucket
	asked atomic.Bool
}

func (l *late) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if l.asked.CompareAndSwap(false, true) {
		return nil, storage.ErrNotExist
	}
	return l.Bucket.Get(ctx, key, off, n)
}

// A replica that is made between the two requests is one.
func TestOpenAtOnceMadeMeanwhile(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	a, err := archive.OpenAtOnce(t.Context(), &late{Bucket: h.bucket})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.open().Meta(), a.Meta()); diff != "" {
		t.Errorf("meta (-Open +OpenAtOnce):\n%s", diff)
	}
}

// A search finds what one place after the other would, with few rounds, and gives back errors.
func TestSearch(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 14, 15, 16, 17, 31, 32, 100, 257, 3600} {
		for want := 0; want <= n; want += 1 + n/300 {
			var asked atomic.Int64
			got, err := archive.Search(t.Context(), n, func(_ context.Context, i int) (bool, error) {
				asked.Add(1)
				return i >= want, nil
			})
			if err != nil || got != want || asked.Load() > 45 {
				t.Fatalf("%d of %d: got %d after %d reads, %v", want, n, got, asked.Load(), err)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := archive.Search(t.Context(), 3600, func(ctx context.Context, i int) (bool, error) {
			wait(ctx, time.Second)
			return i >= 2500, nil
		})
		if n := time.Since(began) / time.Second; err != nil || n > 3 {
			t.Errorf("%d round trips, %v", n, err)
		}
	})
	mine := errors.New("mine")
	if _, err := archive.Search(t.Context(), 100, func(context.Context, int) (bool, error) { return false, mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
}

// What a restore probably reads is what it reads, and the newest segment.
func TestLikely(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 5)
	h.commits(30)
	for _, last := range []state.TXID{3, 6, 10, 15, 19, 25, 31} {
		h.segmentUpTo(last)
	}
	h.snapshot(8)
	h.snapshot(28) // in the last segment
	a := h.open()
	l := a.Listing()
	keys := func(p archive.Plan) map[string]bool {
		all := map[string]bool{}
		for _, s := range p.Snapshots {
			all[s.Key()] = true
		}
		for _, s := range p.Segments {
			all[s.Key()] = true
		}
		return all
	}
	for id := range h.last() + 3 {
		likely := l.Likely(id)
		plan, _, err := a.Plan(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		need, have := keys(plan), keys(likely)
		need[archive.SegmentKey(26)] = true
		if diff := cmp.Diff(need, have); diff != "" {
			t.Errorf("TXID %v (-needed +likely):\n%s", id, diff)
		}
	}
	if p := (&archive.Listing{}).Likely(0); len(p.Snapshots)+len(p.Segments) > 0 {
		t.Errorf("of nothing: %+v", p)
	}
}
