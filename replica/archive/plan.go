package archive

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"tidemark/snapshot/state"
)

// Plan is what a restore reads: a snapshot with all that it adds to, and the log
// that leads from it to the target.
type Plan struct {
	// Target is the commit to restore.
	Target state.TXID
	// Snapshots begin with the newest. Each adds to the one after it, and the
	// last is full.
	Snapshots []Snapshot
	// Segments are the log after the newest snapshot, packs among them. They
	// follow one another; the first holds the commit after the snapshot's, the
	// last the target. There are none if the snapshot is the target.
	Segments []Segment
}

// Download is the number of bytes that the plan reads at most.
func (p Plan) Download() int64 {
	var n int64
	for _, s := range p.Snapshots {
		n += s.Size
	}
	for _, s := range p.Segments {
		n += s.Size
	}
	return n
}

// Packs is how many of the plan's Segments are packs.
func (p Plan) Packs() int {
	n := 0
	for _, s := range p.Segments {
		if s.IsPack() {
			n++
		}
	}
	return n
}

// Plan finds what a restore of a commit must read. It is a pure function of
// the listing; that the commit exists must be known. ok is false if the listing
// shows that the commit can't be restored: no snapshot that is whole, with all
// that it adds to, comes before it, or the log does not lead from there to it.
func (l *Listing) Plan(target state.TXID) (p Plan, ok bool) {
	c := l.chains()
	for i := l.snapshotsUntil(target) - 1; i >= 0; i-- {
		if c.base[i] == missing {
			continue
		}
		// An older snapshot would need this part of the log, too.
		log, ok := l.After(l.Snapshots[i].TXID, target)
		if !ok {
			return Plan{}, false
		}
		return Plan{Target: target, Snapshots: c.from(l, c.of[l.Snapshots[i].TXID]), Segments: log}, true
	}
	return Plan{}, false
}

// Likely is what a restore of a commit, or of the newest if that is 0, probably
// reads, as far as the listing shows it without a read: a plan, of which the last
// segment may turn out to be too much. It is for reading ahead only.
func (l *Listing) Likely(target state.TXID) Plan {
	newest := state.TXID(0) // at least
	if n := len(l.Snapshots); n > 0 {
		newest = l.Snapshots[n-1].TXID
	}
	n := len(l.Segments)
	if n > 0 {
		newest = max(newest, l.Segments[n-1].First, l.Segments[n-1].Last)
	}
	if target == 0 || target > newest {
		target = newest
	}
	p, _ := l.Plan(target)
	if n > 0 && !slices.Contains(p.Segments, l.Segments[n-1]) {
		p.Segments = append(slices.Clone(p.Segments), l.Segments[n-1]) // which tells what the newest commit is
	}
	return p
}

// After is the part of the log that leads from the state after one commit to
// that after a later one, or the same one. ok is false if there is a gap in it.
// Where a segment that is no pack ends the listing does not show: a gap after
// one is for its reader to find.
func (l *Listing) After(at, target state.TXID) (log []Segment, ok bool) {
	if at >= target {
		return nil, at == target
	}
	segs := l.Segments
	from := sort.Search(len(segs), func(i int) bool { return segs[i].First > at+1 }) - 1
	if from < 0 {
		return nil, false
	}
	for i := from; ; i++ { // the first can end before: then there is a gap after it
		more := i+1 < len(segs)
		switch {
		case segs[i].IsPack() && segs[i].Last >= target, !segs[i].IsPack() && (!more || segs[i+1].First > target):
			return segs[from : i+1], true
		case !more, segs[i].IsPack() && segs[i+1].First > segs[i].Last+1:
			return nil, false
		}
	}
}

// snapshotsUntil is the number of snapshots that are not after a commit.
func (l *Listing) snapshotsUntil(id state.TXID) int {
	return sort.Search(len(l.Snapshots), func(i int) bool { return l.Snapshots[i].TXID > id })
}

// chains tells which snapshots can be restored, and from what.
type chains struct {
	// base is, for each snapshot of the listing, the index of the one that it
	// adds to, or full, or missing.
	base []int
	// of is the snapshot to use of those of one commit: the one that adds to the
	// oldest, and so has the fewest below it; best a full one.
	of map[state.TXID]int
}

const (
	full    = -1 // it adds to none
	missing = -2 // what it adds to, or what that adds to, is not there
)

func (l *Listing) chains() chains {
	c := chains{base: make([]int, len(l.Snapshots)), of: make(map[state.TXID]int, len(l.Snapshots))}
	for i, s := range l.Snapshots { // what one adds to comes before it
		c.base[i] = full
		if s.Base != 0 {
			base, ok := c.of[s.Base]
			if !ok {
				c.base[i] = missing
				continue
			}
			c.base[i] = base
		}
		if _, ok := c.of[s.TXID]; !ok {
			c.of[s.TXID] = i
		}
	}
	return c
}

// from gives a snapshot that is whole and all that it adds to.
func (c chains) from(l *Listing, i int) (chain []Snapshot) {
	for ; i >= 0; i = c.base[i] {
		chain = append(chain, l.Snapshots[i])
	}
	return chain
}

// firstWhole is the oldest snapshot that can be restored.
func (a *Archive) firstWhole() (Snapshot, error) {
	c := a.listing.chains()
	for i, s := range a.listing.Snapshots {
		if c.base[i] != missing {
			return s, nil
		}
	}
	if n := len(a.listing.Snapshots); n > 0 {
		return Snapshot{}, fmt.Errorf("%w: %d snapshots are there, and none of the full ones that they add to", ErrBroken, n)
	}
	return Snapshot{}, fmt.Errorf("%w: its first snapshot has not been written completely", ErrNoReplica)
}

// newest is the last commit that the log or a snapshot that is whole holds. It
// is the one that a restore without a target is about, whether or not the log
// leads to it.
func (a *Archive) newest(ctx context.Context) (state.TXID, error) {
	if _, err := a.firstWhole(); err != nil {
		return 0, err
	}
	var last state.TXID
	if len(a.listing.Segments) > 0 {
		head, err := a.Head(ctx)
		if err != nil {
			return 0, err
		}
		last = head.Last
	}
	c := a.listing.chains()
	for i, s := range a.listing.Snapshots {
		if c.base[i] != missing {
			last = max(last, s.TXID)
		}
	}
	return last, nil
}

// Plan finds what a restore of a commit must read. id 0 stands for the newest
// commit; one after it gives the newest and tells so. An id that can't be
// restored is a *RangeError, as far as the listing shows it; [Archive.Check]
// tells the rest.
func (a *Archive) Plan(ctx context.Context, id state.TXID) (p Plan, after bool, err error) {
	newest, err := a.newest(ctx)
	if err != nil {
		return Plan{}, false, err
	}
	target, asked := id, fmt.Sprintf("TXID %v", id)
	if id == 0 || id > newest {
		target, asked = newest, fmt.Sprintf("the newest commit, TXID %v,", newest)
	}
	p, ok := a.listing.Plan(target)
	if !ok {
		return Plan{}, false, a.outOfRange(ctx, asked, target)
	}
	return p, id > newest, nil
}
