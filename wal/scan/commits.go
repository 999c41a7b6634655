package scan

import (
	"slices"

	"tidemark/wal"
)

// finish makes what is known of single frames into generations, commits and
// verdicts.
func (s *scanner) finish(r *Result, l layout) {
	s.count(r)
	trust := s.trust()
	current := s.current(r.Generations, trust)
	r.Commits = s.commits(r)
	h := &r.Header
	h.Used = wal.Header{Order: l.order, PageSize: l.size}
	if current != NoGeneration {
		g := &r.Generations[current]
		g.Current = true
		h.Used.Order, h.Used.Salts, h.Trust = g.Order, g.Salts, trust[current]
		found, _ := lenient(h.Found)
		h.Used.Sequence = found.Sequence
		if h.Trust == Likely || h.Trust == Confirmed {
			h.Used.Sequence = s.chains[current].sequence
		}
	}
	h.Used, _ = wal.ParseHeader(h.Used.AppendTo(nil)) // for the sum
	if current != NoGeneration {
		h.compare(r.Generations[current].Holding, r.Generations[current].Frames)
	} else {
		h.compare(0, 0)
	}
	r.markRepeated()
	s.verdicts(r, current)
}

// trust says of each generation how far its header is to be trusted.
func (s *scanner) trust() []Trust {
	all := make([]Trust, len(s.chains))
	found, _ := lenient(s.header.Found)
	for g := range s.chains {
		switch {
		case s.header.Err == nil && found.PageSize == s.size && s.generations[g].Salts == found.Salts:
			all[g] = Whole
		default:
			all[g] = s.chains[g].trust
		}
	}
	return all
}

// count fills in what generations say of their frames.
func (s *scanner) count(r *Result) {
	for i, f := range r.Frames {
		if f.Generation == NoGeneration {
			continue
		}
		g := &r.Generations[f.Generation]
		if g.Frames == 0 {
			g.First = i
			g.FromStart = f.Link.Holds() // a first frame can only follow from a header
		}
		g.Last = i
		g.Frames++
		if f.Link.Holds() {
			g.Holding++
		}
	}
}

// current chooses the generation that the WAL holds now: the header's, or the one
// whose beginning was confirmed, or the one with most frames that hold; but if frames
// that hold are of a later generation than that one, then blocks of an older WAL
// lie over a newer one, and it is the latest.
func (s *scanner) current(all []Generation, trust []Trust) int {
	best := NoGeneration
	for g := range all {
		if best == NoGeneration || trust[g] > trust[best] ||
			trust[g] == trust[best] && all[g].Holding > all[best].Holding {
			best = g
		}
	}
	if best == NoGeneration {
		return best
	}
	from := all[best].Salts.Salt1
	for g := range all {
		later := int32(all[g].Salts.Salt1 - from)
		if all[g].Holding > 0 && later < nearSalt && later > int32(all[best].Salts.Salt1-from) {
			best = g
		}
	}
	return best
}

// transaction is one that is being put together.
type transaction struct {
	open  bool
	first int
	// fromStart says that all frames of the generation have held so far.
	fromStart bool
	prev      int // the generation's last frame, or headerOrigin
	start     Reason
	broken    int // a frame that is Broken, or -1
	orphan    int // the first frame that is Orphaned, or -1
	orphans   int
	// likely says that it begins the generation, and that a header was rebuilt for
	// its first frame.
	likely bool
}

// commits puts the frames of each generation together.
func (s *scanner) commits(r *Result) []Commit {
	var all []Commit
	open := make([]transaction, len(r.Generations))
	for g := range open {
		open[g] = transaction{prev: headerOrigin, fromStart: r.Generations[g].FromStart}
	}
	for i, f := range r.Frames {
		if f.Generation == NoGeneration || f.Verdict == Torn {
			continue
		}
		t := &open[f.Generation]
		s.join(r, t, i)
		if f.Commit != 0 {
			c := t.commit(f)
			c.Generation, c.Last, c.Pages = int(f.Generation), i, f.Commit
			all = append(all, c)
			t.open = false
		}
		t.prev = i
	}
	return all
}

// join adds frame i to its generation's transaction, or begins one with it.
func (s *scanner) join(r *Result, t *transaction, i int) {
	f := r.Frames[i]
	gap := t.prev != headerOrigin && !f.Link.Holds() && r.Frames[t.prev].Offset+s.stride != f.Offset
	if gap {
		t.open = false // its end is lost; what follows may be of another
	}
	if !t.open {
		*t = transaction{open: true, first: i, fromStart: t.fromStart, prev: t.prev, broken: -1, orphan: -1}
		t.start = s.startOf(r, t, f)
		t.likely = t.prev == headerOrigin && s.chains[f.Generation].trust == Likely
		if gap {
			t.start = StartLost
		}
	}
	switch {
	case f.Link == Orphaned && t.orphan < 0:
		t.orphan = i
		t.orphans++
	case f.Link == Orphaned:
		t.orphans++
	case !f.Link.Holds():
		t.broken = i
	}
	t.fromStart = t.fromStart && f.Link.Holds()
}

// startOf says what is wrong with the beginning of a transaction, if nothing lies
// between its first frame and the frame before.
func (s *scanner) startOf(r *Result, t *transaction, first Frame) Reason {
	switch {
	case t.prev != headerOrigin && r.Frames[t.prev].Link.Holds():
	case t.prev != headerOrigin:
		return StartUnproved
	case t.fromStart || first.Offset == wal.HeaderSize || s.chains[first.Generation].trust != Guessed:
	default:
		return StartLost
	}
	return NoReason
}

// commit judges the transaction that ends with a frame.
func (t *transaction) commit(end Frame) Commit {
	c := Commit{First: t.first, Bad: t.first, Reason: t.start, Proof: Probable}
	switch {
	case t.broken >= 0:
		c.Proof, c.Reason, c.Bad = Damaged, FrameBroken, t.broken
	case t.start == StartLost:
		c.Proof = Damaged
	case t.orphan >= 0:
		c.Reason, c.Bad = FrameOrphaned, t.orphan
		if t.orphan != t.first || t.orphans > 1 || !end.Link.Holds() && !t.likely {
			c.Proof = Damaged
		}
	case t.start == StartUnproved:
		c.Bad = t.prev
	case t.fromStart:
		c.Proof = Proven
	default:
		c.Proof = Intact
	}
	return c
}

// markRepeated finds copies of commits, as a block that was written to a wrong
// place makes them: the sum of a commit's last frame names all that came before. The
// better proven one counts, then the one in a frame's place, then the later one.
func (r *Result) markRepeated() {
	type chainEnd struct {
		generation int
		sum        wal.Checksum
	}
	if !slices.ContainsFunc(r.Commits, func(c Commit) bool { return c.Proof != Proven }) {
		return
	}
	seen := map[chainEnd]int{}
	for i := range r.Commits {
		c := &r.Commits[i]
		if c.Proof == Damaged {
			continue
		}
		end := chainEnd{c.Generation, r.Frames[c.Last].Sum}
		k, ok := seen[end]
		seen[end] = i
		if !ok {
			continue
		}
		worse, better := &r.Commits[k], c
		if worse.Proof > better.Proof ||
			worse.Proof == better.Proof && r.Number(worse.Last) != 0 && r.Number(better.Last) == 0 {
			worse, better = better, worse
			seen[end] = k
		}
		worse.Proof, worse.Reason, worse.Bad = Damaged, Repeated, better.Last
	}
}

// verdicts says of each frame what it is.
func (s *scanner) verdicts(r *Result, current int) {
	commits := false // a frame of the current generation that holds commits further on
	for i := range slices.Backward(r.Frames) {
		f := &r.Frames[i]
		switch {
		case f.Verdict == Torn || f.Generation == NoGeneration:
		case int(f.Generation) != current:
			f.Verdict = Stale
		case f.Link == Orphaned:
			f.Verdict = Orphan
		case !f.Link.Holds():
			f.Verdict = ChecksumBroken
		default:
			commits = commits || f.Commit != 0
			f.Verdict = Uncommitted
			if commits {
				f.Verdict = Committed
			}
		}
	}
}
