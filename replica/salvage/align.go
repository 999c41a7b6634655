package salvage

import (
	"iter"
	"slices"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// alignment says after which of the WAL's commits a file of pages stands.
//
// A page of the file that is the same as an image in the WAL was written by that
// frame, so that the file stands after that frame's commit and before the next one that
// writes the page. If all pages agree on a commit, that is it. A database stands at the
// commit up to which it was checkpointed, a state of a replica at that which it is of.
type alignment struct {
	// commits is the number of commits with which most pages agree; least is the
	// smallest such number, commits the greatest.
	least, commits int
	// against is the number of pages that don't agree, and matches that of those that are
	// the same as an image in the WAL.
	against, matches int
	// reached is the newest commit of which the file has a page, as a number of commits.
	reached int
	// begun tells that the pages that are the same are those with the lowest numbers, as a
	// checkpoint leaves them that was cut off: it copies pages in this order.
	begun bool
}

// written is what is known of a page that the WAL writes.
type written struct {
	first   int32 // the number of commits with which its first image came
	last    int32 // and its last one
	open    bool  // that image is the file's
	matched bool  // one of its images is
}

// comparison is what align works with.
type comparison struct {
	pages map[wal.PageNo]written
	// votes counts, as differences, the pages that agree with so many commits.
	votes []int32
	// lost are the numbers of commits after which frames are lost, in order: a page that is the
	// same as no image may have been written there.
	lost []int32
	// reached is as in alignment.
	reached int
}

// voteLost counts a page that agrees with nothing that is known of it in a part of the WAL, in
// which something is lost.
func (c *comparison) voteLost(from, to int32) {
	if k, _ := slices.BinarySearch(c.lost, from); k < len(c.lost) {
		c.vote(c.lost[k], to)
	}
}

// vote counts a page that agrees with so many commits and more, up to a number that is not
// included.
func (c *comparison) vote(from, to int32) {
	if from < to {
		c.votes[from]++
		c.votes[to]--
	}
}

// add takes the next image of a page, and that which the file has.
func (c *comparison) add(no wal.PageNo, commits int32, image, have state.Sum) {
	w := c.pages[no]
	switch {
	case w.open:
		c.vote(w.last, commits)
	case w.last == 0 && !w.matched:
		c.vote(0, commits) // it may be from before the WAL
	case !w.matched:
		c.voteLost(w.last, commits)
	}
	if w.first == 0 {
		w.first = commits
	}
	w.last, w.open = commits, image == have
	if w.open {
		c.reached = max(c.reached, int(commits))
	}
	c.pages[no] = w
}

// lostCommits are the numbers of commits after which frames are lost, in order.
func (h *history) lostCommits() (all []int32) {
	for _, i := range h.lost {
		k, _ := slices.BinarySearchFunc(h.commits, i, func(c commit, i int) int { return c.Last - i })
		if n := len(all); n == 0 || all[n-1] != int32(k) {
			all = append(all, int32(k))
		}
	}
	return all
}

// align compares a file of pages with the WAL's frames. Pages that no frame that is
// known wrote say nothing. lost are as in comparison; with nil, no page is taken for one that
// a lost frame wrote.
func (h *history) align(p *pages, lost []int32) alignment {
	c := &comparison{pages: map[wal.PageNo]written{}, votes: make([]int32, len(h.commits)+2), lost: lost}
	for i := range h.committed() {
		if no := h.Frames[i].Page; !c.pages[no].matched {
			c.pages[no] = written{matched: p.at(no) == h.sums[i]}
		}
	}
	for i, commits := range h.committed() {
		no := h.Frames[i].Page
		c.add(no, int32(commits), h.sums[i], p.at(no))
	}
	a := alignment{reached: c.reached}
	for _, w := range c.pages {
		switch end := int32(len(h.commits)) + 1; {
		case w.open:
			c.vote(w.last, end)
		case !w.matched:
			c.voteLost(w.last, end)
		}
		if w.matched {
			a.matches++
		}
	}
	most, sum := int32(-1), int32(0)
	for k, v := range c.votes[:len(h.commits)+1] {
		sum += v
		switch {
		case sum > most:
			most, a.least, a.commits = sum, k, k
		case sum == most:
			a.commits = k
		}
	}
	a.against = len(c.pages) - int(most)
	a.begun = a.matches > 0 && c.inOrder()
	return a
}

// inOrder tells whether all pages that are the same have lower numbers than all others that
// could be.
func (c *comparison) inOrder() bool {
	highest, lowest := wal.PageNo(0), wal.PageNo(maxPages)
	for no, w := range c.pages {
		switch {
		case w.matched:
			highest = max(highest, no)
		case int(w.first) <= c.reached:
			lowest = min(lowest, no)
		}
	}
	return highest < lowest
}

// alignDatabase finds where the database stands. A page that is the same as an image in the WAL
// need not come from there: a commit can bring a page back to what it was. So it counts only
// if all pages agree, but for as many as frames are lost, or if a checkpoint was cut off.
func (h *history) alignDatabase(p *pages) alignment {
	a := h.align(p, nil)
	agree := a.against <= h.unknown(a.commits) && a.matches > a.against
	if !agree && !a.begun {
		a.reached, a.least, a.commits = 0, 0, 0
	}
	return a
}

// committed gives the frames whose images are known up to the last commit, each with
// the number of commits up to its own.
func (h *history) committed() iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		k := 0
		for i := range h.end(len(h.commits)) + 1 {
			for h.commits[k].Last < i {
				k++
			}
			if h.usable(i) && !yield(i, k+1) {
				return
			}
		}
	}
}
