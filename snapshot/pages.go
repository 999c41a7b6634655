package snapshot

import (
	"encoding/binary"
	"fmt"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Run is a run of consecutive pages.
type Run struct {
	// First is the number of the first page.
	First wal.PageNo
	// Pages is how many pages there are.
	Pages uint32
}

// end is the number of the page after the run.
func (r Run) end() wal.PageNo { return r.First + wal.PageNo(r.Pages) }

// pageCount is the number of pages in the runs.
func pageCount(runs []Run) int {
	n := 0
	for _, r := range runs {
		n += int(r.Pages)
	}
	return n
}

// wholeDatabase is the runs of all pages but the lock-byte page.
func (h Header) wholeDatabase() []Run {
	lock := h.PageSize.LockPage()
	if h.Pages < uint32(lock) {
		return appendRun(nil, 1, h.Pages)
	}
	return appendRun(appendRun(nil, 1, uint32(lock)-1), lock+1, h.Pages-uint32(lock))
}

func appendRun(runs []Run, first wal.PageNo, pages uint32) []Run {
	if pages == 0 {
		return runs
	}
	return append(runs, Run{First: first, Pages: pages})
}

// Diff gives the runs of pages that an incremental snapshot must hold: those whose
// sums in now are not what they were in base. Pages that the database has grown
// by are among them unless they are zeros.
func Diff(base, now *state.Table) []Run {
	grown := base.Clone()
	grown.Resize(now.Len())
	lock := now.PageSize().LockPage()
	var runs []Run
	for i := range now.Len() {
		no := wal.PageNo(i) + 1
		if no == lock || now.At(no) == grown.At(no) {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].end() == no {
			runs[n-1].Pages++
			continue
		}
		runs = append(runs, Run{First: no, Pages: 1})
	}
	return runs
}

// checkRuns makes sure that runs ascend without touching, end within the
// database and leave the lock-byte page out.
func (h Header) checkRuns(runs []Run) error {
	lock := h.PageSize.LockPage()
	prev := uint64(0) // end of the run before
	for _, r := range runs {
		first, end := uint64(r.First), uint64(r.First)+uint64(r.Pages)
		if r.Pages == 0 || first <= prev || end > uint64(h.Pages)+1 {
			return fmt.Errorf("run of %d pages from %v in a database of %d", r.Pages, r.First, h.Pages)
		}
		if first <= uint64(lock) && end > uint64(lock) {
			return fmt.Errorf("run of %d pages from %v holds the lock-byte page", r.Pages, r.First)
		}
		prev = end
	}
	return nil
}

// plan cuts runs into blocks.
type plan struct {
	cur  Run // what is left of the run that the last block ended in
	rest []Run
	room uint32 // pages in a block
}

func (h Header) plan(runs []Run) plan {
	return plan{rest: runs, room: block.MaxRaw / uint32(h.PageSize)}
}

// next gives the runs of the next block in dst's memory, or none at the end.
func (p *plan) next(dst []Run) []Run {
	dst = dst[:0]
	for room := p.room; room > 0; {
		if p.cur.Pages == 0 {
			if len(p.rest) == 0 {
				break
			}
			p.cur, p.rest = p.rest[0], p.rest[1:]
		}
		n := min(room, p.cur.Pages)
		dst = append(dst, Run{First: p.cur.First, Pages: n})
		p.cur = Run{First: p.cur.First + wal.PageNo(n), Pages: p.cur.Pages - n}
		room -= n
	}
	return dst
}

// appendRuns appends the list of runs that a page block begins with.
func appendRuns(b []byte, runs []Run) []byte {
	b = binary.AppendUvarint(b, uint64(len(runs)))
	prev := wal.PageNo(0)
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.First-prev))
		b = binary.AppendUvarint(b, uint64(r.Pages))
		prev = r.end()
	}
	return b
}

// parseRuns reads the payload of a page block: the runs, in dst's memory, and
// the page images, whose length is that of the runs' pages.
func (h Header) parseRuns(dst []Run, payload []byte) (runs []Run, images []byte, err error) {
	dst = dst[:0]
	room := uint64(len(payload)) / uint64(h.PageSize)
	n, rest, ok := cutUvarint(payload)
	ok = ok && n > 0 && n <= room
	prev := uint64(0)
	for ; ok && n > 0; n-- {
		var skip, pages uint64
		if skip, rest, ok = cutUvarint(rest); ok {
			pages, rest, ok = cutUvarint(rest)
		}
		if !ok || skip > maxPages || pages > room || prev+skip > maxPages {
			ok = false
			break
		}
		dst = append(dst, Run{First: wal.PageNo(prev + skip), Pages: uint32(pages)})
		prev += skip + pages
	}
	if !ok {
		return nil, nil, fmt.Errorf("%w: list of pages can't be read", block.ErrCorrupt)
	}
	if err := h.checkRuns(dst); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	if want := pageCount(dst) * int(h.PageSize); len(rest) != want {
		return nil, nil, fmt.Errorf("%w: %d bytes of page images, listed are %d", block.ErrCorrupt, len(rest), want)
	}
	return dst, rest, nil
}

func cutUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// eachPage calls fn for the pages of runs, whose images are given.
func (h Header) eachPage(runs []Run, images []byte, fn func(wal.PageNo, []byte) error) error {
	size := int(h.PageSize)
	for _, r := range runs {
		for no := r.First; no < r.end(); no++ {
			if err := fn(no, images[:size:size]); err != nil {
				return err
			}
			images = images[size:]
		}
	}
	return nil
}
