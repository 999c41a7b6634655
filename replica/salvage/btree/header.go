package btree

import (
	"encoding/binary"

	"tidemark/wal"
)

// Header is what the first hundred bytes say of the database (fileformat2, section
// 1.3), or what was found out where they are lost.
type Header struct {
	// Known tells whether there is a header. If not, then Reserved, Encoding and
	// AutoVacuum are what the pages speak for, and the rest is 0.
	Known bool
	// Reserved is the number of bytes at the end of each page that are not SQLite's.
	Reserved int
	// Encoding is that of all text.
	Encoding Encoding
	// AutoVacuum tells that there are pointer-map pages; Incremental, that pages are
	// given back only when asked.
	AutoVacuum, Incremental bool
	// UserVersion and ApplicationID are the application's own.
	UserVersion, ApplicationID int32

	pages    uint32     // how many there were
	freelist wal.PageNo // the first trunk page
	free     uint32     // how many pages are free
}

// parseHeader reads page 1. Its magic may be damaged: the constants at 21 to 23
// are as good.
func parseHeader(page []byte, size wal.PageSize) (Header, bool) {
	const magic = "SQLite format 3\x00"
	fractions := page[21] == 64 && page[22] == 32 && page[23] == 32
	stated := wal.StatedPageSize(page)
	if !fractions && (string(page[:len(magic)]) != magic || stated != size) {
		return Header{}, false
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(page[at:]) }
	return Header{
		Known:         true,
		Reserved:      int(page[20]),
		Encoding:      Encoding(min(u32(56), 255)),
		AutoVacuum:    u32(52) != 0,
		Incremental:   u32(52) != 0 && u32(64) != 0,
		UserVersion:   int32(u32(60)),
		ApplicationID: int32(u32(68)),
		pages:         u32(28),
		freelist:      wal.PageNo(u32(32)),
		free:          u32(36),
	}, true
}

// evidence is what a sample of the pages says about the database.
type evidence struct {
	reserved  [256]int // pages whose cells begin so far from the end
	pages     int
	encodings [4]int // texts that can only, or best, be of an encoding
	texts     int
}

// samples is how many pages are looked at; of each, as many cells.
const samples, sampleCells = 400, 40

// page counts what a page says. The sizes of cells are taken only where they do not
// depend on how much is reserved.
func (e *evidence) page(no wal.PageNo, page []byte) {
	n, ok := newNode(no, page)
	if !ok || !n.kind.leaf() || n.short || n.cells == 0 {
		return
	}
	least := max(480, len(page)-255)
	highest, end := 0, 0
	for i := range n.cells {
		at := int(binary.BigEndian.Uint16(n.data[n.at+2*i:]))
		c, ok := n.cell(i)
		if !ok {
			return
		}
		if c.overflow != 0 || localSize(c.size, n.kind, least) != len(c.local) {
			if at > highest {
				highest, end = at, 0
			}
			continue
		}
		if at > highest {
			highest, end = at, c.end
		}
		if i < sampleCells {
			e.texting(c)
		}
	}
	if end > 0 && len(page)-end < len(e.reserved) {
		e.reserved[len(page)-end]++
		e.pages++
	}
}

// texting counts the texts of a row.
func (e *evidence) texting(c cell) {
	values, flaw := parse(c.local, c.size, nil)
	if flaw != Sound {
		return
	}
	for _, v := range values {
		if v.Type == Text && len(v.Bytes) > 1 {
			e.texts++
			e.encodings[likeliest(v.Bytes)]++
		}
	}
}

// likeliest tells how a text is encoded: UTF-8 has no zeros, and UTF-16 has them in its
// high bytes, at least in spaces and digits. 0 is unknown.
func likeliest(b []byte) Encoding {
	var zeros [2]int
	for i, c := range b {
		if c == 0 {
			zeros[i%2]++
		}
	}
	_, utf8 := UTF8.Decode(b)
	switch {
	case utf8 && zeros[0]+zeros[1] == 0:
		return UTF8
	case len(b)%2 == 1:
		return 0
	case zeros[1] > zeros[0]:
		return UTF16LE
	case zeros[0] > zeros[1]:
		return UTF16BE
	}
	_, little := UTF16LE.Decode(b)
	_, big := UTF16BE.Decode(b)
	switch {
	case little && !big:
		return UTF16LE
	case big && !little:
		return UTF16BE
	}
	return 0
}

// enoughVotes is how many pages, or texts, it takes to doubt a header.
const enoughVotes = 3

// settle gives the header its final values: its own where nothing speaks against
// them, what the pages say where much does.
func (e *evidence) settle(h *Header, size wal.PageSize) {
	best := 0
	for r, votes := range e.reserved {
		if votes > e.reserved[best] && int(size)-r >= 480 {
			best = r
		}
	}
	switch {
	case int(size)-h.Reserved < 480 || !h.Known:
		h.Reserved = 0
		if e.reserved[best] >= enoughVotes && e.reserved[best] > 2*e.reserved[0] {
			h.Reserved = best
		}
	case e.reserved[best] >= enoughVotes && e.reserved[best] > 4*e.reserved[h.Reserved]:
		h.Reserved = best
	}
	e.settleEncoding(h)
}

func (e *evidence) settleEncoding(h *Header) {
	likely := UTF8
	for _, c := range []Encoding{UTF16LE, UTF16BE} {
		if e.encodings[c] > e.encodings[likely] {
			likely = c
		}
	}
	if h.Encoding < UTF8 || h.Encoding > UTF16BE {
		h.Encoding = likely
	} else if e.texts >= enoughVotes && e.encodings[likely] > 10*e.encodings[h.Encoding] {
		h.Encoding = likely
	}
}
