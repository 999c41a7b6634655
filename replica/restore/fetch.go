package restore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"tidemark/replica/archive"
	"tidemark/storage"
)

const (
	// chunkSize is one ranged read of the log at most: small objects take one
	// request each.
	chunkSize = 8 << 20
	// ahead is how many chunks are on their way or waiting at once, aheadBytes
	// how long they are together.
	ahead      = 16
	aheadBytes = 3 * chunkSize
)

// chunk is a part of a segment that is being downloaded.
type chunk struct {
	seg  archive.Segment
	off  int64
	size int64
	data []byte
	// err is that the object is gone. What was downloaded before it can still be
	// used; other errors end everything.
	err  error
	done chan struct{} // closed when data or err is there
}

// room bounds the memory for chunks.
type room struct {
	left *semaphore.Weighted // bytes
	free chan []byte         // buffers of whole chunks, to be used again
}

func newRoom() *room {
	return &room{semaphore.NewWeighted(aheadBytes), make(chan []byte, aheadBytes/chunkSize)}
}

// take gives a buffer of a chunk's size. There must be room for it.
func (r *room) take(size int64) []byte {
	if size == chunkSize {
		select {
		case b := <-r.free:
			return b
		default:
		}
	}
	return make([]byte, size)
}

// leave gives a chunk's buffer and its room back.
func (r *room) leave(c *chunk) {
	if len(c.data) == chunkSize {
		select {
		case r.free <- c.data:
		default:
		}
	}
	c.data = nil
	r.left.Release(c.size)
}

// fetch downloads the chunks of the log, several at once, and gives them in
// order. Who takes one leaves it to room.
func (j *job) fetch(ctx context.Context, log []archive.Segment, order chan<- *chunk, r *room) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range log {
		for off := int64(0); off < s.Size; off += chunkSize {
			c := &chunk{seg: s, off: off, size: min(chunkSize, s.Size-off), done: make(chan struct{})}
			if err := r.left.Acquire(ctx, c.size); err != nil {
				return errors.Join(g.Wait(), context.Cause(ctx))
			}
			select {
			case order <- c:
			case <-ctx.Done():
				return errors.Join(g.Wait(), context.Cause(ctx))
			}
			g.Go(func() error { return j.fetchChunk(ctx, c, r) })
		}
	}
	return g.Wait()
}

func (j *job) fetchChunk(ctx context.Context, c *chunk, r *room) error {
	data := r.take(c.size)
	_, err := archive.NewObject(ctx, j.archive.Bucket(), c.seg.Key(), c.seg.Size).ReadAt(data, c.off)
	if err != nil {
		err = fmt.Errorf("download %s: %w", c.seg.Key(), err)
	}
	switch {
	case err == nil:
		j.downloaded(len(data))
		c.data = data
	case errors.Is(err, storage.ErrNotExist):
		c.err = err
	default:
		return err
	}
	close(c.done)
	return nil
}

// chunks reads the chunks of one segment after the other.
type chunks struct {
	ctx   context.Context //nolint:containedctx // io.Reader takes none
	order <-chan *chunk
	room  *room
	next  *chunk // taken from order, not yet of the current segment
	held  *chunk // that rest is of
	rest  []byte
	seg   archive.Segment
}

// begin moves on to a segment, past what was left of the one before it.
func (c *chunks) begin(s archive.Segment) {
	c.seg, c.rest = s, nil
}

func (c *chunks) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		c.release(&c.held)
		if err := c.take(); err != nil {
			return 0, err
		}
		if c.next == nil || c.next.seg.First > c.seg.First {
			return 0, io.EOF
		}
		if c.next.seg != c.seg {
			c.release(&c.next)
			continue
		}
		if c.next.err != nil {
			return 0, c.next.err
		}
		c.held, c.next = c.next, nil
		c.rest = c.held.data
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// release forgets a chunk, so that others have room.
func (c *chunks) release(x **chunk) {
	if *x != nil {
		c.room.leave(*x)
		*x = nil
	}
}

// take waits for the next chunk, if it is not there already; none is the end.
func (c *chunks) take() error {
	if c.next != nil {
		return nil
	}
	select {
	case c.next = <-c.order:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	if c.next == nil {
		return nil
	}
	select {
	case <-c.next.done:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}
