package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// unfenced is the Bucket that [Unfenced] makes.
type unfenced struct {
	Bucket
}

// unfencedRequester is an unfenced bucket that counts its own requests.
type unfencedRequester struct {
	unfenced
	requester
}

// Unfenced returns a Bucket for a store that ignores the condition of a Put
// with IfAbsent, or refuses it ([ErrUnconditional]). It looks whether the
// object exists, by reading its first byte, and puts it without the condition
// if not. That is a best effort and not what [PutOptions].IfAbsent promises: of
// two Puts that look at the same moment both succeed, and the later one
// replaces the earlier one's object. All else is passed on to b.
func Unfenced(b Bucket) Bucket {
	if actual, ok := b.(requester); ok {
		return unfencedRequester{unfenced{b}, actual}
	}
	return unfenced{b}
}

// Put implements [Bucket].
func (u unfenced) Put(ctx context.Context, key string, body io.Reader, opts PutOptions) error {
	if opts.IfAbsent {
		if err := u.absent(ctx, key); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		opts.IfAbsent = false
	}
	return u.Bucket.Put(ctx, key, body, opts)
}

// absent returns nil if there is no object with the key, or ErrExists.
func (u unfenced) absent(ctx context.Context, key string) error {
	r, err := u.Get(ctx, key, 0, 1)
	switch {
	case errors.Is(err, ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("see whether it exists: %w", err)
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("see whether it exists: %w", err)
	}
	return ErrExists
}
