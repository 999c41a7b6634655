package verify

import (
	"cmp"
	"slices"

	"tidemark/snapshot/state"
)

// interval is a stretch of TXIDs, both ends included. It is never empty.
type interval struct{ first, last state.TXID }

// intervals are in ascending order and don't touch.
type intervals []interval

// join makes intervals of some that may overlap.
func join(all []interval) intervals {
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(a.first, b.first) })
	var out intervals
	for _, x := range all {
		if n := len(out); n > 0 && x.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, x.last)
			continue
		}
		out = append(out, x)
	}
	return out
}

// minus is what is in a and not in b.
func (a intervals) minus(b intervals) (out intervals) {
	for _, x := range a {
		next := x.first
		for _, y := range b {
			if y.last < next || y.first > x.last {
				continue
			}
			if y.first > next {
				out = append(out, interval{next, y.first - 1})
			}
			next = y.last + 1
		}
		if next <= x.last {
			out = append(out, interval{next, x.last})
		}
	}
	return out
}

// holds tells whether a commit is among them.
func (a intervals) holds(id state.TXID) bool {
	return slices.ContainsFunc(a, func(x interval) bool { return x.first <= id && id <= x.last })
}

// commits is how many there are.
func (a intervals) commits() (n uint64) {
	for _, x := range a {
		n += uint64(x.last-x.first) + 1
	}
	return n
}

// at is the i-th commit, from 0 on. There must be so many.
func (a intervals) at(i uint64) state.TXID {
	for _, x := range a {
		n := uint64(x.last-x.first) + 1
		if i < n {
			return x.first + state.TXID(i)
		}
		i -= n
	}
	return 0
}

// last is the newest commit, 0 if there is none.
func (a intervals) last() state.TXID {
	if len(a) == 0 {
		return 0
	}
	return a[len(a)-1].last
}

// whole tells which snapshots have all that they add to, down to a full one. bad
// are the keys of those that don't count. snaps are in ascending order.
func whole(snaps []snapObject, bad map[string]bool) map[state.TXID]bool {
	ok := map[state.TXID]bool{}
	for _, s := range snaps {
		if !bad[s.key] && (s.base == 0 || ok[s.base]) {
			ok[s.txid] = true
		}
	}
	return ok
}

// reachable is what can be restored: each snapshot that is whole, and the log that
// follows it without a gap. log is in the order of reading.
func reachable(log []logObject, snaps []snapObject, bad map[string]bool) intervals {
	var runs []interval
	for _, o := range log {
		if !bad[o.key] && o.last >= o.first {
			runs = append(runs, interval{o.first, o.last})
		}
	}
	stretches := join(runs)
	var out []interval
	for id := range whole(snaps, bad) {
		x := interval{id, id}
		for _, r := range stretches {
			if r.first <= id+1 && id <= r.last {
				x.last = r.last
			}
		}
		out = append(out, x)
	}
	return join(out)
}
