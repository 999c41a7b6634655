package salvage

import "cmp"

// standing is what decides which of two candidates is better. See the package comment.
type standing struct {
	// stranger: it looks like a state of another database. That is never the best.
	stranger bool
	proof    Proof
	// settled: nothing is lost of it. seeming: something is, but nothing shows, as far as the
	// headers of lost frames tell. That is a hint and no proof.
	settled, seeming bool
	// newer: it has commits that the files lack.
	newer   bool
	commits int
	// mixed: it has pages of earlier generations, which can bring back what was deleted, or
	// a part of a transaction.
	mixed bool
	// rows are those of tables; entries may be copies of some, in an index whose table is not
	// known. See trial.
	rows, entries int64
	order         int // of its kind
}

// compare is negative if a is better than b.
func compare(a, b standing) int {
	yes := func(a, b bool) int { // yes goes first
		switch {
		case a == b:
			return 0
		case a:
			return -1
		default:
			return 1
		}
	}
	if c := yes(b.stranger, a.stranger); c != 0 {
		return c
	}
	if c := cmp.Compare(rank(a.proof), rank(b.proof)); c != 0 {
		return c
	}
	if a.proof == Damaged {
		return cmp.Or(
			cmp.Compare(b.rows, a.rows), cmp.Compare(b.commits, a.commits),
			cmp.Compare(b.entries, a.entries), cmp.Compare(a.order, b.order),
		)
	}
	return cmp.Or(
		yes(a.newer, b.newer), cmp.Compare(b.commits, a.commits), yes(a.settled, b.settled), yes(a.seeming, b.seeming),
		yes(b.mixed, a.mixed), cmp.Compare(b.rows, a.rows), cmp.Compare(a.order, b.order),
	)
}

// order is a kind's place among the kinds.
func (k Kind) order() int {
	for i, other := range []Kind{
		KindProven, KindCheckpointed, KindReplica, KindIntact, KindFrames, KindPartial, KindGenerations, KindDatabase, KindWAL,
	} {
		if k == other {
			return i
		}
	}
	return -1
}
