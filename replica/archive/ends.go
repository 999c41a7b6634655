package archive

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/errgroup"
)

const (
	// tailSize is how much of an object's end is read before it is known how
	// long its index is, and maxTail that of a large one.
	tailSize = 64 << 10
	maxTail  = 512 << 10
	// perIndex is how many bytes of an object there are to one of its index, at
	// the least: 12 bytes tell of a block of 256 KiB, which mostly is stored in a
	// quarter of that or more.
	perIndex = 4 << 10
)

// ends is an object of which both ends have been read.
type ends struct {
	*Object
	head, tail []byte
	from       int64 // where tail begins
}

// ends reads the first n bytes of an object and its end, with both requests at
// once, or all of it with one if it is small. What its reader asks for besides is
// read then.
func (a *Archive) ends(ctx context.Context, key string, size int64, n int) (*ends, error) {
	tail := min(size, max(tailSize, min(maxTail, size/perIndex)))
	e := &ends{Object: NewObject(ctx, a.bucket, key, size), tail: make([]byte, tail), from: size - tail}
	if e.from > 0 {
		e.head = make([]byte, n)
	}
	g, gctx := errgroup.WithContext(ctx)
	part := NewObject(gctx, a.bucket, key, size)
	if e.from > 0 {
		g.Go(func() error {
			_, err := part.ReadAt(e.head, 0)
			return err
		})
	}
	g.Go(func() error {
		_, err := part.ReadAt(e.tail, e.from)
		return err
	})
	err := g.Wait()
	if errors.Is(err, io.EOF) {
		// It is shorter than the listing says. Its reader finds out what is wrong.
		e.head, e.tail, e.from, err = nil, nil, size+1, nil
	}
	return e, err
}

// ReadAt gives what is there, or reads a range with one Get.
func (e *ends) ReadAt(p []byte, off int64) (int, error) {
	switch end := off + int64(len(p)); {
	case off >= e.from && end-e.from <= int64(len(e.tail)):
		return copy(p, e.tail[off-e.from:]), nil
	case end <= int64(len(e.head)):
		return copy(p, e.head[off:]), nil
	default:
		return e.Object.ReadAt(p, off)
	}
}
