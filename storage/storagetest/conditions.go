package storagetest

import (
	"context"
	"fmt"
	"io"

	"tidemark/storage"
)

// IgnoreConditions returns a Bucket that is like b but stores what it is given
// whatever the Put's condition, as services do that do not know If-None-Match.
func IgnoreConditions(b storage.Bucket) storage.Bucket { return ignoring{b} }

type ignoring struct{ storage.Bucket }

// Put implements [storage.Bucket] without PutOptions.IfAbsent.
func (i ignoring) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	opts.IfAbsent = false
	return i.Bucket.Put(ctx, key, body, opts)
}

// RefuseConditions returns a Bucket that is like b but fails each conditional
// Put with [storage.ErrUnconditional], as services do that know If-None-Match
// and say that they don't do it.
func RefuseConditions(b storage.Bucket) storage.Bucket { return refusing{b} }

type refusing struct{ storage.Bucket }

// Put implements [storage.Bucket] but for PutOptions.IfAbsent.
func (r refusing) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if opts.IfAbsent {
		return fmt.Errorf("put %s: %w", key, storage.ErrUnconditional)
	}
	return r.Bucket.Put(ctx, key, body, opts)
}
