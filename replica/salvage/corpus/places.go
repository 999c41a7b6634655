package corpus

import (
	"encoding/binary"
	"slices"

	"tidemark/wal"
)

// Kinds of b-tree pages, by their first byte.
const (
	interiorIndex = 2
	interiorTable = 5
	leafIndex     = 10
	leafTable     = 13
)

// page is a b-tree page, read as section 1.6 of sqlite.org/fileformat2.html has it.
type page struct {
	b      []byte
	header int // where its header begins
}

// btree gives a page of an image as one of a b-tree, or ok false if it is none.
func (m image) btree(no wal.PageNo) (p page, ok bool) {
	p.b = m[no]
	if no == 1 {
		p.header = 100
	}
	if len(p.b) < 512 {
		return p, false
	}
	switch p.kind() {
	case interiorIndex, interiorTable, leafIndex, leafTable:
		return p, true
	}
	return p, false
}

func (p page) kind() byte { return p.b[p.header] }

// cells are where the page's cells begin.
func (p page) cells() []int {
	from := p.header + 8
	if p.kind() == interiorIndex || p.kind() == interiorTable {
		from += 4
	}
	var all []int
	for i := range int(binary.BigEndian.Uint16(p.b[p.header+3:])) {
		all = append(all, int(binary.BigEndian.Uint16(p.b[from+2*i:])))
	}
	return all
}

// payload is what a cell has on its page, and its first overflow page, or 0.
func (p page) payload(at int) (local []byte, overflow wal.PageNo) {
	if p.kind() == interiorTable {
		return nil, 0
	}
	if p.kind() == interiorIndex {
		at += 4
	}
	size, n := varint(p.b[at:])
	at += n
	usable, limit := len(p.b), (len(p.b)-12)*64/255-23
	if p.kind() == leafTable {
		_, n := varint(p.b[at:])
		at, limit = at+n, usable-35
	}
	if size <= limit {
		return p.b[at : at+size], 0
	}
	least := (usable-12)*32/255 - 23
	keep := least + (size-least)%(usable-4)
	if keep > limit {
		keep = least
	}
	return p.b[at : at+keep], wal.PageNo(binary.BigEndian.Uint32(p.b[at+keep:]))
}

// varint is SQLite's: up to nine bytes, the highest first.
func varint(b []byte) (v, n int) {
	for n < 8 {
		v = v<<7 | int(b[n]&0x7f)
		n++
		if b[n-1] < 0x80 {
			return v, n
		}
	}
	return v<<8 | int(b[8]), 9
}

// places are the pages on which each row lies, by tag: that of its cell first, and then
// those with the rest of it, as far as they are there. Pages that are free can still look
// like b-trees.
func (m image) places(free map[wal.PageNo]bool) map[string][]wal.PageNo {
	all := map[string][]wal.PageNo{}
	for no := range m {
		p, ok := m.btree(no)
		if !ok || free[no] {
			continue
		}
		for _, at := range p.cells() {
			local, overflow := p.payload(at)
			tag := string(tagged.Find(local))
			if tag == "" {
				continue
			}
			on := []wal.PageNo{no}
			for overflow != 0 && !slices.Contains(on, overflow) && m[overflow] != nil {
				on = append(on, overflow)
				overflow = wal.PageNo(binary.BigEndian.Uint32(m[overflow]))
			}
			all[tag] = on
		}
	}
	return all
}

// free are the pages of the freelist of a whole database; see section 1.5 of the file
// format.
func (m image) free() map[wal.PageNo]bool {
	all := map[wal.PageNo]bool{}
	next := wal.PageNo(binary.BigEndian.Uint32(m[1][32:]))
	for next != 0 && !all[next] {
		all[next] = true
		trunk := m[next]
		for i := range binary.BigEndian.Uint32(trunk[4:]) {
			all[wal.PageNo(binary.BigEndian.Uint32(trunk[8+4*i:]))] = true
		}
		next = wal.PageNo(binary.BigEndian.Uint32(trunk))
	}
	return all
}
