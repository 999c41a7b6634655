// Package retain decides what of a replica's history is kept. It is a pure
// function of what there is, a policy and a time: no files, no requests.
//
// What is always kept:
//
//   - Every commit of the last [Policy.History]: the newest usable snapshot that
//     is as old as that, and the log since. If none is that old, everything.
//   - Older snapshots, thinned: the first of each hour, of each day, of each ISO
//     week, for a time each. They are single states: the log between them goes.
//   - What the marks need, whatever their age.
//   - The newest usable snapshot, and whatever is younger than [Policy.Grace].
//   - All snapshots that a kept one adds to.
//
// The first of an hour rather than its last, since the first snapshots of days and
// weeks add to each other: what stays needs little that would not stay anyway. The
// next snapshot, which may be on its way, adds to the newest or to one that this
// rests on. These stay, too.
//
// # Clocks
//
// A clock that is wrong must not delete more. So no snapshot counts as older than
// one before it in the history, one from the future is as new as can be, and the
// present is no later than the newest snapshot: time goes on with the history. A
// database at rest keeps what it had.
//
// # Order
//
// A plan is carried out from the newest commit to the oldest, and can stop
// anywhere: log goes before the snapshot that it is applied to, and from its end,
// a snapshot before the one that it adds to. So at each moment everything that is
// still there can be used.
package retain

import (
	"slices"
	"time"

	"tidemark/snapshot/state"
)

// Snapshot is a snapshot of the history.
type Snapshot struct {
	// TXID is the commit that it shows, Base that of the snapshot that it adds
	// to, 0 if it is full.
	TXID, Base state.TXID
	// Time is when it was made; zero if that is not known.
	Time time.Time
	// Bad says that it is known to be unusable.
	Bad bool
}

// Segment is a stretch of the log: a segment or a pack. Segments may overlap.
type Segment struct {
	// First and Last are its commits.
	First, Last state.TXID
}

// Mark is a named commit, which stays restorable.
type Mark struct {
	Name string
	TXID state.TXID
}

// State is what a history consists of, in any order.
type State struct {
	Snapshots []Snapshot
	Segments  []Segment
	Marks     []Mark
}

// Policy says what is kept of a history, and for how long. Nothing is negative.
type Policy struct {
	// History is for how long every commit stays restorable.
	History time.Duration
	// Hourly, Daily and Weekly are for how long one snapshot an hour, a day and
	// an ISO week stays.
	Hourly, Daily, Weekly time.Duration
	// Grace is how old something must be to be deleted at all.
	Grace time.Duration
}

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Default is the policy where none is set.
func Default() Policy {
	return Policy{History: week, Hourly: 2 * day, Daily: 30 * day, Weekly: 52 * week, Grace: time.Hour}
}

// Item is a snapshot or a segment, and what is said about it.
type Item struct {
	// Snapshot has TXID 0 if this is a segment.
	Snapshot Snapshot
	Segment  Segment
	// Why it goes or stays, for people.
	Why string
}

// IsSnapshot tells a snapshot from a segment.
func (i Item) IsSnapshot() bool { return i.Snapshot.TXID != 0 }

// last is the item's newest commit.
func (i Item) last() state.TXID {
	if i.IsSnapshot() {
		return i.Snapshot.TXID
	}
	return i.Segment.Last
}

// Plan is what goes of a history and what stays. It must not be changed.
type Plan struct {
	// Snapshots and Segments are what goes, each in the order of Goes.
	Snapshots []Snapshot
	Segments  []Segment
	// Goes is both, in the order in which to delete: see the package comment.
	Goes []Item
	// Stays is the rest, from the oldest on.
	Stays []Item

	policy Policy
	state  State
	locked []Item
	now    time.Time
}

// Rest gives what is left of the plan once the first n of Goes are deleted,
// without what these marks need: such as were made since. It deletes nothing that
// the plan does not.
func (p Plan) Rest(n int, marks []Mark) Plan {
	s := p.without(p.Goes[:n])
	s.Marks = slices.Concat(s.Marks, marks)
	return p.policy.plan(s, p.locked, p.now)
}

// Without gives what is left of the plan once the first n of Goes are deleted, if
// the next one can't be: it stays, and so does what it needs.
func (p Plan) Without(n int) Plan {
	locked := append(slices.Clip(p.locked), p.Goes[n].bare())
	return p.policy.plan(p.without(p.Goes[:n]), locked, p.now)
}

// After is the history once the plan is carried out.
func (p Plan) After() State { return p.without(p.Goes) }

// without is the history when some is deleted.
func (p Plan) without(items []Item) State {
	gone := map[Item]int{}
	for _, i := range items {
		gone[i.bare()]++
	}
	stays := func(i Item) bool {
		if gone[i] == 0 {
			return true
		}
		gone[i]--
		return false
	}
	s := State{Marks: p.state.Marks}
	for _, x := range p.state.Snapshots {
		if stays(Item{Snapshot: x}) {
			s.Snapshots = append(s.Snapshots, x)
		}
	}
	for _, x := range p.state.Segments {
		if stays(Item{Segment: x}) {
			s.Segments = append(s.Segments, x)
		}
	}
	return s
}

// bare is the item without what is said about it.
func (i Item) bare() Item { i.Why = ""; return i }
