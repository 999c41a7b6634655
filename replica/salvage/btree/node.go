package btree

import (
	"encoding/binary"

	"tidemark/wal"
)

// kind is the first byte of a page of a tree (fileformat2, section 1.6).
type kind uint8

const (
	interiorIndex kind = 2
	interiorTable kind = 5
	leafIndex     kind = 10
	leafTable     kind = 13
)

func (k kind) valid() bool    { return k.interior() || k.leaf() }
func (k kind) interior() bool { return k == interiorIndex || k == interiorTable }
func (k kind) leaf() bool     { return k == leafIndex || k == leafTable }
func (k kind) table() bool    { return k == interiorTable || k == leafTable }

// headerSize is the size of page 1's part that is not its tree's.
const headerSize = 100

// node is a page of a tree, as far as it makes sense.
type node struct {
	no    wal.PageNo
	kind  kind
	data  []byte // the usable part
	at    int    // where the offsets of the cells begin
	cells int
	right wal.PageNo
	// short tells that the page states more cells than have room.
	short bool
}

// newNode looks at a page's header. data is the usable part.
func newNode(no wal.PageNo, data []byte) (node, bool) {
	base := 0
	if no == 1 {
		base = headerSize
	}
	n := node{no: no, data: data, kind: kind(data[base]), at: base + 8}
	if !n.kind.valid() {
		return node{}, false
	}
	if n.kind.interior() {
		n.right = wal.PageNo(binary.BigEndian.Uint32(data[n.at:]))
		n.at += 4
	}
	n.cells = int(binary.BigEndian.Uint16(data[base+3:]))
	if room := (len(data) - n.at) / 2; n.cells > room {
		n.cells, n.short = room, true
	}
	return n, true
}

// cell is an entry of a page.
type cell struct {
	child    wal.PageNo // on interior pages
	rowid    int64      // in tables
	size     uint64     // of the payload, overflow and all
	local    []byte     // the part of the payload that is on this page
	overflow wal.PageNo // where it goes on, 0 if it does not
	end      int        // of the cell on the page
}

// cell reads entry i. ok is false if it does not make sense on this page.
func (n *node) cell(i int) (c cell, ok bool) {
	at := int(binary.BigEndian.Uint16(n.data[n.at+2*i:]))
	if at < n.at+2*n.cells || at >= len(n.data) {
		return cell{}, false
	}
	rest := n.data[at:]
	if n.kind.interior() {
		if len(rest) < 4 {
			return cell{}, false
		}
		c.child = wal.PageNo(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
	}
	if n.kind != interiorTable {
		var w int
		if c.size, w = varint(rest); w == 0 || c.size > maxPayload {
			return cell{}, false
		}
		rest = rest[w:]
	}
	if n.kind.table() {
		v, w := varint(rest)
		if w == 0 {
			return cell{}, false
		}
		c.rowid, rest = int64(v), rest[w:]
	}
	if n.kind != interiorTable && !c.payload(rest, n.kind, len(n.data)) {
		return cell{}, false
	}
	c.end = len(n.data) - len(rest) + len(c.local)
	if c.overflow != 0 {
		c.end += 4
	}
	return c, true
}

// payload finds what part of the payload is on the page (fileformat2, section 1.6,
// the end).
func (c *cell) payload(rest []byte, k kind, usable int) bool {
	local := localSize(c.size, k, usable)
	if local > len(rest) {
		return false
	}
	c.local = rest[:local]
	if uint64(local) == c.size {
		return true
	}
	if local+4 > len(rest) {
		return false
	}
	c.overflow = wal.PageNo(binary.BigEndian.Uint32(rest[local:]))
	return c.overflow != 0
}

func localSize(size uint64, k kind, usable int) int {
	most := usable - 35
	if !k.table() {
		most = (usable-12)*64/255 - 23
	}
	if size <= uint64(most) {
		return int(size)
	}
	least := (usable-12)*32/255 - 23
	n := least + int((size-uint64(least))%uint64(usable-4))
	if n > most {
		return least
	}
	return n
}

// children gives the children of an interior page in order, with the highest rowid
// below each; ok of each tells whether it can be a page of a file of so many.
func (n *node) child(i int) (no wal.PageNo, key int64, ok bool) {
	if i == n.cells {
		return n.right, 0, n.right >= 2
	}
	c, ok := n.cell(i)
	return c.child, c.rowid, ok && c.child >= 2
}

// sensible tells whether an interior page can be believed to be one: more than half of
// its children lie in the file as it may once have been, and the keys of a table
// ascend. What is left in pages of other use does not pass.
func (n *node) sensible(count uint64) bool {
	good, last, started := 0, int64(0), false
	for i := range n.cells + 1 {
		no, key, ok := n.child(i)
		if !ok || uint64(no) > count {
			continue
		}
		if i < n.cells && n.kind.table() {
			if started && key <= last {
				continue
			}
			last, started = key, true
		}
		good++
	}
	return 2*good > n.cells+1
}
