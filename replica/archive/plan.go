package archive

import (
	"context"
	"fmt"

	"tidemark/snapshot/state"
)

// Plan is what a restore reads: a full snapshot and the segments that lead
// from it to the target.
type Plan struct {
	// Target is the commit to restore.
	Target state.TXID
	// Snapshot is where to begin.
	Snapshot Snapshot
	// Segments follow one another; the first holds the commit after the
	// snapshot's, the last the target. There are none if the snapshot is the
	// target.
	Segments []Segment
}

// Download is the number of bytes that the plan reads.
func (p Plan) Download() int64 {
	n := p.Snapshot.Size
	for _, s := range p.Segments {
		n += s.Size
	}
	return n
}

// Plan finds what a restore of a commit must read. It is a pure function of
// the listing; that the commit exists must be known. ok is false if no snapshot
// comes before the commit.
func (l *Listing) Plan(target state.TXID) (p Plan, ok bool) {
	s, ok := l.newestSnapshot(target)
	if !ok {
		return Plan{}, false
	}
	p = Plan{Target: target, Snapshot: s}
	if target == s.TXID {
		return p, true
	}
	from, to := 0, 0
	for i, seg := range l.Segments {
		if seg.First <= s.TXID+1 {
			from = i
		}
		if seg.First <= target {
			to = i + 1
		}
	}
	if from < to {
		p.Segments = l.Segments[from:to]
	}
	return p, true
}

// Plan finds what a restore of a commit must read. id 0 stands for the newest
// commit; one after it gives the newest and tells so. An id before the first
// is a *RangeError.
func (a *Archive) Plan(ctx context.Context, id state.TXID) (p Plan, after bool, err error) {
	if _, err := a.firstSnapshot(); err != nil {
		return Plan{}, false, err
	}
	head, err := a.Head(ctx)
	if err != nil {
		return Plan{}, false, err
	}
	target := id
	if id == 0 || id > head.Last {
		target = head.Last
	}
	p, ok := a.listing.Plan(target)
	if !ok {
		r, err := a.Range(ctx)
		if err != nil {
			return Plan{}, false, err
		}
		return Plan{}, false, &RangeError{Asked: fmt.Sprintf("TXID %v", id), Range: r}
	}
	return p, id > head.Last, nil
}
