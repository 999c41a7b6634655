package replica_test

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// What is known of the year's history without asking tidemark, and what its policy
// says of it. It is stated anew here, and shares no code with package retain.

// content is what a database holds.
type content struct {
	sum  uint64
	rows int
}

// truth is what each commit was, when, and what must be kept.
type truth struct {
	policy retain.Policy
	// commits has TXID i+1 at i. Those from seen on have not been shipped yet: their
	// times are when they were made, at the earliest.
	commits []moment
	seen    int
	// made gives the commits of all snapshots there ever were, in order.
	made func() []state.TXID
	// marks are the marks there are, unmarked the names that are free again, and
	// freed the commits that had them, with the newest commit then.
	marks    map[string]state.TXID
	unmarked []string
	freed    [][2]state.TXID
	// widest is the greatest number of commits that the window of all commits had.
	widest state.TXID
}

// moment is a commit.
type moment struct {
	at time.Time
	content
}

func newTruth(p retain.Policy, made func() []state.TXID) *truth {
	return &truth{policy: p, made: made, marks: map[string]state.TXID{}}
}

func (h *truth) add(at time.Time, c content) { h.commits = append(h.commits, moment{at, c}) }

// see tells that all commits have been seen by tidemark, at a time at which the
// clock stood still.
func (h *truth) see(at time.Time) {
	for i := h.seen; i < len(h.commits); i++ {
		h.commits[i].at = at
		if i > 0 && at.Before(h.commits[i-1].at) {
			h.commits[i].at = h.commits[i-1].at // times never decrease
		}
	}
	h.seen = len(h.commits)
}

// join makes one of the commits that were not seen: nobody could tell them apart.
func (h *truth) join() {
	h.commits = slices.Delete(h.commits, h.seen, len(h.commits)-1)
}

// last is the newest commit, shipped the newest that is shipped.
func (h *truth) last() state.TXID    { return state.TXID(len(h.commits)) }
func (h *truth) shipped() state.TXID { return state.TXID(h.seen) }

func (h *truth) at(id state.TXID) time.Time { return h.commits[id-1].at }

// current is the commit that was current at a time, 0 before the first.
func (h *truth) current(at time.Time) state.TXID {
	return state.TXID(sort.Search(h.seen, func(i int) bool { return h.commits[i].at.After(at) }))
}

func (h *truth) unmark(name string) {
	h.freed = append(h.freed, [2]state.TXID{h.marks[name], h.last()})
	delete(h.marks, name)
	h.unmarked = append(h.unmarked, name)
}

// names are those of the marks there are.
func (h *truth) names() []string {
	var names []string
	for name := range h.marks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// present is when the newest snapshot was made: the policy's time goes on with the
// history.
func (h *truth) present() time.Time {
	made := h.made()
	return h.at(made[len(made)-1])
}

// window is the first commit from which on every one must be restorable: the one
// that was current when the policy's time span began.
func (h *truth) window() state.TXID {
	from := max(1, h.current(h.present().Add(-h.policy.History)))
	h.widest = max(h.widest, h.shipped()-from)
	return from
}

// thinned are the snapshots that must be restorable by their age.
func (h *truth) thinned() []state.TXID {
	var kept []state.TXID
	present := h.present()
	for _, p := range []struct {
		stays time.Duration
		name  func(time.Time) string
	}{
		{h.policy.Hourly, func(t time.Time) string { return t.Format("2006-01-02 15") }},
		{h.policy.Daily, func(t time.Time) string { return t.Format("2006-01-02") }},
		{h.policy.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, w) }},
	} {
		was := ""
		for _, id := range h.made() {
			if name := p.name(h.at(id)); name != was {
				if was = name; present.Sub(h.at(id)) <= p.stays {
					kept = append(kept, id)
				}
			}
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}

// gone tells of commits that nothing keeps: they are far before the window, no
// snapshot was made of them, and none that is near is marked, or was until lately.
// What is near may be there because objects of the log go as a whole.
func (h *truth) gone() func(state.TXID) bool {
	snaps := map[state.TXID]bool{}
	for _, id := range h.made() {
		snaps[id] = true
	}
	from, far := h.window(), h.widest/2 // a pack is an eighth of the log at most
	var marked []state.TXID
	for _, id := range h.marks {
		marked = append(marked, id)
	}
	for _, f := range h.freed {
		if h.shipped() <= f[1]+far {
			marked = append(marked, f[0])
		}
	}
	return func(id state.TXID) bool {
		near := func(m state.TXID) bool { return max(m, id)-min(m, id) <= far }
		return id+far < from && !snaps[id] && !slices.ContainsFunc(marked, near)
	}
}
