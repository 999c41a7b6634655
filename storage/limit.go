package storage

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// DefaultInFlight is how many uploads are under way at a time where nothing else is
// set. It is enough to keep one service busy, and few enough for one machine when
// ten thousand databases have something to ship.
const DefaultInFlight = 32

// Of so many uploads at a time one may be a stream.
const uploadsPerStream = 4

// bodyTurn is for how long an object that is being read holds a place, counted from
// when it begins to arrive.
const bodyTurn = 5 * time.Second

// Limits bounds what all buckets of a process ask of storage together: how many
// requests are under way at a time, and how many begin in a second. Who comes first
// is served first. It is safe for concurrent use.
//
// There are three kinds of places, so that what is slow never holds up what is
// quick:
//
//   - for Puts of unknown size, a quarter of the limit, or one: these are snapshots
//     and packs, which can take hours, and memory for several parts each;
//   - for Puts of a known size, the rest of it; only with a limit of one do they
//     share that;
//   - for Get, List and Delete, as many again as the limit.
//
// A Put holds its place until it returns. A Get holds one until its body was read to
// the end, has failed or is closed, but for five seconds at most after it began to
// arrive; a List until it returns, but for five seconds at most after the first
// object was shown. So these bound those who hurry; who takes longer waits for
// something else than storage, or moves more than a limit on requests is about.
//
// That bound is also why no two can wait for each other for ever. A Put may wait for
// its body, and that body for reads through the same Limits, as when objects are
// joined; but who holds a place to read loses it while it waits. Only a body that
// waits for another Put would be too much to ask.
//
// What is counted are calls of [Bucket]: an upload in parts, a listing of many pages,
// and whatever a backend tries again are one each, since the backend is below. Its
// own count tells of them: see [Count].
type Limits struct {
	uploads, streams, others *semaphore.Weighted
	// pace is nil if the rate is not limited.
	pace *rate.Limiter
}

// NewLimits gives limits of inFlight uploads at a time, less than 1 being
// [DefaultInFlight], of as many other requests, and of perSecond requests a second, 0 or less being no limit.
// After a pause the requests of one second, or one at least, may begin at once.
func NewLimits(inFlight int, perSecond float64) *Limits {
	if inFlight < 1 {
		inFlight = DefaultInFlight
	}
	streams := max(inFlight/uploadsPerStream, 1)
	l := &Limits{streams: semaphore.NewWeighted(int64(streams)), others: semaphore.NewWeighted(int64(inFlight))}
	if l.uploads = l.streams; inFlight > streams {
		l.uploads = semaphore.NewWeighted(int64(inFlight - streams))
	}
	if perSecond > 0 {
		burst := math.Ceil(min(perSecond, math.MaxInt32))
		l.pace = rate.NewLimiter(rate.Limit(perSecond), int(burst))
	}
	return l
}

// limited is the Bucket that [Limits.Bucket] makes.
type limited struct {
	bucket Bucket
	limits *Limits
}

// limitedRequester is a limited bucket that counts its own requests.
type limitedRequester struct {
	limited
	requester
}

// Bucket gives a Bucket that passes every call on to b, once there is a place for it.
// A call whose context ends before that fails with the context's error, and b does
// not hear of it.
func (l *Limits) Bucket(b Bucket) Bucket {
	if actual, ok := b.(requester); ok {
		return limitedRequester{limited{b, l}, actual}
	}
	return limited{b, l}
}

// Put implements [Bucket].
func (b limited) Put(ctx context.Context, key string, body io.Reader, opts PutOptions) error {
	places := b.limits.uploads
	if opts.Size < 0 {
		places = b.limits.streams
	}
	p, err := b.limits.enter(ctx, places)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer p.leave()
	return b.bucket.Put(ctx, key, body, opts)
}

// Get implements [Bucket].
func (b limited) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	p, err := b.limits.enter(ctx, b.limits.others)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	got := false
	defer func() {
		if !got {
			p.leave()
		}
	}()
	r, err := b.bucket.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	got = true
	p.leaveSoon()
	return &limitedBody{r, p}, nil
}

// List implements [Bucket].
func (b limited) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	p, err := b.limits.enter(ctx, b.limits.others)
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	defer p.leave()
	return b.bucket.List(ctx, prefix, after, func(info Info) error {
		p.leaveSoon()
		return fn(info)
	})
}

// Delete implements [Bucket].
func (b limited) Delete(ctx context.Context, key string) error {
	p, err := b.limits.enter(ctx, b.limits.others)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	defer p.leave()
	return b.bucket.Delete(ctx, key)
}

// limitedBody is the body of a Get, which gives its place back when it ends.
type limitedBody struct {
	io.ReadCloser
	place *place
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.place.leave()
	}
	return n, err
}

// Close implements io.Closer.
func (b *limitedBody) Close() error {
	defer b.place.leave()
	return b.ReadCloser.Close()
}

// place is one that a request holds. Its methods are for one goroutine.
type place struct {
	release func() // safe to be called again, and from anywhere
	timer   *time.Timer
}

// enter waits for a place, and then for the request's turn in the rate: so those
// that wait for that are few, and in the order in which they came.
func (l *Limits) enter(ctx context.Context, places *semaphore.Weighted) (*place, error) {
	if err := places.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other requests: %w", err)
	}
	p := &place{release: sync.OnceFunc(func() { places.Release(1) })}
	if err := l.wait(ctx); err != nil {
		p.leave()
		return nil, err
	}
	return p, nil
}

// wait waits for the next request's turn in the rate.
func (l *Limits) wait(ctx context.Context) error {
	if l.pace == nil {
		return nil
	}
	turn := l.pace.Reserve() // its Wait gives up before ctx does
	delay := turn.Delay()
	if delay == 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return fmt.Errorf("wait for the limit of requests a second: %w", ctx.Err())
	}
}

// leave gives the place back, unless that was done.
func (p *place) leave() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.release()
}

// leaveSoon gives it back after a while, unless that comes before. More than one call
// is as good as one.
func (p *place) leaveSoon() {
	if p.timer == nil {
		p.timer = time.AfterFunc(bodyTurn, p.release)
	}
}
