package archive

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"tidemark/snapshot/state"
)

// ErrOutOfRange says that a commit or time is not among what can be restored.
var ErrOutOfRange = errors.New("outside the restorable range")

// Point is a commit that can be restored.
type Point struct {
	TXID state.TXID
	Time time.Time
}

// String tells the point to a person.
func (p Point) String() string { return fmt.Sprintf("TXID %v (%s)", p.TXID, stamp(p.Time)) }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// Range is a part of the history that can be restored: every commit from the
// first to the last.
type Range struct {
	FirstTXID, LastTXID state.TXID
	FirstTime, LastTime time.Time
}

// First is the range's first commit, Last its last one.
func (r Range) First() Point { return Point{r.FirstTXID, r.FirstTime} }

// Last is the range's last commit.
func (r Range) Last() Point { return Point{r.LastTXID, r.LastTime} }

// Single tells whether the range is one snapshot alone: neither the commit
// before it nor the one after it can be restored.
func (r Range) Single() bool { return r.FirstTXID == r.LastTXID }

// String tells the range to a person.
func (r Range) String() string {
	if r.Single() {
		return r.First().String()
	}
	return fmt.Sprintf("%v to %v", r.First(), r.Last())
}

// Ranges are what can be restored of a history, in ascending order. Between two
// of them at least one commit is missing.
type Ranges []Range

// manyRanges is how many ranges of one kind a message names one by one.
const manyRanges = 12

// Describe tells the ranges to a person, in parts: first the ranges of
// consecutive commits, a part each, then all single snapshots in one. If there
// are too many to name the part says how many there are, and all is false.
func (r Ranges) Describe() (parts []string, all bool) {
	var singles []string
	first, last, dropped := Range{}, Range{}, 0
	for _, x := range r {
		switch {
		case x.Single():
			if len(singles) == 0 {
				first = x
			}
			singles, last = append(singles, x.String()), x
		case len(parts) == manyRanges:
			dropped++
		default:
			parts = append(parts, x.String())
		}
	}
	if dropped > 0 {
		parts = append(parts, fmt.Sprintf("%d ranges more", dropped))
	}
	many := len(singles) > manyRanges
	switch {
	case many:
		parts = append(parts, fmt.Sprintf("%d single snapshots from %v to %v", len(singles), first, last))
	case len(singles) == 1 && len(r) == 1:
		parts = append(parts, singles[0])
	case len(singles) == 1:
		parts = append(parts, "single snapshot "+singles[0])
	case len(singles) > 1:
		parts = append(parts, "single snapshots "+strings.Join(singles, ", "))
	}
	return parts, dropped == 0 && !many
}

// String tells them to a person in one line.
func (r Ranges) String() string {
	parts, _ := r.Describe()
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}

// Holds tells whether a commit can be restored.
func (r Ranges) Holds(id state.TXID) bool {
	i := r.after(id)
	return i > 0 && id <= r[i-1].LastTXID
}

// after is the number of ranges that begin at a commit or before it.
func (r Ranges) after(id state.TXID) int {
	return sort.Search(len(r), func(i int) bool { return r[i].FirstTXID > id })
}

// around gives the nearest points before and after a commit that is in no
// range, or at the end of one; nil where there is none.
func (r Ranges) around(id state.TXID) (before, after *Point) {
	i := r.after(id)
	if i > 0 {
		p := r[i-1].Last()
		before = &p
	}
	if i < len(r) {
		p := r[i].First()
		after = &p
	}
	return before, after
}

// RangeError is an ErrOutOfRange that knows what there is.
type RangeError struct {
	// Asked is what was asked for, as a person would say it.
	Asked string
	// Before and After are the nearest points that can be restored, nil where
	// there is none. For a time, Before can be older than what was current then.
	Before, After *Point
	// Ranges are all that can be restored.
	Ranges Ranges
}

// Error names what was asked for and what there is.
func (e *RangeError) Error() string {
	var says string
	switch {
	case e.Before == nil:
		says = "is before the first commit that can be restored"
	case e.After == nil:
		says = fmt.Sprintf("can't be restored, since commits up to it are missing; the nearest is %v", e.Before)
	default:
		says = fmt.Sprintf("lies in a gap of what can be restored, between %v and %v", e.Before, e.After)
	}
	return fmt.Sprintf("%s %s; restorable: %v", e.Asked, says, e.Ranges)
}

// Unwrap gives ErrOutOfRange.
func (e *RangeError) Unwrap() error { return ErrOutOfRange }

// outOfRange is the error for a commit that can't be restored, or for a time at
// which that commit is the last one that is known.
func (a *Archive) outOfRange(ctx context.Context, asked string, id state.TXID) error {
	r, err := a.Ranges(ctx)
	if err != nil {
		return err
	}
	e := &RangeError{Asked: asked, Ranges: r}
	e.Before, e.After = r.around(id)
	return e
}

// Check reads whether a commit can be restored, and gives a *RangeError if not.
func (a *Archive) Check(ctx context.Context, id state.TXID) error {
	err := a.outOfRange(ctx, fmt.Sprintf("TXID %v", id), id)
	var r *RangeError
	if errors.As(err, &r) && r.Ranges.Holds(id) {
		return nil
	}
	return err
}

// History is what can be restored of a replica, as it was when it was read. It is
// safe for concurrent use.
type History struct {
	archive *Archive
	all     []stretch
	damage  damage
}

// stretch is a snapshot that is whole, and the log that follows it without a
// gap.
type stretch struct {
	base Snapshot
	// last is the last commit, that of base if no log follows.
	last state.TXID
	// from and to bound the log's objects in the listing. The first of them can
	// begin before base.
	from, to int
	// single tells that neither the commit before base nor the one after it can
	// be restored.
	single bool
	// begin and end are the commits base.TXID and last, once they have been read.
	begin Commit
	end   Point
}

// stretches finds what can be restored. ends are the last commits of the
// listing's Segments; of one that is of no use, the commit before its first.
func (l *Listing) stretches(ends []state.TXID) (found []stretch) {
	c := l.chains()
	var last state.TXID
	next := 0 // the first object that ends after the snapshot
	for i, s := range l.Snapshots {
		if c.base[i] == missing || c.of[s.TXID] != i || s.TXID <= last {
			continue
		}
		for next < len(ends) && ends[next] <= s.TXID {
			next++
		}
		st := stretch{base: s, last: s.TXID, from: next, to: next}
		for st.to < len(ends) && l.Segments[st.to].First <= st.last+1 && ends[st.to] > st.last {
			st.last = ends[st.to]
			st.to++
		}
		n := len(found)
		follows := n > 0 && s.TXID == last+1
		if st.single = st.last == s.TXID && !follows; follows {
			found[n-1].single = false
		}
		found, last, next = append(found, st), st.last, st.to
	}
	return found
}

// Ranges are what can be restored: ranges of consecutive commits, each a snapshot
// and the log that follows it, and single snapshots without a log.
func (h *History) Ranges() Ranges {
	var r Ranges
	for _, s := range h.all {
		x := Range{s.begin.TXID, s.end.TXID, s.begin.Time, s.end.Time}
		if n := len(r); n > 0 && r[n-1].LastTXID+1 == x.FirstTXID {
			r[n-1].LastTXID, r[n-1].LastTime = x.LastTXID, x.LastTime
			continue
		}
		r = append(r, x)
	}
	return r
}

// Ranges reads the replica's History and gives its ranges.
func (a *Archive) Ranges(ctx context.Context) (Ranges, error) {
	h, err := a.History(ctx)
	if err != nil {
		return nil, err
	}
	return h.Ranges(), nil
}

// Range reads the first commit that can be restored and the newest one that the
// replica holds, with a read or two for each. What lies between can have gaps,
// and the newest can lie behind one: [Archive.Ranges] tells. ErrNoReplica says
// that nothing can be restored yet.
func (a *Archive) Range(ctx context.Context) (Range, error) {
	s, err := a.firstWhole()
	if err != nil {
		return Range{}, err
	}
	h, err := a.SnapshotHeader(ctx, s)
	if err != nil {
		return Range{}, err
	}
	first := snapshotCommit(h, s)
	r := Range{FirstTXID: first.TXID, FirstTime: first.Time, LastTXID: first.TXID, LastTime: first.Time}
	head, err := a.Head(ctx)
	if err == nil && head.Last > r.LastTXID {
		r.LastTXID, r.LastTime = head.Last, head.Commit.Time
	}
	return r, err
}
