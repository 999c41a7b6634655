package restore

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/wal"
	"tidemark/wal/segment"
)

const (
	// chunkSize is one ranged read of a segment, ahead how many are on their
	// way or waiting at once.
	chunkSize = 2 << 20
	ahead     = 8
	// heldBytes bounds the pages that wait to be written.
	heldBytes = 24 << 20
)

// chunk is a part of a segment that is being downloaded.
type chunk struct {
	seg  archive.Segment
	off  int64
	data []byte
	done chan struct{}
}

// applySegments applies the plan's segments up to the target, and proves that
// each continues what precedes it.
func (j *job) applySegments(ctx context.Context, f *os.File, at point) (point, error) {
	g, ctx := errgroup.WithContext(ctx)
	// The target can lie before the end of what is being downloaded.
	fetchCtx, enough := context.WithCancelCause(ctx)
	order := make(chan *chunk, ahead-1)
	g.Go(func() error {
		defer close(order)
		if err := j.fetch(fetchCtx, order); !errors.Is(context.Cause(fetchCtx), errEnough) {
			return err
		}
		return nil
	})
	p := &pages{f: f, size: at.PageSize, held: map[wal.PageNo][]byte{}, length: at.Pages}
	g.Go(func() error {
		defer enough(errEnough)
		src := &chunks{ctx: ctx, order: order}
		for _, s := range j.plan.Segments {
			if err := j.applySegment(src, s, p, &at); err != nil {
				return fmt.Errorf("apply %s: %w", s.Key(), err)
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		return p.resize(at.Pages)
	})
	err := g.Wait()
	return at, err
}

// errEnough ends the downloads when the target is reached.
var errEnough = errors.New("the target is reached")

// fetch downloads the segments' chunks, several at once, and gives them in
// order.
func (j *job) fetch(ctx context.Context, order chan<- *chunk) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range j.plan.Segments {
		for off := int64(0); off < s.Size; off += chunkSize {
			c := &chunk{seg: s, off: off, done: make(chan struct{})}
			select {
			case order <- c:
			case <-ctx.Done():
				return errors.Join(g.Wait(), context.Cause(ctx))
			}
			g.Go(func() error {
				data := make([]byte, min(chunkSize, s.Size-c.off))
				_, err := archive.NewObject(ctx, j.archive.Bucket(), s.Key(), s.Size).ReadAt(data, c.off)
				if err != nil {
					return fmt.Errorf("download %s: %w", s.Key(), err)
				}
				j.downloaded(len(data))
				c.data = data
				close(c.done)
				return nil
			})
		}
	}
	return g.Wait()
}

// chunks reads the chunks of one segment after the other.
type chunks struct {
	ctx   context.Context //nolint:containedctx // io.Reader takes none
	order <-chan *chunk
	next  *chunk // taken from order, not yet of the current segment
	rest  []byte
	seg   archive.Segment
}

// begin moves on to a segment, past what was left of the one before it.
func (c *chunks) begin(s archive.Segment) {
	c.seg, c.rest = s, nil
}

func (c *chunks) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if err := c.take(); err != nil {
			return 0, err
		}
		if c.next == nil || c.next.seg.First > c.seg.First {
			return 0, io.EOF
		}
		if c.next.seg == c.seg {
			c.rest = c.next.data
		}
		c.next = nil
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
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

// applySegment applies one segment's commits that come after at, up to the
// target.
func (j *job) applySegment(src *chunks, s archive.Segment, p *pages, at *point) error {
	src.begin(s)
	r, err := segment.NewReader(src, s.Size)
	if err != nil {
		return err
	}
	if err := j.continues(r.Header(), s, at); err != nil {
		return err
	}
	for at.TXID < j.plan.Target {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c := rec.Commit
		switch {
		case c.TXID == 0 && r.Last().TXID < at.TXID: // already in the snapshot
		case c.TXID == 0:
			err = p.apply(rec)
		case c.TXID < at.TXID:
		case c.TXID == at.TXID:
			err = same(at, c)
		default:
			err = p.commit(c.Pages)
			at.TXID, at.Time, at.Pages, at.Checksum = c.TXID, c.Time, c.Pages, c.After
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// continues checks that a segment is what follows.
func (j *job) continues(h segment.Header, s archive.Segment, at *point) error {
	switch {
	case h.Replica != j.archive.Meta().Replica:
		return fmt.Errorf("%w: it belongs to replica %v", archive.ErrBroken, h.Replica)
	case h.First != s.First:
		return fmt.Errorf("%w: it begins at TXID %v", archive.ErrBroken, h.First)
	case h.PageSize != at.PageSize:
		return fmt.Errorf("%w: its pages have %d bytes, the snapshot's %d", archive.ErrBroken, h.PageSize, at.PageSize)
	case h.First > at.TXID+1:
		return fmt.Errorf("%w: no segment begins at TXID %v", archive.ErrBroken, at.TXID+1)
	case h.First <= at.TXID:
		return nil // it begins before the snapshot; same proves it there
	case h.Before != at.Checksum || h.PagesBefore != at.Pages:
		return fmt.Errorf("%w: it follows state %v (%d pages), TXID %v has %v (%d pages)",
			archive.ErrBroken, h.Before, h.PagesBefore, at.TXID, at.Checksum, at.Pages)
	}
	return nil
}

func same(at *point, c segment.Commit) error {
	if c.After != at.Checksum || c.Pages != at.Pages {
		return fmt.Errorf("%w: the snapshot of TXID %v has state %v, the log %v", archive.ErrBroken, at.TXID, at.Checksum, c.After)
	}
	return nil
}

// pages applies frames to the file. Pages that change often are written once in
// a while only.
type pages struct {
	f      *os.File
	size   wal.PageSize
	length uint32 // of the database after the last commit
	held   map[wal.PageNo][]byte
	free   [][]byte
}

func (p *pages) apply(rec segment.Record) error {
	page, held := p.held[rec.Page]
	if !held {
		if err := p.room(); err != nil {
			return err
		}
		page = p.buffer()
		p.held[rec.Page] = page
	}
	if !rec.Delta {
		copy(page, rec.Data)
		return nil
	}
	if !held {
		if err := p.read(rec.Page, page); err != nil {
			return err
		}
	}
	subtle.XORBytes(page, page, rec.Data)
	return nil
}

// room makes sure that one more page can be held.
func (p *pages) room() error {
	if (len(p.held)+1)*int(p.size) <= heldBytes {
		return nil
	}
	return p.flush()
}

func (p *pages) buffer() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, p.size)
}

// read gives a page of the file; past its end there are zeros.
func (p *pages) read(no wal.PageNo, page []byte) error {
	n, err := p.f.ReadAt(page, p.size.Offset(no))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the output: %w", err)
	}
	clear(page[n:])
	return nil
}

// commit ends a transaction. A database that shrank loses its tail at once: if
// it grows again, what is not written then is zeros.
func (p *pages) commit(length uint32) error {
	if length < p.length {
		for no, page := range p.held {
			if uint32(no) > length {
				p.free = append(p.free, page)
				delete(p.held, no)
			}
		}
		if err := p.resize(length); err != nil {
			return err
		}
	}
	p.length = length
	return nil
}

func (p *pages) resize(length uint32) error {
	if err := p.f.Truncate(int64(length) * int64(p.size)); err != nil {
		return fmt.Errorf("size the output: %w", err)
	}
	return nil
}

// flush writes the held pages in order and forgets them.
func (p *pages) flush() error {
	for _, no := range slices.Sorted(maps.Keys(p.held)) {
		page := p.held[no]
		if _, err := p.f.WriteAt(page, p.size.Offset(no)); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		p.free = append(p.free, page)
	}
	clear(p.held)
	return nil
}
