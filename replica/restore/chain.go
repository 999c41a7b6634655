package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	// wholeSize is how long a snapshot may be to be read with one request and
	// held in memory.
	wholeSize = 4 << 20
	// opened is how many snapshots of a chain are read, or begun to be read,
	// before they are needed.
	opened = 4
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
func (j *job) writeChain(ctx context.Context, out *sink, chain []archive.Snapshot) (at point, err error) {
	g, ctx := errgroup.WithContext(ctx)
	links := make(chan *link, opened-1)
	g.Go(func() error {
		defer close(links)
		return j.openChain(ctx, chain, links)
	})
	g.Go(func() error {
		at, err = j.takeChain(ctx, out, links, len(chain))
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
func (j *job) takeChain(ctx context.Context, out *sink, links <-chan *link, n int) (at point, err error) {
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
			if err := out.size(int64(h.Pages) * int64(h.PageSize)); err != nil {
				return at, err
			}
		}
		if h.PageSize != at.PageSize {
			return at, blame(l.Snapshot, fmt.Errorf("%w: the pages of %s have %d bytes, those of TXID %v have %d",
				archive.ErrBroken, l.Key(), h.PageSize, at.TXID, at.PageSize))
		}
		done.narrow(h.Pages)
		if err := j.writeLink(ctx, out, l, done); err != nil {
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
	if l.Size > wholeSize {
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
