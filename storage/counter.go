package storage

import (
	"context"
	"io"
	"sync/atomic"
)

// Requests counts requests to a bucket by kind.
type Requests struct {
	List   int64 `json:"list"`
	Get    int64 `json:"get"`
	Put    int64 `json:"put"`
	Delete int64 `json:"delete,omitempty"`
}

// Sub returns the requests made since an earlier count.
func (r Requests) Sub(earlier Requests) Requests {
	return Requests{
		List:   r.List - earlier.List,
		Get:    r.Get - earlier.Get,
		Put:    r.Put - earlier.Put,
		Delete: r.Delete - earlier.Delete,
	}
}

// requester is what a backend implements that counts its real requests: the
// pages of a listing, the parts of an upload, and each retry.
type requester interface {
	Requests() Requests
}

// Counter is a [Bucket] that counts what is asked of another. Create one with
// [Count]. It is safe for concurrent use.
type Counter struct {
	bucket Bucket
	// actual is bucket if it counts its own requests, else nil, and then the
	// calls are counted below.
	actual requester
	base   Requests

	list, get, put, del atomic.Int64
}

var _ Bucket = (*Counter)(nil)

// Count returns a Bucket that passes every call on to b and counts it. If b
// has a method Requests() Requests of its own, as the S3 backend has, the
// counter reports b's real requests instead of the calls.
func Count(b Bucket) *Counter {
	c := &Counter{bucket: b}
	if actual, ok := b.(requester); ok {
		c.actual, c.base = actual, actual.Requests()
	}
	return c
}

// Requests returns what was counted since [Count].
func (c *Counter) Requests() Requests {
	if c.actual != nil {
		return c.actual.Requests().Sub(c.base)
	}
	return Requests{
		List:   c.list.Load(),
		Get:    c.get.Load(),
		Put:    c.put.Load(),
		Delete: c.del.Load(),
	}
}

// Put implements [Bucket].
func (c *Counter) Put(ctx context.Context, key string, body io.Reader, opts PutOptions) error {
	c.put.Add(1)
	return c.bucket.Put(ctx, key, body, opts)
}

// Get implements [Bucket].
func (c *Counter) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	c.get.Add(1)
	return c.bucket.Get(ctx, key, off, n)
}

// List implements [Bucket].
func (c *Counter) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	c.list.Add(1)
	return c.bucket.List(ctx, prefix, after, fn)
}

// Delete implements [Bucket].
func (c *Counter) Delete(ctx context.Context, key string) error {
	c.del.Add(1)
	return c.bucket.Delete(ctx, key)
}
