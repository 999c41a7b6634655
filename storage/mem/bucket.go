// Package mem keeps objects in memory: a [storage.Bucket] for tests, which is
// gone when the process ends.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"tidemark/storage"
)

// Bucket is a [storage.Bucket] in memory. Create one with [New].
type Bucket struct {
	mu sync.RWMutex
	// objects is guarded by mu. Its values are never changed, only replaced,
	// so readers keep theirs without the lock.
	objects map[string][]byte
}

var _ storage.Bucket = (*Bucket)(nil)

// New returns an empty bucket.
func New() *Bucket {
	return &Bucket{objects: make(map[string][]byte)}
}

// Put implements [storage.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(&reader{src: body, err: ctx.Err}); err != nil {
		return fmt.Errorf("put %s: read the body: %w", key, err)
	}
	data := slices.Clip(buf.Bytes())
	if opts.Size >= 0 && int64(len(data)) != opts.Size {
		return fmt.Errorf("put %s: the body has %d bytes, not %d", key, len(data), opts.Size)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if _, ok := b.objects[key]; ok && opts.IfAbsent {
		return fmt.Errorf("put %s: %w", key, storage.ErrExists)
	}
	b.objects[key] = data
	return nil
}

// Get implements [storage.Bucket].
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := check(ctx, key); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	b.mu.RLock()
	data, ok := b.objects[key]
	b.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, storage.ErrNotExist)
	}
	size := int64(len(data))
	if off < 0 || off > size {
		return nil, fmt.Errorf("get %s: %w: offset %d of %d bytes", key, storage.ErrRange, off, size)
	}
	if n < 0 || n > size-off {
		n = size - off
	}
	return io.NopCloser(&reader{src: bytes.NewReader(data[off : off+n]), err: ctx.Err}), nil
}

// List implements [storage.Bucket]. It lists the objects there were at the
// call.
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	var found []storage.Info
	b.mu.RLock()
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if strings.HasPrefix(key, prefix) && key > after {
			found = append(found, storage.Info{Key: key, Size: int64(len(b.objects[key]))})
		}
	}
	b.mu.RUnlock()
	for _, info := range found {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	return nil
}

// Delete implements [storage.Bucket].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

func check(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	return ctx.Err()
}

// reader reads from src while err returns nil: it makes a stream end with its
// context.
type reader struct {
	src io.Reader
	err func() error
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.err(); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}
