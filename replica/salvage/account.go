package salvage

import (
	"encoding/binary"

	"tidemark/wal"
)

// accounts tells whether a page is one of a b-tree of which every byte is accounted for: by its
// header, its cell pointers, the gap up to its content, its cells, its freeblocks, and the
// fragments that its header counts (fileformat2, section 1.6). SQLite's integrity_check
// looks for the same. In a wrong page size that is as good as impossible: what is taken for the
// page's end is then in the midst of another one's cells. Of a database that reserves bytes at
// the ends of its pages no page is accounted for, since those belong to nothing.
func accounts(no wal.PageNo, b []byte) bool {
	at := 0
	if no == 1 {
		at = databaseHeaderSize
	}
	t := treePage{b: b, inner: b[at] == 2 || b[at] == 5, table: b[at] == 5 || b[at] == 13}
	pointers := at + 8
	if t.inner {
		pointers = at + 12
	} else if b[at] != 10 && b[at] != 13 {
		return false
	}
	cells, content := t.number(at+3), t.number(at+5)
	if content == 0 {
		content = int(wal.MaxPageSize)
	}
	if pointers+2*cells > content || content > len(b) {
		return false
	}
	sum := content + int(b[at+7])
	for i := range cells {
		cell := t.number(pointers + 2*i)
		if cell < content {
			return false
		}
		sum += t.cell(cell)
	}
	free, ok := t.free(t.number(at+1), content)
	return ok && sum+free == len(b)
}

// treePage is a page that may be one of a b-tree: nothing in it can be relied on.
type treePage struct {
	b            []byte
	inner, table bool
}

// number is one of two bytes. The place must be on the page.
func (t treePage) number(at int) int { return int(binary.BigEndian.Uint16(t.b[at:])) }

// free is the number of bytes in freeblocks, of which the first is at a place. They are linked in
// the order of their places, so that there is an end; it is not ok if they are not.
func (t treePage) free(at, content int) (n int, ok bool) {
	for last := 0; at != 0; last, at = at, t.number(at) {
		if at <= last || at < content || at+4 > len(t.b) {
			return 0, false
		}
		n += t.number(at + 2)
	}
	return n, true
}

// cell is the number of bytes that a cell has on its page; more than the page has if it makes
// no sense.
func (t treePage) cell(at int) int {
	from, size, ok := at, uint64(0), true
	if t.inner {
		at += 4 // the page of its child
	}
	if !t.inner || !t.table {
		size, at, ok = t.varint(at)
	}
	if t.table && ok {
		_, at, ok = t.varint(at) // the rowid
	}
	if !ok {
		return len(t.b) + 1
	}
	local, chained := t.local(size)
	if chained {
		local += 4 // the first page of its overflow chain
	}
	return max(at-from+local, 4) // a freed cell must have room for a freeblock
}

// local is how much of a payload lies on the page itself, and whether the rest is in a chain of
// overflow pages (fileformat2, section 1.6, "Cell payload").
func (t treePage) local(size uint64) (n int, chained bool) {
	usable := len(t.b)
	most := (usable-12)*64/255 - 23
	if t.table {
		most = usable - 35
	}
	if size <= uint64(most) {
		return int(size), false
	}
	least := (usable-12)*32/255 - 23
	n = least + int((size-uint64(least))%uint64(usable-4))
	if n > most {
		n = least
	}
	return n, true
}

// varint reads a variable-length integer as package btree does, and gives the place after it. It
// is not ok if the page ends before the integer does.
func (t treePage) varint(at int) (v uint64, next int, ok bool) {
	for i := range 9 {
		if at+i >= len(t.b) {
			return 0, at, false
		}
		c := t.b[at+i]
		if i == 8 {
			return v<<8 | uint64(c), at + 9, true
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, at + i + 1, true
		}
	}
	return 0, at, false
}
