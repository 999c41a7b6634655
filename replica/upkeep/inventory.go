package upkeep

import (
	"cmp"
	"slices"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// object is an object of the log.
type object struct {
	archive.Segment
	// last is its last commit; endless for the newest if nobody has told.
	last state.TXID
	// since is when it was put, as far as that is known, and else when it was
	// found in the listing; of a pack, when the newest was that it was made of; of
	// what a pack covers, when the pack was put, which the listing can tell, too.
	since time.Time
	// severed tells that it can't be joined with the one before it.
	severed bool
	// proof is what is known of a pack.
	proof proof
}

// proof tells whether a pack was looked at.
type proof int

const (
	unproven proof = iota
	proven
	// unfit packs can't be read, and nothing is deleted for them.
	unfit
)

// endless is after every commit, with room for one more.
const endless = ^state.TXID(0) - 1

// snapshot is a snapshot of the archive.
type snapshot struct {
	archive.Snapshot
	// time is when it was made, zero if that was not read yet.
	time time.Time
	bad  bool
}

// inventory is what an archive holds.
type inventory struct {
	// log is what is read, covered what packs cover; both ascend.
	log, covered []object
	snaps        []snapshot
}

// take makes an inventory of a listing.
func take(l archive.Listing, now time.Time) inventory {
	var v inventory
	// Else what takes an hour would never come in runs that end sooner. Storage whose
	// clock is far from this one's can't be written to at all on S3.
	since := func(s archive.Segment) time.Time {
		if at := l.PutAt(s); !at.IsZero() && at.Before(now) {
			return at
		}
		return now
	}
	for i, s := range l.Segments {
		o := object{Segment: s, last: s.Last, since: since(s)}
		if i > 0 {
			before := &v.log[i-1]
			if !before.IsPack() {
				before.last = s.First - 1
			}
			o.severed = before.last != s.First-1
		}
		if !s.IsPack() {
			o.last = endless
		}
		v.log = append(v.log, o)
	}
	for _, s := range l.Covered {
		c := object{Segment: s, last: max(s.First, s.Last), since: now}
		if pack := v.over(c); pack != nil {
			c.since = pack.since
		}
		v.covered = append(v.covered, c)
	}
	for _, s := range l.Snapshots {
		v.snaps = append(v.snaps, snapshot{Snapshot: s})
	}
	return v
}

// put adds the newest segment.
func (v *inventory) put(s archive.Segment, last state.TXID, now time.Time) {
	o := object{Segment: s, last: last, since: now}
	if n := len(v.log); n > 0 {
		before := &v.log[n-1]
		if before.First >= s.First {
			return // it is known already
		}
		if before.last == endless {
			before.last = s.First - 1
		}
		o.severed = before.last != s.First-1
	}
	v.log = append(v.log, o)
}

// putSnapshot adds a snapshot.
func (v *inventory) putSnapshot(s archive.Snapshot, at time.Time) {
	i := slices.IndexFunc(v.snaps, func(o snapshot) bool { return o.TXID == s.TXID && o.Base == s.Base })
	if i >= 0 {
		v.snaps[i].time = at
		return
	}
	v.snaps = append(v.snaps, snapshot{Snapshot: s, time: at})
}

// dated takes over what was read of a snapshot, or that it is gone.
func (v *inventory) dated(s snapshot, gone bool) {
	i := slices.IndexFunc(v.snaps, func(o snapshot) bool { return o.Snapshot == s.Snapshot })
	switch {
	case i < 0:
	case gone:
		v.snaps = slices.Delete(v.snaps, i, i+1)
	default:
		v.snaps[i] = s
	}
}

// pack puts a pack in the place of the objects [from, to) of the log.
func (v *inventory) pack(from, to int, s archive.Segment, now time.Time) {
	o := object{Segment: s, last: s.Last, severed: v.log[from].severed}
	for _, c := range v.log[from:to] {
		if o.since.IsZero() || c.since.After(o.since) {
			o.since = c.since
		}
		c.since = now
		v.covered = append(v.covered, c)
	}
	v.log = slices.Replace(v.log, from, to, o)
	slices.SortFunc(v.covered, func(a, b object) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.Last, a.Last))
	})
}

// forget takes out objects that were deleted, by their keys.
func (v *inventory) forget(gone map[string]bool) {
	v.covered = slices.DeleteFunc(v.covered, func(o object) bool { return gone[o.Key()] })
	v.snaps = slices.DeleteFunc(v.snaps, func(s snapshot) bool { return gone[s.Key()] })
	log, severed := v.log[:0], false
	for _, o := range v.log {
		if gone[o.Key()] {
			severed = true
			continue
		}
		o.severed = o.severed || severed
		log, severed = append(log, o), false
	}
	clear(v.log[len(log):])
	v.log = log
}

// packable is how many objects of the log are not among the newest.
func (v *inventory) packable(p Packing) int { return max(0, len(v.log)-p.Newest) }

// over finds the pack that covers an object, or nil.
func (v *inventory) over(c object) *object {
	i, ok := slices.BinarySearchFunc(v.log, c.First, func(o object, id state.TXID) int {
		switch {
		case o.last < id:
			return -1
		case o.First > id:
			return 1
		default:
			return 0
		}
	})
	if !ok || !v.log[i].IsPack() || v.log[i].last < c.Last {
		return nil
	}
	return &v.log[i]
}

// find is the place of an object of the log, or -1.
func (v *inventory) find(s archive.Segment) int {
	return slices.IndexFunc(v.log, func(o object) bool { return o.Segment == s })
}

// objects is the log as the policy sees it.
func (v *inventory) objects() []Object {
	log := make([]Object, len(v.log))
	for i, o := range v.log {
		log[i] = Object{Size: o.Size, Severed: o.severed}
	}
	return log
}

// segments is the log as the archive sees it.
func segments(log []object) []archive.Segment {
	out := make([]archive.Segment, len(log))
	for i, o := range log {
		out[i] = o.Segment
	}
	return out
}
