package retain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"tidemark/snapshot/state"
)

// Plan decides what of a history goes and what stays at a time. The history once
// it is carried out has an empty plan at that time.
func (p Policy) Plan(s State, now time.Time) Plan { return p.plan(s, nil, now) }

// plan is Plan with items that can't be deleted.
func (p Policy) plan(s State, locked []Item, now time.Time) Plan {
	h := newHistory(s)
	if newest := h.newest(^state.TXID(0)); newest < 0 {
		h.keepAll("there is no usable snapshot")
	} else if start, present := h.windowStart(p, newest, now); start < 0 {
		h.keepAll("no snapshot is old enough that what is after it would do")
	} else {
		h.keep(start, "every commit after it stays")
		h.keep(newest, "the newest")
		h.keepWindow(start)
		h.keepMarked(s.Marks)
		h.keepLocked(locked)
		h.keepThinned(p, present)
		h.keepYoung(p, present, now, start)
		h.condemn(p, present, start)
	}
	out := h.split()
	out.policy, out.state, out.locked, out.now = p, s, locked, now
	return out
}

// history is a State in order, and what has been decided of it.
type history struct {
	snaps []Snapshot // by TXID; of one TXID the full one first
	segs  []Segment  // by First
	// first is the index of the first usable snapshot of a TXID.
	first map[state.TXID]int
	// made is when a snapshot was made, as far as that can be relied on: see
	// "Clocks" in the package comment. ahead is the one that has a time after
	// its own, or itself.
	made  []time.Time
	ahead []int
	// Why something stays, "" if it does not, and why it goes.
	snapStays, segStays, snapGoes, segGoes []string
}

func newHistory(s State) *history {
	h := &history{snaps: slices.Clone(s.Snapshots), segs: slices.Clone(s.Segments), first: map[state.TXID]int{}}
	slices.SortFunc(h.snaps, func(a, b Snapshot) int {
		return cmp.Or(cmp.Compare(a.TXID, b.TXID), cmp.Compare(a.Base, b.Base))
	})
	slices.SortFunc(h.segs, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	h.snapStays, h.snapGoes = make([]string, len(h.snaps)), make([]string, len(h.snaps))
	h.segStays, h.segGoes = make([]string, len(h.segs)), make([]string, len(h.segs))
	for i, s := range h.snaps {
		if _, again := h.first[s.TXID]; !again && h.whole(s) {
			h.first[s.TXID] = i
		}
	}
	h.date()
	return h
}

// whole tells whether a snapshot can be used, with all that it adds to. It is
// called in ascending order.
func (h *history) whole(s Snapshot) bool {
	_, based := h.first[s.Base]
	return !s.Bad && (s.Base == 0 || based && s.Base < s.TXID)
}

// usable tells whether a snapshot is one that the rules are about. A second one
// of the same commit is not.
func (h *history) usable(i int) bool {
	first, ok := h.first[h.snaps[i].TXID]
	return ok && first == i
}

// date finds out when the snapshots were made. The time of one that can't be used
// is not relied on to date others.
func (h *history) date() {
	h.made, h.ahead = make([]time.Time, len(h.snaps)), make([]int, len(h.snaps))
	latest := -1
	for i, s := range h.snaps {
		h.made[i], h.ahead[i] = s.Time, i
		switch {
		case s.Time.IsZero():
			h.made[i] = time.Unix(1<<55, 0) // as new as can be
		case latest >= 0 && s.Time.Before(h.made[latest]):
			h.made[i], h.ahead[i] = h.made[latest], latest
		case h.usable(i):
			latest = i
		}
	}
}

// newest is the newest usable snapshot at or before a commit, or -1.
func (h *history) newest(id state.TXID) int {
	for i, s := range slices.Backward(h.snaps) {
		if s.TXID <= id && h.usable(i) {
			return i
		}
	}
	return -1
}

// windowStart is the snapshot that covers the window's start, or -1, and the
// present.
func (h *history) windowStart(p Policy, newest int, now time.Time) (start int, present time.Time) {
	present = now
	if h.made[newest].Before(now) {
		present = h.made[newest]
	}
	start = -1
	for i := range h.snaps {
		if h.usable(i) && h.made[i].Before(present.Add(-max(p.History, p.Grace))) {
			start = i
		}
	}
	return start, present
}

// keep keeps a snapshot, with all that it adds to. The first reason counts.
func (h *history) keep(i int, why string) {
	if h.snapStays[i] != "" {
		return
	}
	h.snapStays[i] = why
	if base, ok := h.first[h.snaps[i].Base]; ok {
		h.keep(base, fmt.Sprintf("TXID %v adds to it", h.snaps[i].TXID))
	}
	if h.ahead[i] != i {
		h.keep(h.ahead[i], fmt.Sprintf("the clock went back after it: TXID %v counts as no older", h.snaps[i].TXID))
	}
}

func (h *history) keepAll(why string) {
	for i := range h.snaps {
		h.snapStays[i] = why
	}
	for i := range h.segs {
		h.segStays[i] = why
	}
}

// keepWindow keeps all log after a snapshot that stays, and where the log has gaps,
// the snapshots after which it begins anew.
func (h *history) keepWindow(start int) {
	id := h.snaps[start].TXID
	why := fmt.Sprintf("every commit after TXID %v stays", id)
	for i, s := range h.segs {
		if s.Last > id {
			h.segStays[i] = why
		}
	}
	end, next := id, 0
	for i := start; i < len(h.snaps); i++ {
		if !h.usable(i) {
			continue
		}
		if id := h.snaps[i].TXID; id > end {
			h.keep(i, "the log does not lead to it")
			end = id
		}
		for ; next < len(h.segs) && h.segs[next].First <= end+1; next++ {
			end = max(end, h.segs[next].Last)
		}
	}
}

// keepMarked keeps what the marked commits need.
func (h *history) keepMarked(marks []Mark) {
	for _, m := range marks {
		h.keepCommit(m.TXID, fmt.Sprintf("the mark %s, TXID %v", m.Name, m.TXID))
	}
}

// keepCommit keeps what a commit needs.
func (h *history) keepCommit(id state.TXID, why string) {
	i := h.newest(id)
	if i < 0 {
		return // it can't be restored, whatever stays
	}
	h.keep(i, why)
	for j, s := range h.segs {
		if h.segStays[j] == "" && s.Last > h.snaps[i].TXID && s.First <= id {
			h.segStays[j] = why
		}
	}
}

// keepLocked keeps what can't be deleted, and what it needs.
func (h *history) keepLocked(items []Item) {
	const why = "storage refuses to delete it"
	for i, s := range h.snaps {
		if slices.Contains(items, Item{Snapshot: s}) {
			h.keep(i, why)
		}
	}
	for i, s := range h.segs {
		if slices.Contains(items, Item{Segment: s}) {
			h.segStays[i] = why
			h.keepCommit(s.Last, fmt.Sprintf("the log from TXID %v on needs it, which can't be deleted", s.First))
		}
	}
}

// period is a span of time of which the first snapshot stays.
type period struct {
	name  string
	stays func(Policy) time.Duration
	// key is the same for all times of one period.
	key func(time.Time) [2]int
}

// periods from the shortest on.
func periods() []period {
	return []period{
		{"hour", func(p Policy) time.Duration { return p.Hourly }, func(t time.Time) [2]int {
			return [2]int{int(t.Truncate(time.Hour).Unix())}
		}},
		{"day", func(p Policy) time.Duration { return p.Daily }, dayOf},
		{"week", func(p Policy) time.Duration { return p.Weekly }, weekOf},
	}
}

func dayOf(t time.Time) [2]int { return [2]int{t.Year(), t.YearDay()} }

func weekOf(t time.Time) [2]int {
	year, week := t.ISOWeek()
	return [2]int{year, week}
}

// SameDay tells whether two times are on one day as retention counts them, in UTC.
func SameDay(a, b time.Time) bool { return dayOf(a.UTC()) == dayOf(b.UTC()) }

// SameWeek does so for ISO weeks.
func SameWeek(a, b time.Time) bool { return weekOf(a.UTC()) == weekOf(b.UTC()) }

// keepThinned keeps the first snapshot of each hour, day and week that is not too
// long ago.
func (h *history) keepThinned(p Policy, present time.Time) {
	for _, per := range periods() {
		seen := map[[2]int]bool{}
		for i := range h.snaps {
			if !h.usable(i) || h.snaps[i].Time.IsZero() {
				continue
			}
			key := per.key(h.made[i].UTC())
			if !seen[key] && present.Sub(h.made[i]) <= per.stays(p) {
				h.keep(i, "the first of its "+per.name)
			}
			seen[key] = true
		}
	}
}

// keepYoung keeps what is too young to be judged, or of an unknown age. But what
// can't be used and is before the window's start was made before it. A bad one is
// nothing that a wrong clock could lose.
func (h *history) keepYoung(p Policy, present, now time.Time, start int) {
	for i, s := range h.snaps {
		age := present.Sub(h.made[i])
		if s.Bad {
			age = now.Sub(h.made[i])
		}
		old := s.Time.IsZero() && !h.whole(s) && s.TXID < h.snaps[start].TXID
		if age < p.Grace && !old {
			h.keep(i, "too young to go")
		}
	}
}

// condemn says why the rest goes.
func (h *history) condemn(p Policy, present time.Time, start int) {
	for i, s := range h.snaps {
		h.snapGoes[i] = h.fault(s)
		if h.snapGoes[i] != "" {
			continue
		}
		h.snapGoes[i] = "older than what stays of its age"
		for _, per := range periods() {
			if present.Sub(h.made[i]) <= per.stays(p) {
				h.snapGoes[i] = "not the first of its " + per.name
				break
			}
		}
	}
	for i := range h.segs {
		h.segGoes[i] = fmt.Sprintf("not after TXID %v, from which on every commit stays", h.snaps[start].TXID)
	}
}

// fault says what is wrong with a snapshot, or "".
func (h *history) fault(s Snapshot) string {
	switch {
	case s.Bad:
		return "it can't be used"
	case !h.whole(s):
		return fmt.Sprintf("TXID %v, to which it adds, can't be used or is not there", s.Base)
	default:
		return ""
	}
}

// split sorts what has been decided.
func (h *history) split() Plan {
	var out Plan
	type placed struct {
		Item
		end state.TXID
	}
	var goes []placed
	for i, s := range h.snaps {
		if h.snapStays[i] != "" {
			out.Stays = append(out.Stays, Item{Snapshot: s, Why: h.snapStays[i]})
		} else {
			goes = append(goes, placed{Item{Snapshot: s, Why: h.snapGoes[i]}, s.TXID})
		}
	}
	var end state.TXID // of the log so far
	for i, s := range h.segs {
		end = max(end, s.Last)
		if h.segStays[i] != "" {
			out.Stays = append(out.Stays, Item{Segment: s, Why: h.segStays[i]})
		} else {
			goes = append(goes, placed{Item{Segment: s, Why: h.segGoes[i]}, end})
		}
	}
	// From the end, segments before snapshots. A segment whose commits are all in
	// a pack goes before the pack: what leads to it may be there only.
	slices.SortFunc(goes, func(a, b placed) int {
		return cmp.Or(cmp.Compare(b.end, a.end), cmp.Compare(a.Snapshot.TXID, b.Snapshot.TXID), cmp.Compare(b.Snapshot.Base, a.Snapshot.Base),
			cmp.Compare(b.Segment.First, a.Segment.First), cmp.Compare(a.Segment.Last, b.Segment.Last))
	})
	slices.SortStableFunc(out.Stays, func(a, b Item) int { return cmp.Compare(a.last(), b.last()) })
	for _, i := range goes {
		out.Goes = append(out.Goes, i.Item)
		if i.IsSnapshot() {
			out.Snapshots = append(out.Snapshots, i.Snapshot)
		} else {
			out.Segments = append(out.Segments, i.Segment)
		}
	}
	return out
}
