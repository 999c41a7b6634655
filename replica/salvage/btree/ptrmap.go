package btree

import (
	"encoding/binary"

	"tidemark/wal"
)

// Kinds of entries of the pointer map (fileformat2, section 1.8).
const (
	mapRoot = 1
	mapTree = 5
)

// mapped is how many pages a page of the pointer map tells about.
func (f *File) mapped() uint64 { return uint64(f.usable / pointersEntry) }

// mapPage moves a page of the pointer map off the lock-byte page: it is the next one
// then.
func (f *File) mapPage(no uint64) wal.PageNo {
	if wal.PageNo(no) == f.size.LockPage() && no < uint64(f.count) {
		no++
	}
	return wal.PageNo(no)
}

// findPointers decides whether there is a pointer map, where the header does not
// tell: page 2 is either one, whole, or it is not.
func (f *File) findPointers() error {
	if f.header.Known || f.count < 3 {
		return nil
	}
	page, err := f.page(2)
	if err != nil || page == nil {
		return err
	}
	n := min(uint64(f.count)-2, f.mapped())
	for i := range n {
		t, parent := entry(page, i)
		if t < mapRoot || t > mapTree || uint64(parent) > uint64(f.count) {
			return nil
		}
		if (parent == 0) != (t == 1 || t == 2) {
			return nil
		}
	}
	f.header.AutoVacuum = true
	return nil
}

func entry(page []byte, i uint64) (kind byte, parent wal.PageNo) {
	e := page[i*pointersEntry:]
	return e[0], wal.PageNo(binary.BigEndian.Uint32(e[1:]))
}

// mapEntry asks the pointer map about a page. The kind is 0 if it does not tell.
func (f *File) mapEntry(no wal.PageNo) (kind byte, parent wal.PageNo, err error) {
	if !f.header.AutoVacuum || no < 3 || f.uses[no] == Pointers {
		return 0, 0, nil
	}
	period := f.mapped() + 1
	at := 2 + (uint64(no)-2)/period*period
	on := f.mapPage(at)
	if on >= no {
		return 0, 0, nil
	}
	page, err := f.page(on)
	if err != nil || page == nil {
		return 0, 0, err
	}
	i := uint64(no-on) - 1
	if i >= f.mapped() {
		return 0, 0, nil
	}
	kind, parent = entry(page, i)
	if parent > f.count {
		return 0, 0, nil
	}
	return kind, parent, nil
}
