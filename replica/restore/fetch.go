package restore

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"tidemark/replica/archive"
)

const (
	// chunkSize is one ranged read of the log at most: small objects take one
	// request each.
	chunkSize = 8 << 20
	// ahead is how many chunks are on their way or waiting at once, aheadBytes
	// how long they are together.
	ahead      = 32
	aheadBytes = 3 * chunkSize
)

// chunk is a part of a segment that is being downloaded.
type chunk struct {
	seg  archive.Segment
	off  int64
	size int64
	data []byte
	// err is why there is none. What was downloaded before it can still be used.
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

// download is the log on its way: its chunks in order. Who takes one leaves it to
// room.
type download struct {
	order  chan *chunk
	room   *room
	group  errgroup.Group
	cancel context.CancelFunc
}

// download begins to read the log, several chunks at once. It must be ended.
func (j *job) download(ctx context.Context, log []archive.Segment) *download {
	ctx, cancel := context.WithCancel(ctx)
	d := &download{order: make(chan *chunk, ahead-1), room: newRoom(), cancel: cancel}
	d.group.Go(func() error {
		defer close(d.order)
		return j.fetch(ctx, log, d)
	})
	return d
}

// end gives up what has not come yet. The target can lie before it.
func (d *download) end() {
	d.cancel()
	_ = d.group.Wait() // nobody waits for it any more; chunks have their own errors
}

// fetch downloads the chunks of the log.
func (j *job) fetch(ctx context.Context, log []archive.Segment, d *download) error {
	for _, s := range log {
		for off := int64(0); off < s.Size; off += chunkSize {
			c := &chunk{seg: s, off: off, size: min(chunkSize, s.Size-off), done: make(chan struct{})}
			if err := d.room.left.Acquire(ctx, c.size); err != nil {
				return err
			}
			select {
			case d.order <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			d.group.Go(func() error {
				defer close(c.done)
				c.data, c.err = j.fetchChunk(ctx, c, d.room)
				return nil
			})
		}
	}
	return nil
}

func (j *job) fetchChunk(ctx context.Context, c *chunk, r *room) ([]byte, error) {
	data := r.take(c.size)
	_, err := archive.NewObject(ctx, j.archive.Bucket(), c.seg.Key(), c.seg.Size).ReadAt(data, c.off)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", c.seg.Key(), err)
	}
	j.downloaded(len(data))
	return data, nil
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
