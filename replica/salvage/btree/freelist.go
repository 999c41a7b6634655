package btree

import (
	"context"
	"encoding/binary"

	"tidemark/wal"
)

// readFreelist marks the free pages (fileformat2, section 1.5). A trunk page has the
// next trunk, a count, and so many leaves.
func (f *File) readFreelist(ctx context.Context) error {
	if !f.header.Known {
		return nil
	}
	f.freeSound = true
	found := uint32(0)
	for next := f.header.freelist; next != 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f.addFree(next) {
			return nil
		}
		found++
		page, err := f.page(next)
		if err != nil {
			return err
		}
		if page == nil {
			f.freeSound = false
			return nil
		}
		leaves := binary.BigEndian.Uint32(page[4:])
		if uint64(leaves)*4+8 > uint64(len(page)) {
			f.freeSound = false
			return nil
		}
		for i := range leaves {
			if f.addFree(wal.PageNo(binary.BigEndian.Uint32(page[8+4*i:]))) {
				found++
			}
		}
		next = wal.PageNo(binary.BigEndian.Uint32(page))
	}
	f.freeSound = f.freeSound && found == f.header.free
	return nil
}

// addFree marks a page as free, once. What cannot be so makes the list doubtful.
func (f *File) addFree(no wal.PageNo) bool {
	if no < minPages || no > f.count || f.free[no] || f.uses[no] != Unclaimed {
		f.freeSound = false
		return false
	}
	f.free[no] = true
	return true
}

// settleFree tells whether the freelist can be believed now that the trees are
// known: none of its pages may be in one.
func (f *File) settleFree() {
	if !f.freeSound {
		return
	}
	for no, free := range f.free {
		if free && f.uses[no] == InTree {
			f.freeSound = false
			return
		}
	}
	for no, free := range f.free {
		if free && f.uses[no] == Unclaimed {
			f.uses[no] = Free
		}
	}
}
