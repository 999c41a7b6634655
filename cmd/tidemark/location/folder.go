package location

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"tidemark/storage"
	"tidemark/storage/file"
)

// openFolder gives the bucket in a folder. With opts.Create a folder that is
// missing is made by the first Put, not before: a command that fails because
// its database is none leaves nothing behind.
func openFolder(root string, opts Options) (storage.Bucket, error) {
	b, err := file.Open(root, file.Options{})
	if err == nil {
		return b, nil
	}
	if opts.Create && errors.Is(err, storage.ErrNoBucket) {
		return &newFolder{root: root}, nil
	}
	return nil, err
}

// newFolder is the bucket in a folder that does not exist yet: empty until
// the first Put. It is safe for concurrent use.
type newFolder struct {
	root string

	mu     sync.Mutex
	bucket storage.Bucket // nil until the folder was made; guarded by mu
}

// made gives the bucket, or nil if there was no Put so far.
func (f *newFolder) made() storage.Bucket {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bucket
}

// make gives the bucket and makes the folder if need be.
func (f *newFolder) make() (storage.Bucket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bucket == nil {
		b, err := file.Open(f.root, file.Options{Create: true})
		if err != nil {
			return nil, err
		}
		f.bucket = b
	}
	return f.bucket, nil
}

// Put implements [storage.Bucket].
func (f *newFolder) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	b, err := f.make()
	if err != nil {
		return err
	}
	return b.Put(ctx, key, body, opts)
}

// Get implements [storage.Bucket].
func (f *newFolder) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if b := f.made(); b != nil {
		return b.Get(ctx, key, off, n)
	}
	return nil, fmt.Errorf("get %s from %s: %w", key, f.root, storage.ErrNotExist)
}

// List implements [storage.Bucket].
func (f *newFolder) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if b := f.made(); b != nil {
		return b.List(ctx, prefix, after, fn)
	}
	return ctx.Err()
}

// Delete implements [storage.Bucket].
func (f *newFolder) Delete(ctx context.Context, key string) error {
	if b := f.made(); b != nil {
		return b.Delete(ctx, key)
	}
	return ctx.Err()
}
