package restore

import (
	"bytes"
	"context"
	"io"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/storage"
)

const (
	// nearBytes is how much is read before it is asked for, and nearAtOnce with
	// how many requests at a time. What takes no longer than some round trips to
	// download is read in one, rather than in as many as it takes to find out what
	// of it is needed.
	nearBytes  = 4 << 20
	nearAtOnce = 32
)

// near is a bucket that has begun to read some objects as a whole, and answers
// requests for them from memory.
type near struct {
	storage.Bucket
	objects map[string]*fetched
	group   errgroup.Group
	cancel  context.CancelFunc
}

// fetched is one of these objects.
type fetched struct {
	data []byte
	err  error
	done chan struct{} // closed when data or err is there
}

// fetch begins to read what a plan needs, if that is not too much. It must not be
// called beside Get, and be followed by end.
func (n *near) fetch(ctx context.Context, p archive.Plan) {
	ctx, n.cancel = context.WithCancel(ctx)
	if p.Download() > nearBytes {
		return
	}
	n.objects = make(map[string]*fetched, len(p.Snapshots)+len(p.Segments))
	var order []string
	add := func(key string, size int64) {
		n.objects[key] = &fetched{data: make([]byte, size), done: make(chan struct{})}
		order = append(order, key)
	}
	for _, s := range p.Snapshots {
		add(s.Key(), s.Size)
	}
	for _, s := range p.Segments {
		add(s.Key(), s.Size)
	}
	n.group.Go(func() error {
		var g errgroup.Group
		g.SetLimit(nearAtOnce)
		for _, key := range order {
			g.Go(func() error {
				f := n.objects[key]
				defer close(f.done)
				f.data, f.err = n.read(ctx, key, f.data)
				return nil // it is for who asks for this object
			})
		}
		return g.Wait()
	})
}

// read reads an object into b, or what there is of it.
func (n *near) read(ctx context.Context, key string, b []byte) ([]byte, error) {
	r, err := n.Bucket.Get(ctx, key, 0, int64(len(b)))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	got, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // bare by contract: the object has ended
		err = nil
	}
	return b[:got], err
}

// end gives up what has not been read yet.
func (n *near) end() {
	n.cancel()
	_ = n.group.Wait() // never fails
}

// Get implements [storage.Bucket].
func (n *near) Get(ctx context.Context, key string, off, size int64) (io.ReadCloser, error) {
	f := n.objects[key]
	if f == nil {
		return n.Bucket.Get(ctx, key, off, size)
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if f.err != nil {
		return nil, f.err
	}
	if off < 0 || off > int64(len(f.data)) {
		return n.Bucket.Get(ctx, key, off, size) // which says what is wrong
	}
	b := f.data[off:]
	if size >= 0 && size < int64(len(b)) {
		b = b[:size]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
