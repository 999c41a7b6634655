package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	// rangeSize is the aim for one ranged read of a snapshot, workers the
	// number of them at once. Their product bounds memory. A snapshot that is no
	// longer is read as a whole, with one request.
	rangeSize = 4 << 20
	workers   = 6
	// opened is how many snapshots of a chain are read, or begun to be read,
	// before they are needed.
	opened = 4
	// skipSize is how much that is not needed is read rather than make another
	// request.
	skipSize = 128 << 10
)

// point is a commit and the state after it.
type point struct {
	TXID     state.TXID
	Time     time.Time
	Pages    uint32
	Checksum state.Checksum
	PageSize wal.PageSize
}

// link is a snapshot of a chain, as it is read.
type link struct {
	archive.Snapshot
	r *snapshot.Reader
	// whole is the object's bytes if it is small.
	whole []byte
	done  chan struct{} // closed when r and whole are there
}

// snapshotError is an error that says that a snapshot is not what it should be. An
// older one, and more of the log, may do instead.
type snapshotError struct {
	snapshot archive.Snapshot
	err      error
}

func (e *snapshotError) Error() string { return e.err.Error() }

func (e *snapshotError) Unwrap() error { return e.err }

// blame tells errors that are the snapshot's fault from others.
func blame(s archive.Snapshot, err error) error {
	if errors.Is(err, block.ErrCorrupt) || errors.Is(err, archive.ErrBroken) {
		return &snapshotError{s, err}
	}
	return err
}

// writeChain writes the pages of the plan's newest snapshot into the file: its
// own, and of each older one what the newer ones do not have. So each page is
// written once. The file, which must be empty, gets the database's length: what
// no snapshot holds is zeros.
func (j *job) writeChain(ctx context.Context, f *os.File, chain []archive.Snapshot) (at point, err error) {
	g, ctx := errgroup.WithContext(ctx)
	links := make(chan *link, opened-1)
	g.Go(func() error {
		defer close(links)
		return j.openChain(ctx, chain, links)
	})
	g.Go(func() error {
		at, err = j.takeChain(ctx, f, links, len(chain))
		return err
	})
	return at, g.Wait()
}

// openChain reads the beginnings of the snapshots, or all of small ones, some
// ahead of who takes them.
func (j *job) openChain(ctx context.Context, chain []archive.Snapshot, links chan<- *link) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range chain {
		l := &link{Snapshot: s, done: make(chan struct{})}
		select {
		case links <- l:
		case <-ctx.Done():
			return errors.Join(g.Wait(), context.Cause(ctx))
		}
		g.Go(func() error {
			if err := j.open(ctx, l); err != nil {
				return blame(s, err)
			}
			close(l.done)
			return nil
		})
	}
	return g.Wait()
}

// takeChain writes n snapshots as they come.
func (j *job) takeChain(ctx context.Context, f *os.File, links <-chan *link, n int) (at point, err error) {
	var done *filled
	for i := range n {
		l, err := next(ctx, links)
		if err != nil {
			return at, err
		}
		h := l.r.Header()
		if i == 0 {
			at = point{TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC(), Pages: h.Pages, Checksum: l.r.Checksum(), PageSize: h.PageSize}
			done = newFilled(n, h.Pages)
			if err := f.Truncate(int64(h.Pages) * int64(h.PageSize)); err != nil {
				return at, fmt.Errorf("size the output: %w", err)
			}
		}
		if h.PageSize != at.PageSize {
			return at, blame(l.Snapshot, fmt.Errorf("%w: the pages of %s have %d bytes, those of TXID %v have %d",
				archive.ErrBroken, l.Key(), h.PageSize, at.TXID, at.PageSize))
		}
		done.narrow(h.Pages)
		if err := j.writeLink(ctx, f, l, done); err != nil {
			return at, blame(l.Snapshot, fmt.Errorf("restore %s: %w", l.Key(), err))
		}
	}
	return at, nil
}

// next waits for the next snapshot to be open.
func next(ctx context.Context, links <-chan *link) (l *link, err error) {
	select {
	case l = <-links:
	case <-ctx.Done():
	}
	if l != nil {
		select {
		case <-l.done:
			return l, nil
		case <-ctx.Done():
		}
	}
	return nil, context.Cause(ctx)
}

// open reads what a snapshot says of itself, and all of a small one.
func (j *job) open(ctx context.Context, l *link) (err error) {
	if l.Size > rangeSize {
		l.r, err = j.archive.Snapshot(ctx, l.Snapshot)
		return err
	}
	l.whole = make([]byte, l.Size)
	if _, err := j.object(ctx, l).ReadAt(l.whole, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("download %s: %w", l.Key(), err)
	}
	l.r, err = j.archive.SnapshotIn(bytes.NewReader(l.whole), l.Snapshot)
	return err
}

func (j *job) object(ctx context.Context, l *link) *archive.Object {
	return archive.NewObject(ctx, j.archive.Bucket(), l.Key(), l.Size)
}

// writeLink writes the pages of one snapshot that are still to be written.
func (j *job) writeLink(ctx context.Context, f *os.File, l *link, done *filled) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	around := l.Size // what is not downloaded: index, page sums, and pages that are there
	parts := parts{r: l.r, done: done}
	for first, n := parts.next(); n > 0 && gctx.Err() == nil; first, n = parts.next() {
		around -= n
		g.Go(func() error {
			data, err := j.part(gctx, l, l.r.Blocks()[first].Offset, n)
			if err != nil {
				return err
			}
			j.downloaded(len(data))
			return writeBlocks(f, l.r, first, data, done)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	j.downloaded(int(around))
	return nil
}

// part gives n bytes of a snapshot.
func (j *job) part(ctx context.Context, l *link, off, n int64) ([]byte, error) {
	if l.whole != nil {
		return l.whole[off : off+n], nil
	}
	data := make([]byte, n)
	if _, err := j.object(ctx, l).ReadAt(data, off); err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	return data, nil
}

// parts cuts what is needed of a snapshot into ranges of consecutive blocks.
type parts struct {
	r    *snapshot.Reader
	done *filled
	at   int // the first block that has not been looked at
}

// next gives the first block of the next range and the range's length in bytes,
// 0 if there is none.
func (p *parts) next() (first int, n int64) {
	blocks := p.r.Blocks()
	for p.at < len(blocks) && !p.needed(p.at) {
		p.at++
	}
	if first = p.at; first == len(blocks) {
		return first, 0
	}
	end := func(i int) int64 { return blocks[i].Offset + blocks[i].Stored }
	last := first
	for p.at++; p.at < len(blocks) && end(p.at)-blocks[first].Offset <= rangeSize; p.at++ {
		if p.needed(p.at) {
			last = p.at
		} else if end(p.at)-end(last) > skipSize {
			break
		}
	}
	p.at = last + 1
	return first, end(last) - blocks[first].Offset
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

// writeBlocks writes the pages of consecutive blocks that are still to be
// written, joining neighbours to one write.
func writeBlocks(f io.WriterAt, r *snapshot.Reader, first int, data []byte, done *filled) error {
	w := run{f: f, size: r.Header().PageSize}
	err := r.DecodeBlocks(first, data, func(no wal.PageNo, page []byte) error {
		if !done.take(no) {
			return nil
		}
		return w.add(no, page)
	})
	return errors.Join(err, w.flush())
}

// run gathers pages that follow one another into one write.
type run struct {
	f     io.WriterAt
	size  wal.PageSize
	first wal.PageNo
	next  wal.PageNo
	buf   []byte
}

func (w *run) add(no wal.PageNo, page []byte) error {
	if no != w.next || len(w.buf) >= 256<<10 {
		if err := w.flush(); err != nil {
			return err
		}
		w.first = no
	}
	w.buf = append(w.buf, page...)
	w.next = no + 1
	return nil
}

func (w *run) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(w.buf, w.size.Offset(w.first))
	w.buf = w.buf[:0]
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
