package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"tidemark/storage"
)

// Open reads what a replica is and what it holds, with one List and one Get.
// ErrNoReplica says that there is none.
func Open(ctx context.Context, b storage.Bucket) (*Archive, error) {
	a := &Archive{bucket: b}
	err := a.list(ctx)
	if err == nil {
		err = a.listed()
	}
	if err == nil {
		a.raw, err = a.readMeta(ctx)
	}
	if err == nil {
		a.meta, err = parseMeta(a.raw)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// OpenAtOnce is Open for who waits for it and may be far from storage: it makes
// both requests at once. Where there is no replica it makes one more than Open.
func OpenAtOnce(ctx context.Context, b storage.Bucket) (*Archive, error) {
	a := &Archive{bucket: b}
	var early error
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.list(gctx) })
	g.Go(func() error {
		a.raw, early = a.readMeta(gctx)
		return nil // the listing tells what it means
	})
	err := g.Wait()
	if err == nil {
		err = a.listed()
	}
	if err == nil && errors.Is(early, storage.ErrNotExist) {
		a.raw, early = a.readMeta(ctx) // it was put between the two
	}
	if err = cmp.Or(err, early); err == nil {
		a.meta, err = parseMeta(a.raw)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// list reads the listing.
func (a *Archive) list(ctx context.Context) error {
	err := a.bucket.List(ctx, "", "", func(o storage.Info) error {
		a.listing.add(o)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list replica: %w", err)
	}
	a.listing.settle()
	return nil
}

// listed tells whether what was listed is a replica.
func (a *Archive) listed() error {
	if a.listing.meta {
		return nil
	}
	if n := len(a.listing.Segments) + len(a.listing.Snapshots); n > 0 {
		return fmt.Errorf("%w: %s is missing beside %d objects of a replica", ErrBroken, metaKey, n)
	}
	return fmt.Errorf("%w: there is no %s", ErrNoReplica, metaKey)
}

// readMeta reads tidemark.json.
func (a *Archive) readMeta(ctx context.Context) ([]byte, error) {
	r, err := a.bucket.Get(ctx, metaKey, 0, maxMetaSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", metaKey, err)
	}
	raw, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", metaKey, err)
	}
	return raw, nil
}
