package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/wal"
)

const (
	// partSize is the aim for one ranged read of a snapshot, and streams the
	// number of them at once: what a service gives one connection is far less
	// than what it gives a machine. A part is decoded while it arrives, so memory
	// is for a few blocks a stream, whatever partSize is.
	partSize = 8 << 20
	streams  = 12
	// skipSize is how much that is not needed is read rather than make another
	// request.
	skipSize = 128 << 10
)

// part is a range of consecutive blocks of a snapshot.
type part struct {
	first, last int // numbers of blocks
	off, size   int64
}

// parts cuts what is needed of a snapshot into ranges of consecutive blocks.
type parts struct {
	r    *snapshot.Reader
	done *filled
	at   int // the first block that has not been looked at
}

// next gives the next range; ok is false if there is none.
func (p *parts) next() (_ part, ok bool) {
	blocks := p.r.Blocks()
	for p.at < len(blocks) && !p.needed(p.at) {
		p.at++
	}
	first := p.at
	if first == len(blocks) {
		return part{}, false
	}
	end := func(i int) int64 { return blocks[i].Offset + blocks[i].Stored }
	off, last := blocks[first].Offset, first
	for p.at++; p.at < len(blocks) && end(p.at)-off <= partSize; p.at++ {
		if p.needed(p.at) {
			last = p.at
		} else if end(p.at)-end(last) > skipSize {
			break
		}
	}
	p.at = last + 1
	return part{first, last, off, end(last) - off}, true
}

// needed tells whether a block can hold a page that is still to be written. In
// one of an incremental snapshot pages may be left out; which does not show.
func (p *parts) needed(i int) bool {
	blocks := p.r.Blocks()
	end := wal.PageNo(p.r.Header().Pages) + 1
	if i+1 < len(blocks) {
		end = blocks[i+1].First
	}
	return p.done.needs(blocks[i].First, end)
}

// writeLink writes the pages of one snapshot that are still to be written.
func (j *job) writeLink(ctx context.Context, out *sink, l *link, done *filled) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(streams)
	around := l.Size // what is not downloaded: index, page sums, and pages that are there
	parts := parts{r: l.r, done: done}
	for p, ok := parts.next(); ok && gctx.Err() == nil; p, ok = parts.next() {
		around -= p.size
		g.Go(func() error { return j.writePart(gctx, out, l, p, done) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	j.downloaded(int(around))
	return nil
}

// writePart writes a part while it is being downloaded, block by block: what has
// just arrived is decoded, and what has just been decoded is written, while it is
// in the processor's cache.
func (j *job) writePart(ctx context.Context, out *sink, l *link, p part, done *filled) (err error) {
	src, err := j.part(ctx, l, p)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	m := out.memory()
	defer out.leave(m)
	blocks, size := l.r.Blocks(), l.r.Header().PageSize
	from, to := int64(0), int64(0) // what was written of the file
	for i := p.first; i <= p.last; i++ {
		stored := m.block(blocks[i].Stored)
		if _, err := io.ReadFull(src, stored); err != nil {
			return fmt.Errorf("download: %w", ended(err, blocks[i].Offset))
		}
		j.downloaded(len(stored))
		err := l.r.DecodeRuns(i, stored, func(first wal.PageNo, images []byte) error {
			return done.each(first, images, size, func(no wal.PageNo, images []byte) error {
				off := size.Offset(no)
				if to == 0 {
					from = off // they ascend
				}
				to = off + int64(len(images))
				return out.write(images, off)
			})
		})
		if err != nil {
			return err
		}
	}
	out.writeBack(from, to)
	return nil
}

// part opens a part of a snapshot.
func (j *job) part(ctx context.Context, l *link, p part) (io.ReadCloser, error) {
	if l.whole != nil {
		return io.NopCloser(bytes.NewReader(l.whole[p.off : p.off+p.size])), nil
	}
	return j.archive.Bucket().Get(ctx, l.Key(), p.off, p.size)
}

// ended makes damage of the end of an object that must be longer. It compares
// without unwrapping: a wrapped EOF is a connection that broke.
func ended(err error, off int64) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // see above
		return &block.Error{Offset: off, Err: fmt.Errorf("%w: truncated", block.ErrCorrupt)}
	}
	return err
}
