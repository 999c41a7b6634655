package scan

import (
	"encoding/binary"

	"tidemark/wal"
)

// Bounds on the work of finding a layout.
const (
	// maxPairs is the number of pairs of frames that are looked at for each page
	// size, evenly spread over the file.
	maxPairs = 1024
	// maxLinks is when enough pairs follow from each other.
	maxLinks = 64
	// maxSearch is how much of the file's beginning is searched for frames that are
	// not where a whole WAL has them, and maxTries how many bytes are checksummed.
	maxSearch = 16 << 20
	maxTries  = 16 << 20
)

// layout is a way to read a file: the page size, and the generations that were
// seen under it.
type layout struct {
	size   wal.PageSize
	order  wal.ByteOrder
	links  int // pairs of frames that follow from each other
	solved bool
	found  []Generation
}

// pageSizes are all that SQLite allows.
func pageSizes() [8]wal.PageSize {
	return [8]wal.PageSize{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
}

func orders() [2]wal.ByteOrder { return [2]wal.ByteOrder{wal.LittleEndian, wal.BigEndian} }

// chooseLayout decides how to read the file. A whole header decides, if its
// first frame follows from it or nothing else is found. Else it is what most pairs
// of frames speak for; if they say nothing, what the header says, and the options.
func (s *scanner) chooseLayout(opts Options) layout {
	mine, sure := s.headerLayout(opts)
	if sure {
		return mine
	}
	best, whole := s.bestSample(mine.size, opts.PageSize), s.header.Err == nil
	if best.weight() == 0 && !whole {
		best = s.search()
	}
	switch {
	case best.weight() == 0:
		return mine
	case best.size != mine.size:
	case whole: // what is checked comes first
		best.found = append(mine.found, best.found...)
	default:
		best.found = append(best.found, mine.found...)
	}
	return best
}

// headerLayout is what the header says, and whether that is sure.
func (s *scanner) headerLayout(opts Options) (layout, bool) {
	h, ordered := lenient(s.header.Found)
	whole := s.header.Err == nil
	l := layout{size: h.PageSize, order: h.Order}
	if whole || h.Salts != (wal.Salts{}) && (ordered || h.PageSize != 0) {
		l.found = []Generation{{Salts: h.Salts, Order: h.Order}}
	}
	if l.size == 0 && ordered && opts.PageSize.Valid() {
		l.size = opts.PageSize
	}
	return l, whole && s.followsHeader(h)
}

// bestSample tries all page sizes. Between equals the header's counts, then the
// database's.
func (s *scanner) bestSample(header, database wal.PageSize) layout {
	best := layout{}
	for _, size := range pageSizes() {
		l := s.sample(size)
		equal := l.weight() == best.weight() && l.weight() > 0
		if l.weight() > best.weight() ||
			equal && (size == header || size == database && best.size != header) {
			best = l
		}
	}
	return best
}

func (l *layout) weight() int {
	if l.solved {
		return l.links + 1
	}
	return l.links
}

// frameAt gives a frame's bytes, nil if the file does not hold it whole. It is
// valid until the next call, and does not move the window.
func (s *scanner) frameAt(off int64, size wal.PageSize) []byte {
	n := wal.FrameHeaderSize + int(size)
	if off+int64(n) > s.win.size || s.win.err != nil {
		return nil
	}
	if s.scratch == nil {
		s.scratch = make([]byte, wal.FrameHeaderSize+int(wal.MaxPageSize))
	}
	if k, _ := s.win.src.ReadAt(s.scratch[:n], off); k != n {
		return nil // the scan itself will find and report this
	}
	return s.scratch[:n]
}

// followsHeader reports whether the file has no frame, or a first one that
// follows from the header.
func (s *scanner) followsHeader(h wal.Header) bool {
	f := s.frameAt(wal.HeaderSize, h.PageSize)
	return f == nil || extend(h.Sum, h.Order, f) == wal.ParseFrameHeader(f).Sum
}

// sample counts, for a page size, the pairs of frames that follow from each other
// in either byte order, and looks whether the first frame follows from some header.
func (s *scanner) sample(size wal.PageSize) layout {
	l, stride := layout{size: size}, wal.FrameHeaderSize+int64(size)
	slots := (s.win.size - wal.HeaderSize) / stride
	step := max((slots-1)/maxPairs, 1)
	for k := int64(0); k+1 < slots && l.links < maxLinks; k += step {
		off := wal.HeaderSize + k*stride
		var first, second [wal.FrameHeaderSize]byte
		n, _ := s.win.src.ReadAt(first[:], off)
		m, _ := s.win.src.ReadAt(second[:], off+stride)
		if n+m != 2*wal.FrameHeaderSize {
			break // the scan itself will find and report this
		}
		if string(first[8:16]) == string(second[8:16]) {
			l.vote(first[:], func() []byte { return s.frameAt(off+stride, size) })
		}
	}
	if f := s.frameAt(wal.HeaderSize, size); f != nil && s.header.Err != nil {
		l.solveFirst(f)
	}
	return l
}

// solveFirst looks whether the first frame follows from some header.
func (l *layout) solveFirst(f []byte) {
	h := wal.ParseFrameHeader(f)
	if h.Page == 0 || h.Salts == (wal.Salts{}) {
		return
	}
	for _, order := range orders() {
		needs := newLeap(l.size).to(h.Sum, wal.Checksum{}, extend(wal.Checksum{}, order, f))
		want := wal.Header{Order: order, PageSize: l.size, Salts: h.Salts}
		if _, ok := solve(want, needs); ok {
			l.solved = true
			if l.links == 0 {
				l.order = order
			}
			l.found = append(l.found, Generation{Salts: h.Salts, Order: order})
			return
		}
	}
}

// vote looks whether a second frame follows from a first frame's header.
func (l *layout) vote(first []byte, second func() []byte) bool {
	a := wal.ParseFrameHeader(first)
	if a.Page == 0 || a.Salts == (wal.Salts{}) {
		return false
	}
	f := second()
	if f == nil {
		return false
	}
	order, ok := follows(a, f)
	if !ok {
		return false
	}
	if l.links == 0 {
		l.order = order
	}
	l.links++
	l.found = append(l.found, Generation{Salts: a.Salts, Order: order, linked: true})
	return true
}

// follows reports whether a frame follows from the header of one with the same
// salts, and in which byte order.
func follows(a wal.FrameHeader, f []byte) (wal.ByteOrder, bool) {
	b := wal.ParseFrameHeader(f)
	if a.Salts != b.Salts || b.Page == 0 {
		return 0, false
	}
	for _, order := range orders() {
		if extend(a.Sum, order, f) == b.Sum {
			return order, true
		}
	}
	return 0, false
}

// search looks for two frames that follow from each other anywhere near the
// file's beginning. Frames begin at multiples of 8, and what storage loses or
// inserts are whole sectors.
func (s *scanner) search() layout {
	tries := 0
	for off := int64(0); off < min(s.win.size, maxSearch) && s.win.err == nil; off += 8 {
		rest := s.win.size - off
		have := int(min(rest, wal.FrameHeaderSize*2+int64(wal.MaxPageSize)))
		if have < wal.FrameHeaderSize {
			break
		}
		b := s.win.get(off, have)
		if string(b[8:16]) == string(b[:8]) || binary.BigEndian.Uint32(b) == 0 {
			continue
		}
		for _, size := range pageSizes() {
			stride := wal.FrameHeaderSize + int(size)
			if stride+wal.FrameHeaderSize > have || int64(2*stride) > rest || tries > maxTries {
				break
			}
			if string(b[8:16]) != string(b[stride+8:stride+16]) {
				continue
			}
			l := layout{size: size}
			tries += stride
			if l.vote(b, func() []byte { return s.frameAt(off+int64(stride), size) }) {
				return l
			}
		}
	}
	return layout{}
}
