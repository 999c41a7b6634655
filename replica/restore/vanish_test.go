package restore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// shifting is a bucket that changes just before one of its Gets is answered.
type shifting struct {
	*counting
	mu     sync.Mutex
	left   int // Gets before that
	change func()
	// before is what was read until then.
	before map[string]int
}

func (b *shifting) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b.mu.Lock()
	if b.left == 0 {
		b.counting.mu.Lock()
		b.before = maps.Clone(b.gets)
		b.counting.mu.Unlock()
		b.change()
	}
	b.left--
	b.mu.Unlock()
	return b.counting.Get(ctx, key, off, n)
}

// winding is a history of 31 commits with a chain of three snapshots and seven
// segments, of which the first two are packed.
func winding(t *testing.T) *history {
	t.Helper()
	h := begin(t, 512, 8)
	for n := range 30 {
		h.commit(6 + n%5)
	}
	for _, last := range []state.TXID{3, 6, 10, 15, 19, 25, 31} {
		h.segmentUpTo(last)
	}
	h.pack(2, 6)
	h.incremental(5, 1)
	h.incremental(8, 5)
	return h
}

// Whenever the archive changes under a restore, it gives the commit that it was
// begun for, or says that it is gone.
func TestVanish(t *testing.T) {
	t.Parallel()
	var wentOn atomic.Int64
	t.Cleanup(func() {
		if wentOn.Load() == 0 {
			t.Error("none went on from where it was")
		}
	})
	for name, tc := range map[string]struct {
		change func(*history)
		target state.TXID
		gone   bool // it may be that the commit can't be restored then
		anew   bool // it may have to begin anew
	}{
		"packed":              {func(h *history) { h.pack(7, 19) }, 31, false, false},
		"packed, all":         {func(h *history) { h.pack(2, 31) }, 31, false, false},
		"packed, the newest":  {func(h *history) { h.pack(26, 31) }, 0, false, false},
		"packed, for another": {func(h *history) { h.pack(2, 19) }, 17, false, false},
		"thinned": {func(h *history) {
			h.snapshot(7)
			h.drop(archive.SnapshotKey(8, 5), archive.SnapshotKey(5, 1), archive.SnapshotKey(1, 0))
		}, 31, false, true},
		"pruned": {func(h *history) {
			h.snapshot(20)
			h.drop(archive.SnapshotKey(8, 5), archive.SnapshotKey(5, 1), archive.SnapshotKey(1, 0),
				archive.PackKey(2, 6), archive.SegmentKey(7), archive.SegmentKey(11), archive.SegmentKey(16))
		}, 30, false, true},
		"pruned and packed": {func(h *history) {
			h.snapshot(20)
			h.pack(16, 31)
			h.drop(archive.SnapshotKey(8, 5), archive.SnapshotKey(5, 1), archive.SnapshotKey(1, 0), archive.PackKey(2, 6), archive.SegmentKey(7), archive.SegmentKey(11))
		}, 0, false, true},
		"the target pruned": {func(h *history) {
			h.snapshot(20)
			h.drop(archive.SnapshotKey(8, 5), archive.SnapshotKey(5, 1), archive.SnapshotKey(1, 0), archive.PackKey(2, 6), archive.SegmentKey(7), archive.SegmentKey(11))
		}, 18, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original := winding(t)
			original.t = t
			replanned := 0
			for k := 0; ; k++ {
				h := original.copied()
				b := &shifting{counting: count(h.bucket), left: k, change: func() { tc.change(h) }}
				opts := options(t, b)
				opts.Target.TXID = tc.target
				var log bytes.Buffer
				opts.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				res, err := restore.Run(t.Context(), opts)
				if b.left >= 0 {
					break // it was done before
				}
				if b.lists > 1 {
					replanned++
				}
				if tc.gone && err != nil {
					if !errors.Is(err, archive.ErrOutOfRange) {
						t.Errorf("after %d Gets: %v", k, err)
					}
					assertFiles(t, filepath.Dir(opts.Output))
					continue
				}
				if err != nil {
					t.Fatalf("after %d Gets: %v", k, err)
				}
				want := tc.target
				if want == 0 {
					want = h.last()
				}
				h.compare(want, res)
				if !tc.anew && checkGoesOn(t, b, log.String()) {
					wentOn.Add(1)
				}
			}
			if replanned == 0 {
				t.Error("it never had to plan again")
			}
		})
	}
}

// checkGoesOn checks that a restore that went on did not read snapshots again, which
// take one request each. It tells whether it went on.
func checkGoesOn(t *testing.T, b *shifting, log string) bool {
	t.Helper()
	if !strings.Contains(log, "going on") {
		return false // what had come was not a state yet
	}
	for key, n := range b.gets {
		if strings.HasPrefix(key, "snapshot/") && n > 1 {
			t.Errorf("%s is read again after %v", key, b.before)
		}
	}
	return true
}

// long is a history whose first segment is longer than what is read of it at once.
func long(t *testing.T) *history {
	t.Helper()
	h := begin(t, 65536, 8)
	h.noise = true
	for range 20 {
		h.commit(8)
		h.fresh()
	}
	h.segment()
	if n := len(h.object(archive.SegmentKey(2))); n < 10<<20 {
		t.Fatalf("the segment has %d bytes only", n)
	}
	h.commits(2)
	h.segment()
	h.commits(1)
	h.segment()
	return h
}

// A long segment can be cut off in the midst of a commit. Then all begins anew.
func TestVanishInLongSegment(t *testing.T) {
	t.Parallel()
	h := long(t)
	packed := h.copied()
	packed.pack(2, h.last())
	key := archive.PackKey(2, h.last())
	pack := packed.object(key)
	for k := range 9 {
		h := h.copied()
		b := &shifting{counting: count(h.bucket), left: k, change: func() {
			h.put(key, pack)
			h.drop(archive.SegmentKey(2), archive.SegmentKey(22), archive.SegmentKey(24))
		}}
		res, err := restore.Run(t.Context(), options(t, b))
		if err != nil {
			t.Fatalf("after %d Gets: %v", k, err)
		}
		h.compare(h.last(), res)
	}
}

// What comes before an object that is gone is applied to its end, so that the
// restore goes on from there.
func TestVanishAfterLongSegment(t *testing.T) {
	t.Parallel()
	h := long(t)
	for range 6 { // it must not depend on what comes first
		b := &vanishing{counting: count(h.bucket), key: archive.SegmentKey(22), times: 1}
		res, err := restore.Run(t.Context(), options(t, b))
		if err != nil {
			t.Fatal(err)
		}
		h.compare(h.last(), res)
		if n := b.total("snapshot/"); n != 1 || b.lists != 2 {
			t.Errorf("listed %d times, %d requests for snapshots", b.lists, n)
		}
	}
}

// vanishing is a bucket that lists an object and does not have it, some times.
type vanishing struct {
	*counting
	key   string
	mu    sync.Mutex
	times int
}

func (b *vanishing) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b.mu.Lock()
	gone := key == b.key && b.times > 0
	if gone {
		b.times--
	}
	b.mu.Unlock()
	if gone {
		return nil, storage.ErrNotExist
	}
	return b.counting.Get(ctx, key, off, n)
}

// A restore does not try for ever.
func TestVanishAgain(t *testing.T) {
	t.Parallel()
	h := winding(t)
	for _, key := range []string{archive.SegmentKey(11), archive.SegmentKey(26), archive.SnapshotKey(5, 1), archive.SnapshotKey(8, 5)} {
		for _, dry := range []bool{false, true} {
			b := &vanishing{counting: count(h.bucket), key: key, times: 1 << 30}
			opts := options(t, b)
			opts.DryRun = dry
			_, err := restore.Run(t.Context(), opts)
			if dry && strings.HasPrefix(key, "snapshot/") { // which it does not read
				if err != nil {
					t.Errorf("a dry run without %s: %v", key, err)
				}
				continue
			}
			if !errors.Is(err, storage.ErrNotExist) || !strings.Contains(err.Error(), key) || b.lists < 3 || b.lists > 20 {
				t.Errorf("without %s, listed %d times: %v", key, b.lists, err)
			}
			assertFiles(t, filepath.Dir(opts.Output))
		}
	}
}

// A replica that is replaced by another one while it is read is not mixed with
// it.
func TestVanishReplaced(t *testing.T) {
	t.Parallel()
	other := winding(t)
	original := winding(t)
	for k := 1; ; k++ {
		h := original.copied()
		b := &shifting{counting: count(h.bucket), left: k, change: func() {
			h.drop(h.keys()...)
			for _, key := range other.keys() {
				if key != archive.SegmentKey(16) {
					h.put(key, other.object(key))
				}
			}
		}}
		opts := options(t, b)
		_, err := restore.Run(t.Context(), opts)
		if b.left >= 0 {
			break
		}
		if !errors.Is(err, archive.ErrBroken) && !errors.Is(err, archive.ErrOutOfRange) {
			t.Errorf("after %d Gets: %v", k, err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// What was written of another snapshot does not show through where the next one
// has pages that came back as zeros, and which it does not list.
func TestVanishZeros(t *testing.T) {
	t.Parallel()
	original := begin(t, 512, 4)
	original.implicit = true
	original.commit(9)
	original.zeros(4)
	original.zeros(9)
	original.commits(2)
	original.segment()
	original.incremental(2, 1)
	again := false
	for k := 0; ; k++ {
		h := original.copied()
		b := &shifting{counting: count(h.bucket), left: k, change: func() {
			h.snapshot(3)
			h.incremental(4, 3)
			h.drop(archive.SnapshotKey(2, 1), archive.SnapshotKey(1, 0), archive.SegmentKey(2))
			h.stored = 4
			h.segment()
		}}
		opts := options(t, b)
		opts.Target.TXID = 5
		res, err := restore.Run(t.Context(), opts)
		if b.left >= 0 {
			break
		}
		if err != nil {
			t.Fatalf("after %d Gets: %v", k, err)
		}
		h.compare(5, res)
		again = again || b.lists > 1
	}
	if !again {
		t.Error("it never had to plan again")
	}
}
