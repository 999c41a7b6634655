package restore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Every commit of a history that grows, shrinks and grows again is restored to
// the byte, whatever snapshot and segments it takes.
func TestEveryCommit(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 4096, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			h := begin(t, size, 12)
			for n, pages := range []int{12, 20, 3, 3, 25, 25, 1, 30, 2, 30, 29, 28, 40, 40, 5, 9, 9, 9, 41, 41} {
				h.commit(pages)
				switch n {
				case 2, 3, 9, 15, 19:
					h.segment()
				}
			}
			for _, id := range []state.TXID{1, 4, 8, 11} { // the first, at a border, in segments
				if id > 1 {
					h.snapshot(id)
				}
			}
			for id := range h.last() {
				res := h.check(id + 1)
				if res.AfterLast || res.Skipped || res.MovedAside != "" || res.Integrity != "" {
					t.Errorf("result %+v", res)
				}
			}
		})
	}
}

// A page that was cut off and comes back untouched is zeros, in memory or not.
func TestRegrow(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 10)
	h.implicit = true // the log has no frames of the pages that come as zeros
	for _, length := range []int{4, 9, 9, 2, 12, 3, 10} {
		h.zeros(length)
		h.commit(length) // changes some of them
	}
	h.segmentUpTo(3)
	h.segment()
	for id := range h.last() {
		h.check(id + 1)
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 5)
	h.commits(9)
	h.segmentUpTo(5)
	h.segment()
	for name, tc := range map[string]struct {
		target restore.Target
		want   state.TXID
		after  bool
	}{
		"the newest":         {restore.Target{}, 10, false},
		"a TXID":             {restore.Target{TXID: 7}, 7, false},
		"the last TXID":      {restore.Target{TXID: 10}, 10, false},
		"a later TXID":       {restore.Target{TXID: 11}, 10, true},
		"the first TXID":     {restore.Target{TXID: 1}, 1, false},
		"a time":             {restore.Target{Time: at(3)}, 4, false},
		"between times":      {restore.Target{Time: at(3).Add(time.Millisecond)}, 4, false},
		"the first time":     {restore.Target{Time: at(0)}, 1, false},
		"the last time":      {restore.Target{Time: at(9)}, 10, false},
		"a later time":       {restore.Target{Time: at(10)}, 10, true},
		"a time, other zone": {restore.Target{Time: at(6).In(time.FixedZone("", 3600))}, 7, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t, h.bucket)
			opts.Target = tc.target
			res, err := restore.Run(t.Context(), opts)
			if err != nil || res.AfterLast != tc.after {
				t.Fatalf("result %+v, %v", res, err)
			}
			h.compare(tc.want, res)
		})
	}
	t.Run("before the first", func(t *testing.T) {
		t.Parallel()
		opts := options(t, h.bucket)
		opts.Target.Time = at(-1)
		_, err := restore.Run(t.Context(), opts)
		var r *archive.RangeError
		if !errors.As(err, &r) || !strings.Contains(err.Error(), "TXID 1 ") || !strings.Contains(err.Error(), "TXID 10 ") {
			t.Errorf("got %v", err)
		}
	})
}

// Thousands of small segments are as good as a large one.
func TestManySegments(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 6)
	for range 2000 {
		h.commits(1)
		h.segment()
	}
	for _, id := range []state.TXID{2, 1000, 2001} {
		if res := h.check(id); res.Plan.Segments != int(id)-1 || res.Plan.Objects != int(id) {
			t.Errorf("plan %+v", res.Plan)
		}
	}
}

// The target can be the first commit of a segment of which far more is on its
// way; the rest is let go.
func TestStopInLongSegment(t *testing.T) {
	t.Parallel()
	h := begin(t, 65536, 8)
	h.noise = true
	h.commits(3)
	h.segment()
	first := h.last() + 1
	for range 60 {
		h.commit(8)
		h.fresh()
	}
	h.segment()
	size := len(h.object(archive.SegmentKey(first)))
	if size < 20<<20 {
		t.Fatalf("the segment has %d bytes only", size)
	}
	for _, id := range []state.TXID{first, first + 1, first + 30, h.last()} {
		h.check(id)
	}
}

// Progress begins with little, never goes past the total, and reaches it if all
// of the plan is needed.
func TestProgress(t *testing.T) {
	t.Parallel()
	h := begin(t, 4096, 300)
	h.commits(10)
	h.segmentUpTo(6)
	h.segment()
	for _, id := range []state.TXID{1, 6, 11, 8} {
		var mu sync.Mutex
		var most, total int64
		opts := options(t, h.bucket)
		opts.Target.TXID = id
		opts.Progress = func(done, of int64) {
			mu.Lock()
			defer mu.Unlock()
			most, total = max(most, done), of
		}
		res, err := restore.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if total != res.Plan.Download || most > total || id != 8 && most != total {
			t.Errorf("TXID %v: %d of %d bytes, the plan has %d", id, most, total, res.Plan.Download)
		}
	}
}
