package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// ErrOutOfRange says that a commit or time lies before what can be restored.
var ErrOutOfRange = errors.New("outside the restorable range")

// Range is what can be restored: every commit from the first to the last.
type Range struct {
	FirstTXID, LastTXID state.TXID
	FirstTime, LastTime time.Time
}

// String tells the range to a person.
func (r Range) String() string {
	return fmt.Sprintf("TXID %v (%s) to TXID %v (%s)", r.FirstTXID, stamp(r.FirstTime), r.LastTXID, stamp(r.LastTime))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// RangeError is an ErrOutOfRange that knows the range.
type RangeError struct {
	// Asked is what was asked for, as a person would say it.
	Asked string
	// Range is what there is.
	Range Range
}

// Error names what was asked for and what there is.
func (e *RangeError) Error() string {
	return fmt.Sprintf("%s is before the first commit that can be restored; the restorable range is %v", e.Asked, e.Range)
}

// Unwrap gives ErrOutOfRange.
func (e *RangeError) Unwrap() error { return ErrOutOfRange }

// Commit is a restorable point.
type Commit struct {
	TXID state.TXID
	Time time.Time
	// Pages is the number of page images that the commit wrote; for the state
	// that the replica began with, all pages of the database.
	Pages uint32
	// Bytes is what it takes in the archive.
	Bytes int64
	// Snapshot marks the state that the replica began with.
	Snapshot bool
	// Resync marks a commit that tidemark made to repair continuity.
	Resync bool
}

func snapshotCommit(h snapshot.Header, s Snapshot) Commit {
	return Commit{TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC(), Pages: h.Pages, Bytes: s.Size, Snapshot: true}
}

func (a *Archive) firstSnapshot() (Snapshot, error) {
	for _, s := range a.listing.Snapshots {
		if s.Base == 0 {
			return s, nil
		}
	}
	return Snapshot{}, fmt.Errorf("%w: its first snapshot has not been written completely", ErrNoReplica)
}

// Range reads what can be restored. ErrNoReplica says that nothing can yet.
func (a *Archive) Range(ctx context.Context) (Range, error) {
	s, err := a.firstSnapshot()
	if err != nil {
		return Range{}, err
	}
	h, err := a.SnapshotHeader(ctx, s)
	if err != nil {
		return Range{}, err
	}
	first := snapshotCommit(h, s)
	r := Range{FirstTXID: first.TXID, FirstTime: first.Time, LastTXID: first.TXID, LastTime: first.Time}
	if len(a.listing.Segments) > 0 {
		head, err := a.Head(ctx)
		if err != nil {
			return Range{}, err
		}
		if head.Last > r.LastTXID {
			r.LastTXID, r.LastTime = head.Last, head.Commit.Time
		}
	}
	return r, nil
}

// Query selects commits.
type Query struct {
	// Since and Until bound the time, both included; zero is open.
	Since, Until time.Time
	// Limit is the greatest number of commits; 0: all.
	Limit int
}

// indexBatch is how many indexes Commits reads at once.
const indexBatch = 8

// Commits gives the commits that a query selects, newest first. fn's error ends
// it and is returned as it is.
func (a *Archive) Commits(ctx context.Context, q Query, fn func(Commit) error) error {
	first, err := a.firstSnapshot()
	if err != nil {
		return err
	}
	segs := a.listing.Segments
	if !q.Until.IsZero() {
		n, err := a.segmentsUntil(ctx, q.Until)
		if err != nil {
			return err
		}
		segs = segs[:n]
	}
	for len(segs) > 1 && segs[1].First <= first.TXID+1 {
		segs = segs[1:] // it ends before the first snapshot
	}
	e := emitter{q: q, fn: fn, first: first.TXID}
	for n, batch := len(segs), 1; n > 0 && !e.done; n, batch = n-batch, min(2*batch, indexBatch) {
		lists, err := a.commitLists(ctx, segs[max(0, n-batch):n])
		if err != nil {
			return err
		}
		for _, list := range slices.Backward(lists) {
			if err := e.emit(list); err != nil || e.done {
				return err
			}
		}
	}
	if e.done {
		return nil
	}
	if err := e.follows(first.TXID); err != nil {
		return err
	}
	h, err := a.SnapshotHeader(ctx, first)
	if err != nil {
		return err
	}
	return e.one(snapshotCommit(h, first))
}

// commitLists reads the commits of some segments at once.
func (a *Archive) commitLists(ctx context.Context, segs []Segment) ([][]segment.Commit, error) {
	lists := make([][]segment.Commit, len(segs))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range segs {
		g.Go(func() error {
			_, x, err := a.Index(ctx, s)
			if err != nil {
				return err
			}
			lists[i], err = x.Commits()
			if err != nil {
				return fmt.Errorf("read index of %s: %w", s.Key(), err)
			}
			return nil
		})
	}
	return lists, g.Wait()
}

// emitter hands the commits of a query on, newest first, and knows when the
// rest can't match.
type emitter struct {
	q    Query
	fn   func(Commit) error
	n    int
	done bool
	// first is that of the first snapshot. A segment can begin before it.
	first state.TXID
	// next is the oldest TXID that has been looked at, 0 at first.
	next state.TXID
}

// follows checks that no commit is missing between one and the oldest looked at.
func (e *emitter) follows(id state.TXID) error {
	if e.next != 0 && id+1 < e.next {
		return fmt.Errorf("%w: the commits from TXID %v to %v are missing", ErrBroken, id+1, e.next-1)
	}
	return nil
}

func (e *emitter) emit(list []segment.Commit) error {
	if err := e.follows(list[len(list)-1].TXID); err != nil {
		return err
	}
	e.next = list[0].TXID
	for _, c := range slices.Backward(list) {
		if c.TXID <= e.first {
			return nil
		}
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

// segmentsUntil is the number of segments whose first commit is not after a
// time. It bisects with small reads.
func (a *Archive) segmentsUntil(ctx context.Context, t time.Time) (int, error) {
	segs := a.listing.Segments
	var failed error
	n := sort.Search(len(segs), func(i int) bool {
		if failed != nil {
			return true
		}
		h, err := a.SegmentHeader(ctx, segs[i])
		failed = err
		return err == nil && h.Time.After(t)
	})
	return n, failed
}

// At finds the newest commit that is not after a time. ErrOutOfRange says that
// there is none; after tells that the time lies after the newest commit.
func (a *Archive) At(ctx context.Context, t time.Time) (id state.TXID, after bool, err error) {
	first, err := a.firstSnapshot()
	if err != nil {
		return 0, false, err
	}
	n, err := a.segmentsUntil(ctx, t)
	if err != nil {
		return 0, false, err
	}
	if n == 0 {
		return a.atFirst(ctx, t)
	}
	_, x, err := a.Index(ctx, a.listing.Segments[n-1])
	if err != nil {
		return 0, false, err
	}
	cs, err := x.Commits()
	if err != nil {
		return 0, false, fmt.Errorf("read index of %s: %w", a.listing.Segments[n-1].Key(), err)
	}
	for i, c := range slices.Backward(cs) {
		if c.TXID <= first.TXID {
			return a.atFirst(ctx, t)
		}
		if !c.Time.After(t) {
			last := n == len(a.listing.Segments) && i == len(cs)-1
			return c.TXID, last && c.Time.Before(t), nil
		}
	}
	return 0, false, fmt.Errorf("%w: the times in %s do not match its header", ErrBroken, a.listing.Segments[n-1].Key())
}

// atFirst decides whether a time before every commit that follows the first
// snapshot is that of the snapshot.
func (a *Archive) atFirst(ctx context.Context, t time.Time) (state.TXID, bool, error) {
	r, err := a.Range(ctx)
	if err != nil {
		return 0, false, err
	}
	if t.Before(r.FirstTime) {
		return 0, false, &RangeError{Asked: stamp(t), Range: r}
	}
	return r.FirstTXID, r.LastTXID == r.FirstTXID && t.After(r.FirstTime), nil
}
