package archive

import (
	"context"
	"fmt"
	"time"

	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// At finds the commit that was current at a time: the newest one that is not
// after it. after tells that the time lies after the newest commit of all.
//
// A commit is given only if it is known that no other one came between it and
// the time, or if the time is exactly the commit's. In a gap of the history that
// is not known; then, before the first commit, and where the listing shows that
// the commit can't be restored, the error is a *[RangeError].
func (a *Archive) At(ctx context.Context, t time.Time) (id state.TXID, after bool, err error) {
	if _, err := a.firstWhole(); err != nil {
		return 0, false, err
	}
	was, next, err := a.aroundTime(ctx, t)
	if err != nil {
		return 0, false, err
	}
	if exact := next.TXID == 0 || next.TXID == was.TXID+1 || t.Equal(was.Time); was.TXID != 0 && exact {
		if _, ok := a.listing.Plan(was.TXID); ok {
			return was.TXID, next.TXID == 0 && t.After(was.Time), nil
		}
	}
	return 0, false, a.outOfRange(ctx, stamp(t), was.TXID)
}

// aroundTime gives the last commit at or before a time of which the replica
// knows when it was made, and the first one after the time. Either is zero where
// there is none. They need not follow one another.
func (a *Archive) aroundTime(ctx context.Context, t time.Time) (was, next Point, err error) {
	was, next, err = a.aroundInLog(ctx, t)
	if err != nil || was.TXID != 0 && next.TXID == was.TXID+1 {
		return was, next, err
	}
	// There is a gap of the log here. Snapshots can lie in it; those that can't
	// be restored any more still tell that there was a commit.
	l := &a.listing
	from, to := l.snapshotsUntil(was.TXID), len(l.Snapshots)
	if next.TXID != 0 {
		to = l.snapshotsUntil(next.TXID - 1)
	}
	gap := l.Snapshots[from:to]
	at := func(ctx context.Context, i int) (Point, error) {
		h, err := a.SnapshotHeader(ctx, gap[i])
		return Point{gap[i].TXID, time.UnixMilli(h.Time).UTC()}, err
	}
	n, err := search(ctx, len(gap), func(ctx context.Context, i int) (bool, error) {
		p, err := at(ctx, i)
		return p.Time.After(t), err
	})
	if err == nil && n > 0 {
		was, err = at(ctx, n-1)
	}
	if err == nil && n < len(gap) {
		next, err = at(ctx, n)
	}
	return was, next, err
}

// aroundInLog is aroundTime without the snapshots.
func (a *Archive) aroundInLog(ctx context.Context, t time.Time) (was, next Point, err error) {
	segs := a.listing.Segments
	n, err := a.segmentsUntil(ctx, t)
	if err != nil {
		return was, next, err
	}
	if n > 0 {
		_, x, err := a.Index(ctx, segs[n-1])
		if err != nil {
			return was, next, err
		}
		err = x.Each(func(c segment.Commit) {
			switch p := (Point{c.TXID, c.Time}); {
			case !c.Time.After(t):
				was = p
			case next.TXID == 0:
				next = p
			}
		})
		if err != nil {
			return was, next, fmt.Errorf("read index of %s: %w", segs[n-1].Key(), err)
		}
		if next.TXID != 0 {
			return was, next, nil
		}
	}
	if n < len(segs) {
		h, err := a.SegmentHeader(ctx, segs[n])
		return was, Point{h.First, h.Time}, err
	}
	return was, next, nil
}
