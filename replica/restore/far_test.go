package restore_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// trip is how long a message takes to storage and back.
const trip = 30 * time.Millisecond

// far is a bucket that is one round trip away, by the virtual clock of a synctest
// bubble. Another connection takes two more (for TCP and TLS 1.3), each page of a
// listing one.
type far struct {
	storage.Bucket
	mu    sync.Mutex
	idle  int // connections that nobody uses
	conns int
	gets  int
}

func (f *far) connect(ctx context.Context) {
	f.mu.Lock()
	fresh := f.idle == 0
	if fresh {
		f.conns++
	} else {
		f.idle--
	}
	f.mu.Unlock()
	if fresh {
		wait(ctx, 2*trip)
	}
}

// wait returns when a time has passed, by the bubble's clock.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (f *far) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle++
}

func (f *far) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	f.connect(ctx)
	wait(ctx, trip)
	f.mu.Lock()
	f.gets++
	f.mu.Unlock()
	r, err := f.Bucket.Get(ctx, key, off, n)
	if err != nil {
		f.leave()
		return nil, err
	}
	return &farBody{ReadCloser: r, leave: sync.OnceFunc(f.leave)}, nil
}

func (f *far) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	f.connect(ctx)
	defer f.leave()
	wait(ctx, trip)
	n := 0
	return f.Bucket.List(ctx, prefix, after, func(o storage.Info) error {
		if n++; n%1000 == 0 {
			wait(ctx, trip)
		}
		return fn(o)
	})
}

type farBody struct {
	io.ReadCloser
	leave func()
}

func (b *farBody) Close() error {
	b.leave()
	return b.ReadCloser.Close()
}

// trips counts the round trips that follow one another in a restore.
func trips(t *testing.T, b storage.Bucket, target restore.Target, check func(restore.Result)) (n int, f *far) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f = &far{Bucket: b}
		opts := options(t, f)
		opts.Target = target
		began := time.Now()
		res, err := restore.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		n = int(time.Since(began) / trip)
		check(res)
	})
	return n, f
}

// A database of 300 KB takes eight round trips at most, connections included.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	h := begin(t, 4096, 75)
	h.commits(40)
	for _, last := range []state.TXID{2, 5, 9, 14, 20, 27, 33, 41} {
		h.segmentUpTo(last)
	}
	h.incremental(9, 1)
	h.incremental(14, 9)
	h.incremental(20, 14)
	h.pack(2, 14)
	mark := archive.Mark{Name: "here", TXID: 30, Time: h.times[29], Created: at(100)}
	if err := h.arch.PutMark(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		target restore.Target
		want   state.TXID
	}{
		"the newest":       {restore.Target{}, 41},
		"a TXID":           {restore.Target{TXID: 30}, 30},
		"in a pack":        {restore.Target{TXID: 12}, 12},
		"after the last":   {restore.Target{TXID: 99}, 41},
		"a mark":           {restore.Target{Mark: "here"}, 30},
		"a time":           {restore.Target{Time: h.times[34]}, 35},
		"an earlier time":  {restore.Target{Time: h.times[10]}, 11},
		"a time after all": {restore.Target{Time: at(1000)}, 41},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := *h
			n, f := trips(t, h.bucket, tc.target, func(res restore.Result) { h.compare(tc.want, res) })
			t.Logf("%d round trips, %d requests, %d connections", n, f.gets+1, f.conns)
			if n > 8 {
				t.Errorf("%d round trips", n)
			}
		})
	}
}

// An hour of a segment a second, before it is packed, is downloaded many at once.
func TestRoundTripsOfTail(t *testing.T) {
	t.Parallel()
	b := mem.New()
	h := newTide(t, b)
	for range 3600 {
		h.put(20)
	}
	n, f := trips(t, b, restore.Target{}, func(res restore.Result) {
		if res.TXID != h.last {
			t.Errorf("TXID %v", res.TXID)
		}
	})
	t.Logf("%d round trips, %d requests, %d connections", n, f.gets+1, f.conns)
	if n > 3600/32+20 || f.gets > 3600+10 || f.conns > 40 {
		t.Errorf("%d round trips, %d requests, %d connections", n, f.gets+1, f.conns)
	}
}
