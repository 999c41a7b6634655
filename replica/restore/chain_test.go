package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

// Every commit of a history that shrinks and grows is restored to the byte from
// snapshots that add to others, with packs after them and without.
func TestEveryCommitOfChain(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 4096} {
		for _, implicit := range []bool{false, true} {
			t.Run(fmt.Sprint(size, implicit), func(t *testing.T) {
				t.Parallel()
				h := begin(t, size, 12)
				h.implicit = implicit
				for n, pages := range []int{12, 20, 3, 9, 25, 25, 1, 30, 2, 30, 29, 28, 40, 40, 5, 9, 9, 9, 41, 41} {
					if n%3 == 1 {
						h.zeros(pages)
					} else {
						h.commit(pages)
					}
				}
				for _, last := range []state.TXID{4, 5, 11, 17, 21} {
					h.segmentUpTo(last)
				}
				for _, s := range [][2]state.TXID{{3, 1}, {4, 3}, {9, 4}, {10, 3}, {13, 10}, {16, 13}, {16, 4}, {19, 16}, {20, 19}} {
					h.incremental(s[0], s[1])
				}
				all := func() {
					t.Helper()
					for id := range h.last() {
						h.check(id + 1)
					}
				}
				all()
				h.pack(2, 5)
				h.pack(6, 17)
				all()
				h.pack(2, 17)
				h.snapshot(13)
				all()
				h.pack(2, 21)
				all()
			})
		}
	}
}

// zeros makes a commit that cuts the database or adds pages of zeros to it.
func (h *history) zeros(n int) {
	now := append(pages(nil), h.states[len(h.states)-1]...)
	now = now[:min(n, len(now))]
	for len(now) < n {
		now = append(now, make([]byte, h.size))
	}
	h.states, h.times = append(h.states, now), append(h.times, at(len(h.times)))
}

// Whatever a history and its snapshots are, and however it is packed, its commits
// are restored to the byte.
func TestAnyChain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := begin(t, 512, rapid.IntRange(1, 9).Draw(rt, "pages"))
		for range rapid.IntRange(1, 12).Draw(rt, "commits") {
			h.commit(rapid.IntRange(1, 12).Draw(rt, "pages after"))
			if rapid.IntRange(0, 2).Draw(rt, "cut") == 0 {
				h.segment()
			}
		}
		if h.stored < h.last() {
			h.segment()
		}
		taken := []state.TXID{1}
		for id := state.TXID(2); id <= h.last(); id++ {
			if rapid.Bool().Draw(rt, "a snapshot") {
				h.incremental(id, rapid.SampledFrom(taken).Draw(rt, "that adds to"))
				taken = append(taken, id)
			}
		}
		if rapid.Bool().Draw(rt, "packed") {
			h.pack(2, h.last())
		}
		h.check(h.last())
		h.check(state.TXID(rapid.IntRange(1, int(h.last())).Draw(rt, "TXID")))
	})
}

// A snapshot that is not what its key says is not used; an older one and the log
// will do, if there is one.
func TestWrongChain(t *testing.T) {
	t.Parallel()
	chain := func(size int) *history {
		h := begin(t, 512, 9)
		if size != 512 {
			h = begin(t, 1024, 9)
		}
		h.commits(9)
		h.segment()
		h.incremental(4, 1)
		h.incremental(8, 4)
		return h
	}
	h, other := chain(512), chain(512)
	for id := range h.last() {
		h.check(id + 1)
	}
	newest, middle, full := archive.SnapshotKey(8, 4), archive.SnapshotKey(4, 1), archive.SnapshotKey(1, 0)
	h.incremental(8, 1)
	same := h.object(archive.SnapshotKey(8, 1))
	h.drop(archive.SnapshotKey(8, 1))
	var large bytes.Buffer
	head := snapshot.Header{PageSize: 1024, TXID: 4, Base: 1, Pages: 9, Time: at(3).UnixMilli(), Replica: h.arch.Meta().Replica}
	changes := &snapshot.Changes{Base: state.NewTable(1024), Runs: []snapshot.Run{{First: 1, Pages: 9}}}
	if _, err := snapshot.Write(t.Context(), &large, head, chain(1024).states[3], snapshot.WriteOptions{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key     string
		content []byte
	}{
		"larger pages":                {middle, large.Bytes()},
		"another replica's, full":     {full, other.object(full)},
		"another replica's":           {middle, other.object(middle)},
		"another replica's, newest":   {newest, other.object(newest)},
		"adds to another":             {newest, same},
		"of another commit":           {newest, h.object(middle)},
		"an incremental as full":      {full, h.object(middle)},
		"a full one as incremental":   {middle, h.object(full)},
		"other pages":                 {middle, chain(1024).object(middle)},
		"cut off":                     {middle, h.object(middle)[:300]},
		"empty":                       {full, []byte{}},
		"damaged":                     {middle, append([]byte{h.object(middle)[0] ^ 1}, h.object(middle)[1:]...)},
		"with a byte more":            {middle, append(h.object(middle), 0)},
		"a segment for a snapshot":    {middle, h.object(archive.SegmentKey(2))},
		"damaged where its pages are": {middle, flipped(h.object(middle), 120)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := *h
			h.t = t
			b := h.with(tc.key, tc.content)
			for _, h.damaged = range []int{0, 1} {
				for _, id := range []state.TXID{8, 9} {
					if failed := verdict(t, &h, b, id, tc.key); failed != (tc.key == full || h.damaged == 0) {
						t.Errorf("TXID %v: failed: %v", id, failed)
					}
				}
			}
		})
	}
	// Without a part of the chain an older snapshot and the log will do.
	for _, gone := range []string{newest, middle} {
		c := h.copied()
		c.drop(gone)
		for id := range c.last() {
			c.check(id + 1)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = append([]byte(nil), b...)
	b[at] ^= 1
	return b
}

// counting counts the requests for each key and the bytes that were asked for.
type counting struct {
	storage.Bucket
	mu    sync.Mutex
	gets  map[string]int
	bytes map[string]int64
	lists int
}

func count(b storage.Bucket) *counting {
	return &counting{Bucket: b, gets: map[string]int{}, bytes: map[string]int64{}}
}

func (c *counting) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	c.mu.Lock()
	c.gets[key]++
	c.bytes[key] += n
	c.mu.Unlock()
	return c.Bucket.Get(ctx, key, off, n)
}

func (c *counting) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	c.mu.Lock()
	c.lists++
	c.mu.Unlock()
	return c.Bucket.List(ctx, prefix, after, fn)
}

// total is the number of Gets of keys with a prefix.
func (c *counting) total(prefix string) (n int) {
	for key, gets := range c.gets {
		if strings.HasPrefix(key, prefix) {
			n += gets
		}
	}
	return n
}

// What newer snapshots have is not downloaded from older ones, and small ones
// take one request.
func TestChainDownload(t *testing.T) {
	t.Parallel()
	h := begin(t, 65536, 320) // 20 MB
	change := func(first, last int) state.TXID {
		now := append(pages(nil), h.states[len(h.states)-1]...)
		for i := first - 1; i < last; i++ {
			now[i] = h.page()
		}
		h.states, h.times = append(h.states, now), append(h.times, at(len(h.times)))
		return h.last()
	}
	h.noise = true
	half := change(161, 320)
	h.incremental(half, 1)
	few := change(20, 22)
	h.incremental(few, half)
	more := change(200, 203)
	h.incremental(more, few)
	for _, id := range []state.TXID{half, few, more} {
		b := count(h.bucket)
		opts := options(t, b)
		opts.Target.TXID = id
		var most, total int64
		var mu sync.Mutex
		opts.Progress = func(done, of int64) {
			mu.Lock()
			defer mu.Unlock()
			most, total = max(most, done), of
		}
		res, err := restore.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		h.compare(id, res)
		size := func(key string) int64 { return int64(len(h.object(key))) }
		full, second := archive.SnapshotKey(1, 0), archive.SnapshotKey(half, 1)
		if got := b.bytes[full]; got > size(full)*6/10 {
			t.Errorf("TXID %v: %d of %d bytes were read of the first snapshot, of which half is needed", id, got, size(full))
		}
		if got := b.bytes[second]; got > size(second)+1<<18 {
			t.Errorf("TXID %v: %d of %d bytes were read of the second", id, got, size(second))
		}
		for _, key := range []string{archive.SnapshotKey(few, half), archive.SnapshotKey(more, few)} {
			if n := b.gets[key]; n > 1 {
				t.Errorf("TXID %v: %d requests for %s", id, n, key)
			}
		}
		if most != total || total != res.Plan.Download {
			t.Errorf("TXID %v: %d of %d bytes, the plan has %d", id, most, total, res.Plan.Download)
		}
		if n := len(b.gets) - 1; n != res.Plan.Objects || res.Plan.Snapshots != n || res.Plan.Snapshot != archive.SnapshotKey(id, id-1) {
			t.Errorf("TXID %v: %d objects were read, plan %+v", id, n, res.Plan)
		}
	}
}

// A gap that shows only when the log is read is told in the same way.
func TestInHiddenGap(t *testing.T) {
	t.Parallel()
	h := small(t) // segments from TXID 2, 5
	h.commits(5)
	h.segment() // 8 to 12
	h.drop(archive.SegmentKey(5))
	for says, target := range map[string]restore.Target{
		"the newest commit, TXID 12, can't be restored, since commits up to it are missing; the nearest is TXID 4 (":               {},
		"TXID 12, current at 2026-01-02T03:04:16Z, can't be restored, since commits up to it are missing; the nearest is TXID 4 (": {Time: at(11)},
		"TXID 9 can't be restored, since commits up to it are missing; the nearest is TXID 4 (":                                    {TXID: 9},
		"2026-01-02T03:04:09.000Z can't be restored, since commits up to it are missing; the nearest is TXID 4 (":                  {Time: at(4)},
	} {
		for _, dry := range []bool{true, false} {
			opts := options(t, h.bucket)
			opts.Target, opts.DryRun = target, dry
			_, err := restore.Run(t.Context(), opts)
			if !errors.Is(err, archive.ErrOutOfRange) || !strings.HasPrefix(err.Error(), says) {
				t.Errorf("%+v, dry run %v: %v", target, dry, err)
			}
			assertFiles(t, filepath.Dir(opts.Output))
		}
	}
}

// A commit in a gap is an error that names what can be restored around it, by
// TXID and by time, and nothing is written.
func TestInGap(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 5)
	h.commits(29)
	for _, last := range []state.TXID{5, 9, 14, 20, 25, 30} {
		h.segmentUpTo(last)
	}
	h.incremental(12, 1)
	h.incremental(20, 12)
	h.pack(2, 9)
	h.drop(archive.SegmentKey(10), archive.SegmentKey(15))
	// 1 to 9, 12 alone, 20 to 30
	for name, tc := range map[string]struct {
		target restore.Target
		want   state.TXID // 0: an error
		says   string
	}{
		"before the gap":        {restore.Target{TXID: 9}, 9, ""},
		"in the gap":            {restore.Target{TXID: 10}, 0, "TXID 10 lies in a gap of what can be restored, between TXID 9 (2026-01-02T03:04:13.000Z) and TXID 12 (2026-01-02T03:04:16.000Z)"},
		"a snapshot in it":      {restore.Target{TXID: 12}, 12, ""},
		"after that":            {restore.Target{TXID: 13}, 0, "between TXID 12 (2026-01-02T03:04:16.000Z) and TXID 20 (2026-01-02T03:04:24.000Z)"},
		"behind it":             {restore.Target{TXID: 20}, 20, ""},
		"the newest":            {restore.Target{}, 30, ""},
		"the last moment":       {restore.Target{Time: at(8)}, 9, ""},
		"a moment in the gap":   {restore.Target{Time: at(9)}, 0, "2026-01-02T03:04:14.000Z lies in a gap"},
		"just after the last":   {restore.Target{Time: at(8).Add(1e6)}, 0, "2026-01-02T03:04:13.001Z lies in a gap of what can be restored, between TXID 9 (2026-01-02T03:04:13.000Z) and TXID 12"},
		"the snapshot's moment": {restore.Target{Time: at(11)}, 12, ""},
		"after that moment":     {restore.Target{Time: at(12)}, 0, "between TXID 12 (2026-01-02T03:04:16.000Z) and TXID 20"},
		"where it goes on":      {restore.Target{Time: at(19)}, 20, ""},
		"just before that":      {restore.Target{Time: at(19).Add(-1e6)}, 0, "lies in a gap"},
		"after that again":      {restore.Target{Time: at(20).Add(1e6)}, 21, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := *h
			h.t = t
			for _, dry := range []bool{true, false} {
				opts := options(t, h.bucket)
				opts.Target, opts.DryRun = tc.target, dry
				res, err := restore.Run(t.Context(), opts)
				if tc.want != 0 {
					if err != nil || res.TXID != tc.want || res.AfterLast {
						t.Fatalf("result %+v, %v", res, err)
					}
					if !dry {
						h.compare(tc.want, res)
					}
					continue
				}
				const all = "; restorable: TXID 1 (2026-01-02T03:04:05.000Z) to TXID 9 (2026-01-02T03:04:13.000Z); " +
					"TXID 20 (2026-01-02T03:04:24.000Z) to TXID 30 (2026-01-02T03:04:34.000Z); single snapshot TXID 12 (2026-01-02T03:04:16.000Z)"
				if !errors.Is(err, archive.ErrOutOfRange) || !strings.Contains(err.Error(), tc.says) || !strings.HasSuffix(err.Error(), all) {
					t.Errorf("dry run %v: %v", dry, err)
				}
			}
		})
	}
}
