package corpus

import (
	"bytes"
	"encoding/binary"
	"slices"

	"tidemark/wal"
)

// Expectation is what must come back from damaged files.
type Expectation struct {
	// Proven is the number of the WAL's commits that can be proven, and Probable that
	// of those beyond them of which all frames are intact.
	Proven, Probable int
	// Gone says that nothing is left by which the WAL's last generation could be known, so
	// an earlier one must be taken for it.
	Gone bool
	// Unseen says that a commit counts as probable of which the first frame is damaged:
	// the frame before it is lost, so nothing can tell.
	Unseen bool
	// Prefix is what the database must be with the proven commits alone. All is
	// the same with the probable ones, too, if there are any, held against the last
	// committed state.
	Prefix, All Content
}

// Content says what a database must hold.
type Content struct {
	// Commit is the number of the commit whose state is to be reached.
	Commit int
	// State is that state.
	State State
	// Exact says that nothing of it is lost: the content must be exactly this.
	Exact bool
	// Rows are those that must be there, in their tables or in lost_and_found.
	Rows map[Row]bool
	// Damaged are the pages that differ from what they were in that state.
	Damaged []wal.PageNo
}

// Expect computes what must come back of an original from its damaged files.
func Expect(o *Original, f Files, d Damage) Expectation {
	s := survey{o: o, b: f.WAL, mixed: d.Mixed}
	s.look()
	proofs := s.commits()
	e := Expectation{Gone: s.gone()}
	var applied []int
	for c, p := range proofs {
		if p == proven {
			e.Proven++
			applied = append(applied, c+1)
		}
	}
	e.Prefix = s.content(f, applied, e.Proven)
	for c, p := range proofs {
		if p == probable {
			e.Probable++
			applied = append(applied, c+1)
			e.Unseen = e.Unseen || !s.contents(o.Last(c)+1)
		}
	}
	if e.All = e.Prefix; e.Probable > 0 {
		e.All = s.content(f, applied, len(o.Frames))
	}
	return e
}

// survey compares a damaged WAL with the whole one.
type survey struct {
	o     *Original
	b     []byte
	mixed bool
	// known is the number of frames whose checksums are known: those of the commits, and
	// those of the open transaction that SQLite has not rewritten since.
	known int
	holds []bool // by frame, from 1
}

// same reports whether bytes of a frame are the writer's.
func (s *survey) same(n, from, to int) bool {
	off := s.o.Offset(n)
	return off+to <= len(s.b) && bytes.Equal(s.b[off+from:off+to], s.o.WAL[off+from:off+to])
}

// head reports whether bytes of the header are the writer's.
func (s *survey) head(from, to int) bool {
	return to <= len(s.b) && bytes.Equal(s.b[from:to], s.o.WAL[from:to])
}

// contents reports whether a frame says what the writer wrote. Among frames of
// other WALs it must also be known by its salts.
func (s *survey) contents(n int) bool {
	return s.same(n, 0, 8) && s.same(n, 24, s.o.Stride()) && (!s.mixed || s.same(n, 8, 16))
}

// sum reports whether the checksum that a frame stores is the writer's; that of frame
// 0 is the header's.
func (s *survey) sum(n int) bool {
	if n == 0 {
		return s.start()
	}
	return s.same(n, 16, 24) && (!s.mixed || s.same(n, 8, 16))
}

// start reports whether the header's checksum is there or can be computed backwards
// from the first frame and confirmed with 64 bits.
func (s *survey) start() bool {
	if s.head(0, wal.HeaderSize) {
		return true
	}
	if _, err := wal.ParseHeader(s.b); err == nil {
		return false // the header of another generation
	}
	if s.last() == 0 || !s.contents(1) || !s.same(1, 8, 24) {
		return false
	}
	return s.o.Header.Sequence == 0 || s.head(12, 16) || s.head(24, 32)
}

func (s *survey) last() int { return s.o.Last(len(s.o.Frames)) }

// chain is the number of frames through which the writer's chain runs.
func (s *survey) chain() int {
	n := s.last()
	if n == 0 {
		return 0
	}
	h, _ := s.o.frame(s.o.WAL, n)
	for sum := h.Sum; s.o.Offset(n+2) <= len(s.o.WAL); n++ {
		h, image := s.o.frame(s.o.WAL, n+1)
		sum = sum.Extend(s.o.Header.Order, s.o.WAL[s.o.Offset(n+1):][:8]).Extend(s.o.Header.Order, image)
		if h.Salts != s.o.Header.Salts || h.Sum != sum {
			break
		}
	}
	return n
}

// look finds the frames that hold: those between two known checksums, of which all
// contents are there. One can be the frame's own.
func (s *survey) look() {
	s.known = s.chain()
	s.holds = make([]bool, s.known+1)
	for from := range s.known {
		if !s.sum(from) {
			continue
		}
		for to := from + 1; to <= s.known && s.contents(to); to++ {
			if s.sum(to) {
				for n := from + 1; n <= to; n++ {
					s.holds[n] = true
				}
				break
			}
		}
	}
}

// proof is how far a commit can be trusted.
type proof uint8

const (
	lost proof = iota
	probable
	proven
)

// commits gives the proofs of all commits of the WAL.
func (s *survey) commits() []proof {
	var all []proof
	unbroken := true
	for c := 1; c <= len(s.o.Frames); c++ {
		first, last := s.o.Last(c-1)+1, s.o.Last(c)
		whole := s.whole(first, last)
		unbroken = unbroken && whole
		p := lost
		switch {
		case unbroken:
			p = proven
		case whole && s.follows(first-1), c == 1 && s.unconfirmed(last), c > 1 && first < last && s.orphan(first) && s.whole(first+1, last):
			p = probable
		}
		all = append(all, p)
	}
	return all
}

func (s *survey) whole(first, last int) bool {
	for n := first; n <= last; n++ {
		if !s.holds[n] {
			return false
		}
	}
	return true
}

// follows reports whether a frame that begins after frame n is known to begin a
// commit: n holds, or is there at least in so far as it says that it commits.
func (s *survey) follows(n int) bool {
	if n == 0 || s.holds[n] {
		return true
	}
	off := s.o.Offset(n)
	return off+8 <= len(s.b) && binary.BigEndian.Uint32(s.b[off+4:]) != 0 && s.same(n, 8, 16)
}

// orphan reports whether a frame is there of which nothing is known but that it begins a
// commit: neither it nor the frame before it hold.
func (s *survey) orphan(n int) bool {
	return !s.holds[n] && !s.holds[n-1] && s.follows(n-1) && s.same(n, 8, 16) && len(s.b) >= s.o.Offset(n+1)
}

// gone reports whether neither the header's salts nor a frame with them are left.
func (s *survey) gone() bool {
	for n := 1; n <= s.last(); n++ {
		if s.same(n, 8, 16) {
			return false
		}
	}
	return !s.head(16, 24)
}

// unconfirmed reports whether the first commit is all there, but for a header that
// could confirm its beginning.
func (s *survey) unconfirmed(last int) bool {
	return s.contents(1) && s.sum(1) && s.whole(2, last)
}

// content applies commits to the database file, and compares that with the state
// that would have been reached.
func (s *survey) content(f Files, applied []int, target int) Content {
	o := s.o
	want, have := o.pages(target), o.fileImage(f.DB)
	for _, c := range applied {
		o.apply(have, s.b, c)
	}
	state := o.Ledger.State(o.Base + target)
	c := Content{Commit: o.Base + target, State: state, Rows: map[Row]bool{}}
	for no := wal.PageNo(1); int(no) <= len(want); no++ {
		if !bytes.Equal(have[no], want[no]) {
			c.Damaged = append(c.Damaged, no)
		}
	}
	c.Exact = len(c.Damaged) == 0
	// A row that is on one page is there if its cell is, on a page as it once was.
	free := want.free()
	cells := s.honest(have, free).places(nil)
	for tag, on := range want.places(free) {
		whole := len(cells[tag]) == 1
		if len(on) > 1 {
			whole = !slices.ContainsFunc(on, func(no wal.PageNo) bool { return !bytes.Equal(have[no], want[no]) })
		}
		if r, ok := state[Row{Tag: tag}.key()]; ok && r.Tag == tag && whole {
			c.Rows[r] = true
		}
	}
	return c
}

// honest are those pages of a database that are as they were after some commit, and
// that are in use in the state to be reached.
func (s *survey) honest(have image, free map[wal.PageNo]bool) image {
	o := s.o
	m := image{}
	keep := func(no wal.PageNo, page []byte) {
		if page != nil && !free[no] && bytes.Equal(have[no], page) {
			m[no] = page
		}
	}
	for _, e := range append(slices.Clone(o.Earlier), o) {
		for no, page := range o.fileImage(e.DB) {
			keep(no, page)
		}
	}
	for n := 1; n <= s.last(); n++ {
		h, page := o.frame(o.WAL, n)
		keep(h.Page, page)
	}
	return m
}
