package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// Commit is a restorable point.
type Commit struct {
	TXID state.TXID
	Time time.Time
	// Pages is the number of page images that the commit wrote; for the state
	// that the replica began with, all pages of the database.
	Pages uint32
	// Bytes is what it takes in the archive.
	Bytes int64
	// Snapshot marks a state that is there as a snapshot, with which a range
	// begins: the first one is that which the replica began with, if nothing has
	// been deleted.
	Snapshot bool
	// Single marks a Snapshot that stands alone: neither the commit before it nor
	// the one after it can be restored.
	Single bool
	// Resync marks a commit that tidemark made to repair continuity.
	Resync bool
}

func snapshotCommit(h snapshot.Header, s Snapshot) Commit {
	return Commit{TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC(), Pages: h.Pages, Bytes: s.Size, Snapshot: true}
}

// Query selects commits.
type Query struct {
	// Since and Until bound the time, both included; zero is open.
	Since, Until time.Time
	// Limit is the greatest number of commits; 0: all.
	Limit int
}

const (
	// indexBatch is how many indexes Commits reads at once, and indexBytes how
	// long their objects are together: an index is a small part of its object.
	indexBatch = 8
	indexBytes = 32 << 20
	// window is how many commits of an object are held at once.
	window = 1 << 17
)

// Commits reads the replica's History and gives its commits.
func (a *Archive) Commits(ctx context.Context, q Query, fn func(Commit) error) error {
	h, err := a.History(ctx)
	if err != nil {
		return err
	}
	return h.Commits(ctx, q, fn)
}

// Commits gives the commits that a query selects and that can be restored,
// newest first: those of every range, and the single snapshots between them.
// fn's error ends it and is returned as it is. Memory is for the indexes of one
// large pack at most, or of some small ones.
func (h *History) Commits(ctx context.Context, q Query, fn func(Commit) error) error {
	a := h.archive
	until := len(a.listing.Segments)
	if !q.Until.IsZero() {
		n, err := a.segmentsUntil(ctx, q.Until)
		if err != nil {
			return err
		}
		until = n
	}
	e := emitter{q: q, fn: fn}
	for _, s := range slices.Backward(h.all) {
		if err := a.stretchCommits(ctx, s, until, &e); err != nil || e.done {
			return err
		}
	}
	return nil
}

// stretchCommits gives the commits of one stretch that are in the log's first
// objects, until is their number.
func (a *Archive) stretchCommits(ctx context.Context, s stretch, until int, e *emitter) error {
	e.first, e.next = s.base.TXID, 0
	segs := a.listing.Segments[s.from:max(s.from, min(s.to, until))]
	for most := 1; len(segs) > 0; most = min(2*most, indexBatch) {
		n := len(segs) - batch(segs, most)
		indexes, err := a.indexes(ctx, segs[n:])
		if err != nil {
			return err
		}
		for i, x := range slices.Backward(indexes) {
			if err := e.index(segs[n+i], x); err != nil || e.done {
				return err
			}
		}
		segs = segs[:n]
	}
	if err := e.follows(s.base.TXID); err != nil {
		return err
	}
	return e.one(s.begin)
}

// batch is how many of the last objects are read at once, at least one.
func batch(segs []Segment, most int) int {
	n, size := 0, int64(0)
	for _, s := range slices.Backward(segs) {
		size += s.Size
		if n == most || n > 0 && size > indexBytes {
			break
		}
		n++
	}
	return n
}

// indexes reads the indexes of some objects at once.
func (a *Archive) indexes(ctx context.Context, segs []Segment) ([]*segment.Index, error) {
	all := make([]*segment.Index, len(segs))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range segs {
		g.Go(func() (err error) {
			_, all[i], err = a.Index(ctx, s)
			return err
		})
	}
	return all, g.Wait()
}

// emitter hands the commits of a query on, newest first, and knows when the
// rest can't match.
type emitter struct {
	q    Query
	fn   func(Commit) error
	n    int
	done bool
	// first is the snapshot that the stretch begins with. A segment can begin
	// before it.
	first state.TXID
	// next is the oldest TXID of the stretch that has been looked at, 0 at first.
	next state.TXID
	list []segment.Commit
}

// follows checks that no commit is missing between one and the oldest looked at.
func (e *emitter) follows(id state.TXID) error {
	if e.next != 0 && id+1 < e.next {
		return fmt.Errorf("%w: the commits from TXID %v to %v are missing", ErrBroken, id+1, e.next-1)
	}
	return nil
}

// index emits the commits of one object, which can be read forward only, in
// windows.
func (e *emitter) index(s Segment, x *segment.Index) error {
	if err := e.follows(x.Trailer.Last); err != nil {
		return err
	}
	last := x.Trailer.Last
	if e.next != 0 { // packs can overlap
		last = min(last, e.next-1)
	}
	for last >= s.First && last > e.first && !e.done {
		from := max(s.First, e.first+1)
		if last-from >= window {
			from = last - window + 1
		}
		e.list = e.list[:0]
		err := x.Each(func(c segment.Commit) {
			if c.TXID >= from && c.TXID <= last {
				e.list = append(e.list, c)
			}
		})
		if err != nil {
			return fmt.Errorf("read index of %s: %w", s.Key(), err)
		}
		if err := e.window(); err != nil {
			return err
		}
		last = from - 1
	}
	e.next = s.First
	return nil
}

func (e *emitter) window() error {
	for _, c := range slices.Backward(e.list) {
		err := e.one(Commit{TXID: c.TXID, Time: c.Time, Pages: c.Frames, Bytes: c.Bytes, Resync: c.Flags&segment.Resync != 0})
		if err != nil || e.done {
			return err
		}
	}
	return nil
}

func (e *emitter) one(c Commit) error {
	if !e.q.Since.IsZero() && c.Time.Before(e.q.Since) {
		e.done = true
		return nil
	}
	if !e.q.Until.IsZero() && c.Time.After(e.q.Until) {
		return nil
	}
	e.n++
	e.done = e.n == e.q.Limit
	return e.fn(c)
}
