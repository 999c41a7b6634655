package salvage

import (
	"fmt"
	"maps"
	"slices"

	"tidemark/wal"
	"tidemark/wal/scan"
)

// nearSalt is how far the first salts of two generations of one WAL can lie apart: each
// restart adds 1.
const nearSalt = 1 << 16

// match says whether the WAL belongs to the database, before SQLite has looked at the two
// together. What speaks for it are equal pages: a checkpoint copies them. What speaks against
// it is what a database can't have before the WAL's commits.
func (w *work) match() (*Match, error) {
	m := &Match{Fit: Fits}
	h, base := w.history, w.base
	says := func(fit Fit, format string, args ...any) {
		if fit == Foreign || m.Fit == Fits {
			m.Fit = fit
		}
		if fit == Doubtful {
			w.doubtful = fmt.Sprintf(format, args...)
		}
		m.Evidence = append(m.Evidence, fmt.Sprintf(format, args...))
	}
	if base.size != h.size {
		says(Foreign, "the database has pages of %d bytes, the WAL of %d", base.size, h.size)
		return m, nil
	}
	if n := w.at.matches; n > 0 {
		says(Fits, "%d of the database's pages are as the WAL's commits left them", n)
	}
	same, differ := h.previous(base)
	if same > 0 {
		says(Fits, "%d of the database's pages are as the generation before left them", same)
	}
	if differ > 0 {
		says(Doubtful, "%d pages are not in the database that the generation before left: SQLite checkpoints all of one before it begins the next", differ)
	}
	w.matchLength(says)
	if err := w.matchFirstPage(says); err != nil {
		return m, err
	}
	return m, w.matchTrees(says)
}

// previous compares the database with what the generation before the current one left: SQLite
// begins a new one only when all of the old one is in the database.
func (h *history) previous(base *pages) (same, differ int) {
	again := map[wal.PageNo]bool{} // pages that the current generation wrote again
	for i := range h.committed() {
		again[h.Frames[i].Page] = true
	}
	g := slices.IndexFunc(h.Generations, func(g scan.Generation) bool {
		return g.Salts.Salt1+1 == h.Generations[h.gen].Salts.Salt1
	})
	if g < 0 {
		return 0, 0
	}
	for no, i := range h.lastOf(g) {
		if !h.isLastImage(int(i)) {
			continue
		}
		switch {
		case base.at(no) == h.sums[i]:
			same++
		case !again[no] && base.has(no):
			differ++
		}
	}
	return same, differ
}

// lastOf are the last images of pages in an earlier generation, as far as its commits can be
// seen.
func (h *history) lastOf(g int) map[wal.PageNo]int32 {
	last := map[wal.PageNo]int32{}
	end := -1
	for _, c := range h.Commits {
		if c.Generation == g {
			end = c.Last
		}
	}
	for i := range end + 1 {
		if f := h.Frames[i]; int(f.Generation) == g && f.Link.Holds() && !h.copies[i] {
			last[f.Page] = int32(i)
		}
	}
	return last
}

// older are the images of earlier generations that the database lacks, nil if there are none.
// What the generation before left at its end is what the database must have. Of all else it
// is not known whether it was written again before the WAL restarted: that is taken only for
// pages of which the database has nothing.
func (h *history) older(base *pages) map[wal.PageNo]int32 {
	all := map[wal.PageNo]int32{}
	for _, g := range h.earlier() {
		maps.Copy(all, h.lastOf(g))
	}
	for i := range h.committed() {
		if no := h.Frames[i].Page; base.at(no) == h.sums[i] {
			delete(all, no) // the database is past it
		}
	}
	for no, i := range all {
		if base.at(no) == h.sums[i] || !h.isLastImage(int(i)) && !base.blank(no) {
			delete(all, no)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// earlier are the generations before the current one, the oldest first.
func (h *history) earlier() (all []int) {
	age := func(g int) int { return int(int32(h.Generations[h.gen].Salts.Salt1 - h.Generations[g].Salts.Salt1)) }
	for g := range h.Generations {
		if d := age(g); d > 0 && d < nearSalt {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b int) int { return age(b) - age(a) })
	return all
}

// isLastImage tells whether an image of an earlier generation is one of the frames with which the
// generation before the current one ended, without a gap up to there: so that, if it is the
// last one of its page, nothing came after it.
func (h *history) isLastImage(i int) bool {
	if h.ended == nil {
		end := h.findEnd()
		h.ended = &end
	}
	return i >= *h.ended && h.Generations[h.Frames[i].Generation].Salts.Salt1+1 == h.Generations[h.gen].Salts.Salt1
}

// findEnd is the first of the frames with which the generation before the current one ended, as
// far as they lie behind the current one without a gap.
func (h *history) findEnd() int {
	all := h.earlier()
	if len(all) == 0 {
		return len(h.Frames)
	}
	g := all[len(all)-1]
	if h.Generations[g].Salts.Salt1+1 != h.Generations[h.gen].Salts.Salt1 {
		return len(h.Frames)
	}
	from := h.Generations[g].Last
	for from > 0 && int(h.Frames[from-1].Generation) == g && h.Frames[from].Link == scan.Linked {
		from--
	}
	if from <= h.Generations[h.gen].Last {
		return len(h.Frames)
	}
	if !h.Frames[from].Link.Holds() {
		from++
	}
	return from
}

// matchLength looks whether all pages of the database after the WAL's commits are to be had.
func (w *work) matchLength(says func(Fit, string, ...any)) {
	h := w.history
	k := h.proven()
	if k == 0 {
		return
	}
	p, missing := h.plan(KindProven, overlay{base: w.base, commits: k}), uint32(0)
	for i := range p.from {
		if no := wal.PageNo(i + 1); p.missing(no) && no != p.size.LockPage() {
			missing++
		}
	}
	seen := map[wal.PageNo]bool{}
	for i := range h.committed() {
		seen[h.Frames[i].Page] = true
	}
	// Without auto_vacuum only VACUUM makes a database shorter, and that writes every page.
	if most := h.longest(); w.head.pageSize != 0 && !w.head.shrinks && w.base.len() > most && uint32(len(seen)) < most {
		says(Doubtful, "the database has %d pages, and %d at most after the commits of the WAL, which can't have made it shorter: the database is newer than the WAL",
			w.base.len(), most)
	}
	if missing += p.absent; missing > 0 {
		says(Doubtful, "after commit %d of the WAL the database has %d pages, and %d of these are in neither file", k, p.count()+p.absent, missing)
	}
}

// longest is the greatest length of the database after one of the commits.
func (h *history) longest() (n uint32) {
	for _, c := range h.commits {
		if h.holds(c.Last) {
			n = max(n, c.Pages)
		}
	}
	return n
}

// matchFirstPage compares the header of the database with the first and the last one in the WAL.
func (w *work) matchFirstPage(says func(Fit, string, ...any)) error {
	h := w.history
	first, last := h.firstPages()
	if first < 0 || w.head.pageSize == 0 {
		return nil
	}
	then, reserved, err := h.header(first)
	if err != nil {
		return err
	}
	now, _, err := h.header(last)
	if err != nil {
		return err
	}
	if then.encoding != w.head.encoding && w.head.encoding != 0 {
		says(Foreign, "the text in the database is encoded otherwise than that in the WAL")
	}
	if reserved != w.reserved {
		says(Foreign, "the pages of the database reserve %d bytes at their ends, those in the WAL %d", w.reserved, reserved)
	}
	// Each transaction that writes page 1 adds 1, but for some that write it again.
	complete := len(h.lost) == 0 || h.lost[0] > first
	if later := int32(then.changes - w.head.changes); later > 1 && w.at.matches == 0 && complete {
		says(Doubtful, "the first change counter in the WAL is %d, and that of the database is %d: commits between are in neither, or it is another's",
			then.changes, w.head.changes)
	}
	if int32(w.head.changes-now.changes) > 0 {
		says(Doubtful, "the last change counter in the WAL is %d, and that of the database is %d: the database is newer than the WAL",
			now.changes, w.head.changes)
	}
	return nil
}

// firstPages are the first and the last frame that have the first page, -1 if none has it.
func (h *history) firstPages() (first, last int) {
	first, last = -1, -1
	for i := range h.committed() {
		if h.Frames[i].Page != 1 || !h.holds(i) {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
	}
	return first, last
}

// header reads the first page in a frame that holds.
func (h *history) header(i int) (head databaseHeader, reserved byte, err error) {
	b := make([]byte, h.size)
	if err := h.read(i, b); err != nil {
		return head, 0, err
	}
	head, _ = parseDatabaseHeader(b)
	return head, b[20], nil
}

// minTrees is how many pages must be b-trees in both files for their kinds to mean something.
const minTrees = 3

// matchTrees compares the kinds of pages: in one database a page seldom changes its kind.
func (w *work) matchTrees(says func(Fit, string, ...any)) error {
	seen := map[wal.PageNo]bool{}
	a, b := make([]byte, w.history.size), make([]byte, w.history.size)
	both, differ := 0, 0
	for i := range w.history.committed() {
		no := w.history.Frames[i].Page
		if seen[no] || no == 1 || !w.base.has(no) {
			continue
		}
		seen[no] = true
		if err := w.history.read(i, a); err != nil {
			return err
		}
		if err := w.base.read(no, b); err != nil {
			return err
		}
		if looksLikeTree(no, a) && looksLikeTree(no, b) {
			both++
			if a[0] != b[0] {
				differ++
			}
		}
	}
	if both >= minTrees && 3*differ > both {
		says(Doubtful, "%d of %d pages are b-trees of another kind in the WAL than in the database", differ, both)
	}
	return nil
}

// readHead reads what the database's first page says, and what is wrong with it.
func (w *work) readHead() string {
	b := make([]byte, databaseHeaderSize)
	n, _ := w.db.ReadAt(b, 0) // a private copy; a short one is told of
	var wrong string
	w.head, wrong = parseDatabaseHeader(b[:n])
	w.reserved = b[20]
	if wrong != "" {
		w.headWrong = wrong
		return "its header is damaged: " + wrong
	}
	bytes := int64(w.head.pages) * int64(w.head.pageSize)
	if w.head.pages != 0 && bytes > w.db.size {
		return fmt.Sprintf("it is cut off: its header gives a length of %d pages, and the file has %d", w.head.pages, w.db.size/int64(w.head.pageSize))
	}
	return ""
}
