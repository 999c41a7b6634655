package restore_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/file"
	"tidemark/storage/mem"
)

// check restores a commit from a bucket and compares every byte.
func (h *tide) check(b storage.Bucket, target restore.Target, want state.TXID) restore.Result {
	h.t.Helper()
	t := h.t
	opts := options(t, b)
	opts.Target = target
	res, err := restore.Run(t.Context(), opts)
	if err != nil {
		t.Fatalf("%+v: %v", target, err)
	}
	got, err := os.ReadFile(res.Output)
	if err != nil || !bytes.Equal(got, bytes.Join(h.state(want), nil)) || res.TXID != want || !res.Time.Equal(h.when(want)) {
		t.Errorf("%+v: not the state of TXID %v: %+v, %v", target, want, res, err)
	}
	return res
}

// A day of a segment a second is restored from its beginning with less than 200
// requests, and listed with less than 20.
func TestRequestsOfDay(t *testing.T) {
	t.Parallel()
	b := mem.New()
	h := newTide(t, b)
	h.day(1)
	if h.last < 86400 {
		t.Fatalf("only %v segments", h.last)
	}
	for name, tc := range map[string]struct {
		target restore.Target
		want   state.TXID
	}{
		"the newest":         {restore.Target{}, h.last},
		"a TXID":             {restore.Target{TXID: h.last - 20}, h.last - 20},
		"a time":             {restore.Target{Time: h.when(h.last - 3)}, h.last - 3},
		"a time in a pack":   {restore.Target{Time: h.when(50_000)}, 50_000},
		"the first":          {restore.Target{TXID: 1}, 1},
		"after the last one": {restore.Target{TXID: h.last + 1}, h.last},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := *h
			h.t = t
			count := storage.Count(b)
			keys := 0
			_ = b.List(t.Context(), "", "", func(storage.Info) error { keys++; return nil })
			res := h.check(count, tc.target, tc.want)
			n := count.Requests()
			pages := int64(keys+999) / 1000 // of a listing in S3
			t.Logf("%d objects of %d, %d keys: %d requests to read, %d to list", res.Plan.Objects, res.Plan.Download, keys, n.Get, pages*n.List)
			if n.Get+pages*n.List >= 200 || pages*n.List >= 20 || n.Put+n.Delete > 0 {
				t.Errorf("%+v for %+v", n, res.Plan)
			}
		})
	}
	t.Run("log", func(t *testing.T) {
		t.Parallel()
		count := storage.Count(b)
		a, err := archive.Open(t.Context(), count)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Ranges(t.Context())
		if err != nil || len(r) != 1 || r[0].FirstTXID != 1 || r[0].LastTXID != h.last {
			t.Errorf("%v, %v", r, err)
		}
		t.Logf("%d requests for the ranges", count.Requests().Get)
		if n := count.Requests().Get; n > 80 {
			t.Errorf("%d requests for the ranges", n)
		}
	})
}

// peak is the most memory that was in use, in bytes.
type peak struct {
	mu    sync.Mutex
	bytes uint64
}

func (p *peak) look() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes = max(p.bytes, m.HeapInuse)
}

// watched is a bucket that looks how much memory is in use when it has answered.
type watched struct {
	storage.Bucket
	*peak
}

func (w watched) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	defer w.look()
	return w.Bucket.Get(ctx, key, off, n)
}

// A history of 1,000,000 commits (with TIDEMARK_TEST_COMMITS=1000000) is listed,
// in part and as a whole, and restored at random points, in memory that does not
// depend on its length.
//
//nolint:paralleltest // It watches the memory of the process.
func TestLongHistory(t *testing.T) {
	commits := 100_000
	if text := os.Getenv("TIDEMARK_TEST_COMMITS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		commits = n
	}
	b, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := newTide(t, b)
	const objects = 21*4096 + 63*64 + 71
	each := max(1, commits/objects) // commits in a segment
	if more := commits - each*objects; more > 0 {
		h.pack(1, more)
	}
	h.day(each)
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // memory, not garbage
	runtime.GC()
	var p peak
	p.look()
	before := p.bytes
	h.listAll(&p)
	listed := p.bytes - before
	p.bytes = before
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		id := state.TXID(rng.Uint64N(uint64(h.last))) + 1
		count := storage.Count(b)
		h.check(watched{count, &p}, restore.Target{TXID: id}, id)
		if n := count.Requests().Get; n >= 200 {
			t.Errorf("TXID %v: %d requests", id, n)
		}
	}
	restored := p.bytes - before
	t.Logf("%v commits: %d MiB more in use to list them, %d MiB to restore one", h.last, listed>>20, restored>>20)
	if listed > 64<<20 || restored > 128<<20 {
		t.Errorf("%d bytes to list, %d to restore", listed, restored)
	}
}

// listAll lists the newest commits and all.
func (h *tide) listAll(p *peak) {
	h.t.Helper()
	a, err := archive.Open(h.t.Context(), h.bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, limit := range []int{50, 0} {
		id, n := h.last, 0
		err := a.Commits(h.t.Context(), archive.Query{Limit: limit}, func(c archive.Commit) error {
			if c.TXID != id || !c.Time.Equal(h.when(id)) || c.Snapshot != (id == 1) {
				h.t.Errorf("commit %+v, want TXID %v", c, id)
			}
			if n%10_000 == 0 {
				p.look()
			}
			id--
			n++
			return nil
		})
		if err != nil || limit == 0 && id != 0 || limit > 0 && n != limit {
			h.t.Errorf("limit %d: listed %d, down to %v: %v", limit, n, id, err)
		}
	}
}
