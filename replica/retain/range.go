package retain

import "tidemark/snapshot/state"

// Range is a stretch of commits of which each can be restored.
type Range struct {
	First, Last state.TXID
}

// Restorable is what can be restored of a history, in ascending order: from each
// usable snapshot on, as far as the log goes.
func (s State) Restorable() []Range {
	h := newHistory(s)
	var out []Range
	next := 0
	for i, snap := range h.snaps {
		if !h.usable(i) {
			continue
		}
		if n := len(out); n == 0 || snap.TXID > out[n-1].Last+1 {
			out = append(out, Range{First: snap.TXID, Last: snap.TXID})
		}
		r := &out[len(out)-1]
		r.Last = max(r.Last, snap.TXID)
		for ; next < len(h.segs) && h.segs[next].First <= r.Last+1; next++ {
			r.Last = max(r.Last, h.segs[next].Last)
		}
	}
	return out
}
