package salvage

import (
	"tidemark/wal"
)

// plan is what a candidate is made of: a base, and for each page the frame whose image
// replaces the base's.
type plan struct {
	kind Kind
	size wal.PageSize
	// base is nil if there is none.
	base   *pages
	remote bool // the base is the replica's
	// from are the frames, by page; noFrame: the base's page.
	from []int32
	// skip is the last frame that the base has already; -1: none. end is the last one that
	// counts; -1: none.
	skip, end int
	// absent counts the pages past those that are known from anywhere.
	absent uint32
	// commits is the number of whole commits it has, through the number of the last.
	commits, through int
	// settled, seeming, newer, mixed and stranger are as in standing.
	settled, seeming, newer, mixed, stranger bool
	// proof and why are what is known before SQLite has looked at it.
	proof Proof
	why   string

	// lost are the places of lost frames that concern it, in order; named are the pages
	// that their headers name, or whose newer image is known and not applied, with the
	// last such place.
	lost  []int
	named map[wal.PageNo]int
}

const noFrame = -1

// count is the number of pages.
func (p *plan) count() uint32 { return uint32(len(p.from)) }

// missing tells whether a page is nowhere.
func (p *plan) missing(no wal.PageNo) bool {
	return p.from[no-1] == noFrame && !p.base.has(no)
}

// cut is the page of it inside which the database file ends, 0 if there is none: what is there
// of it can be used, but not by SQLite, to which the rest is zeros like any other.
func (p *plan) cut() wal.PageNo {
	if p.base == nil || !p.base.cut || p.count() < p.base.count || p.from[p.base.count-1] != noFrame {
		return 0
	}
	return wal.PageNo(p.base.count)
}

// planAlone is a base alone.
func planAlone(kind Kind, base *pages, proof Proof) *plan {
	p := &plan{kind: kind, size: base.size, base: base, skip: noFrame, end: noFrame, proof: proof, from: make([]int32, base.len())}
	p.settled, p.seeming = true, true
	for i := range p.from {
		p.from[i] = noFrame
	}
	return p
}

// overlay is how the frames of a WAL are laid over a base.
type overlay struct {
	base   *pages
	remote bool
	// skip and commits are the numbers of commits that the base has already, and of
	// those up to which frames are taken.
	skip, commits int
	// partial takes what holds of damaged commits, too.
	partial bool
	// older are frames of earlier generations that go under it, by page.
	older map[wal.PageNo]int32
}

// plan lays frames over a base.
func (h *history) plan(kind Kind, o overlay) *plan {
	p := &plan{
		kind: kind, size: h.size, base: o.base, remote: o.remote, named: map[wal.PageNo]int{},
		skip: h.end(o.skip), end: h.end(o.commits), through: o.commits,
	}
	// A length is not believed further than there are pages: memory goes by it.
	n := h.length(o)
	if known := h.known(o); n > known {
		n, p.absent = known, n-known
	}
	p.from = make([]int32, n)
	for i := range p.from {
		p.from[i] = noFrame
	}
	for no, i := range o.older {
		if uint32(no) <= n {
			p.from[no-1] = i
		}
	}
	p.commits = o.skip
	for _, c := range h.commits[o.skip:o.commits] {
		if c.proof != Damaged {
			p.commits++
		}
	}
	for i, k := range h.committed() {
		if i > p.end {
			break
		}
		no := h.Frames[i].Page
		switch {
		case i <= p.skip || uint32(no) > n:
		case !h.takes(o, i, k):
			p.named[no] = i // a newer image than the one that is taken
		default:
			p.from[no-1] = int32(i)
		}
	}
	h.findLost(p)
	p.seeming = h.seeming(p)
	p.settled = p.seeming && len(p.lost) == 0
	return p
}

// takes tells whether an overlay takes a frame, which is of commit k: of a damaged commit it
// takes only what holds.
func (h *history) takes(o overlay, i, k int) bool {
	return h.commits[k-1].proof != Damaged || o.partial && h.holds(i)
}

// length is the number of pages after an overlay's last commit.
func (h *history) length(o overlay) uint32 {
	// A commit that does not hold can say anything.
	for k := o.commits; k > o.skip; k-- {
		c := h.commits[k-1]
		if f := h.Frames[c.Last]; h.holds(c.Last) || f.Link.Holds() {
			return c.Pages
		}
	}
	if o.base != nil {
		return o.base.len()
	}
	if o.commits > 0 {
		return h.commits[o.commits-1].Pages
	}
	return 0
}

// known is the last page that the base has or a frame that counts wrote.
func (h *history) known(o overlay) (n uint32) {
	if o.base != nil {
		n = o.base.count
	}
	for no := range o.older {
		n = max(n, uint32(no))
	}
	for i, k := range h.committed() {
		if k <= o.commits {
			n = max(n, uint32(h.Frames[i].Page))
		}
	}
	return n
}

// findLost finds the lost frames that concern a plan.
func (h *history) findLost(p *plan) {
	for _, i := range h.lost {
		if i <= p.skip || i > p.end {
			continue
		}
		p.lost = append(p.lost, i)
		// An orphan's image is taken, and is likely right.
		if f := h.Frames[i]; int(f.Generation) == h.gen && f.Page != 0 && !h.usable(i) {
			p.named[f.Page] = max(p.named[f.Page], i)
		}
	}
}

// page says how far a page can be trusted.
func (h *history) page(p *plan, no wal.PageNo) Proof {
	if no == p.size.LockPage() {
		return Proven
	}
	if p.missing(no) || p.cut() == no {
		return Damaged
	}
	i := int(p.from[no-1])
	if h == nil {
		return p.proofOfBase()
	}
	if at, ok := p.named[no]; ok && at > i {
		return Damaged
	}
	if i != noFrame && int(h.Frames[i].Generation) != h.gen && !h.isLastImage(i) {
		return Damaged // it may have been written again
	}
	switch {
	case len(p.lost) > 0 && p.lost[len(p.lost)-1] >= i:
		return Probable
	case i == noFrame:
		return p.proofOfBase()
	case !h.holds(i), int(h.Frames[i].Generation) != h.gen:
		return Probable
	}
	return Proven
}

// proofOfBase is how far the base's pages can be trusted where no frame is lost.
func (p *plan) proofOfBase() Proof {
	if p.remote || p.proof == Proven {
		return Proven
	}
	return Probable
}

// seeming tells whether nothing that is lost shows: each lost frame names a page, which was
// written again later. The name can be just what is damaged of the frame.
func (h *history) seeming(p *plan) bool {
	for _, i := range p.lost {
		f := h.Frames[i]
		if int(f.Generation) != h.gen || f.Page == 0 {
			return false
		}
	}
	for no, at := range p.named {
		if uint32(no) <= p.count() && int(p.from[no-1]) < at {
			return false
		}
	}
	return true
}
