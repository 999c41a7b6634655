package restore

import (
	"sync/atomic"

	"tidemark/wal"
)

// filled tells which pages of the output have been written, while a chain of
// snapshots is, newest first. It is safe for concurrent use, but for narrow.
type filled struct {
	// left is how many snapshots come after the one that is being written.
	left int
	// bits has one for each page of the newest snapshot, page 1 first. There are
	// none if that is the only one.
	bits []uint64
	// limit is the length of the shortest database so far. A page past it is no
	// older snapshot's: it was cut off, and has come back as zeros or as a page
	// that a newer snapshot has.
	limit uint32
}

// newFilled is for a chain of n snapshots, of which the newest has so many pages.
func newFilled(n int, pages uint32) *filled {
	f := &filled{left: n, limit: pages}
	if n > 1 {
		f.bits = make([]uint64, (uint64(pages)+63)/64)
	}
	return f
}

// narrow goes on to the next snapshot, of so many pages.
func (f *filled) narrow(pages uint32) {
	f.left--
	f.limit = min(f.limit, pages)
}

// needs tells whether one of the pages [first, end) is still to be written.
func (f *filled) needs(first, end wal.PageNo) bool {
	end = min(end, wal.PageNo(f.limit)+1)
	for no := first; no < end; no++ {
		if !f.has(no) {
			return true
		}
	}
	return false
}

func (f *filled) has(no wal.PageNo) bool {
	if f.bits == nil {
		return false
	}
	i := uint32(no) - 1
	return atomic.LoadUint64(&f.bits[i/64])&(1<<(i%64)) != 0
}

// take tells whether a page is to be written, and counts it as written then.
func (f *filled) take(no wal.PageNo) bool {
	if uint32(no) > f.limit || f.has(no) {
		return false
	}
	if f.left > 0 { // else nothing asks any more
		i := uint32(no) - 1
		atomic.OrUint64(&f.bits[i/64], 1<<(i%64))
	}
	return true
}

// each calls fn for the runs of pages that are to be written, and counts them as
// written. They are of consecutive pages of a size from first on, whose images are
// given.
func (f *filled) each(first wal.PageNo, images []byte, size wal.PageSize, fn func(wal.PageNo, []byte) error) error {
	for n := wal.PageNo(len(images) / int(size)); n > 0; {
		run := wal.PageNo(0)
		for run < n && f.take(first+run) {
			run++
		}
		if run > 0 {
			if err := fn(first, images[:int(run)*int(size)]); err != nil {
				return err
			}
		}
		skip := min(run+1, n) // the page after the run is not to be written
		first, n, images = first+skip, n-skip, images[int(skip)*int(size):]
	}
	return nil
}
