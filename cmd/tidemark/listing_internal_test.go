package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// vanishing is a bucket that lists snapshots and does not have them, some times.
type vanishing struct {
	storage.Bucket
	times, lists int
}

func (b *vanishing) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if key == archive.SnapshotKey(1, 0) && b.times > 0 {
		b.times--
		return nil, storage.ErrNotExist
	}
	return b.Bucket.Get(ctx, key, off, n)
}

func (b *vanishing) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	b.lists++
	return b.Bucket.List(ctx, prefix, after, fn)
}

// A replica that changes while it is listed is listed again, some times.
func TestListingAgain(t *testing.T) {
	t.Parallel()
	inner := mem.New()
	a, err := archive.Create(t.Context(), inner, 512, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	h := snapshot.Header{PageSize: 512, TXID: 1, Pages: 1, Time: 1000}
	if _, err := a.PutSnapshot(t.Context(), h, databaseFile{make([]byte, 512), 512}, snapshot.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for times, lists := range map[int]int{0: 1, 1: 2, 4: 5} {
		b := &vanishing{Bucket: inner, times: times}
		l, err := readListing(t.Context(), b)
		if err != nil || len(l.ranges) != 1 || l.head.Last != 1 || b.lists != lists {
			t.Errorf("gone %d times: listed %d times, %v, %v", times, b.lists, l.ranges, err)
		}
	}
	b := &vanishing{Bucket: inner, times: 1 << 30}
	if _, err := readListing(t.Context(), b); !errors.Is(err, storage.ErrNotExist) || b.lists > listingTries {
		t.Errorf("gone for good: listed %d times, %v", b.lists, err)
	}
}
