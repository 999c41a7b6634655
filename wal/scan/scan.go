package scan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"tidemark/wal"
)

// Options are what is known besides the WAL.
type Options struct {
	// PageSize is that of the database file, 0 if unknown. It only decides where
	// the WAL says nothing: a WAL has its own.
	PageSize wal.PageSize
}

const (
	// maxGenerations bounds the generations that are told apart.
	maxGenerations = 1024
	// nearSalt is how far the first salts of generations of one WAL can lie apart to
	// be taken for such: it grows by 1 with each restart.
	nearSalt = 1 << 16
	// aloneSalt is the same for a generation of which one frame is left, so that
	// nothing else speaks for it.
	aloneSalt = 1 << 12
)

// Scan reads a WAL of so many bytes. Whatever they are, it gives a result; only
// what the source cannot read is an error. For a disk with bad sectors, the source should
// give zeros in their place. A file that does not look like a WAL
// at all gives a result without frames, with a page size of 0. See the package
// comment for what it costs.
func Scan(src io.ReaderAt, size int64, opts Options) (*Result, error) {
	s := &scanner{win: window{src: src, size: max(size, 0)}, known: map[wal.Salts]int{}, last: NoGeneration}
	if err := s.readHeader(); err != nil {
		return nil, err
	}
	l := s.chooseLayout(opts)
	if l.size != 0 {
		s.begin(l)
		s.run()
	}
	if s.win.err != nil {
		return nil, s.win.err
	}
	r := &Result{Header: s.header, Frames: s.frames, Generations: s.generations, src: src}
	if l.size != 0 {
		s.finish(r, l)
	}
	return r, nil
}

// scanner is the state of one scan.
type scanner struct {
	win     window
	scratch []byte
	header  Header

	size   wal.PageSize
	stride int64
	leap   leap

	generations []Generation
	chains      []chain // by generation
	known       map[wal.Salts]int
	last        int // the generation that was recognised last

	frames []Frame
}

func (s *scanner) readHeader() error {
	b := make([]byte, min(wal.HeaderSize, s.win.size))
	n, err := s.win.src.ReadAt(b, 0)
	if n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read WAL header: %w", err)
	}
	s.header.Found = b
	_, s.header.Err = wal.ParseHeader(b)
	return nil
}

// begin takes a layout, with the generations that are known from it.
func (s *scanner) begin(l layout) {
	s.size, s.stride, s.leap = l.size, wal.FrameHeaderSize+int64(l.size), newLeap(l.size)
	for _, g := range l.found {
		k, _ := s.register(g.Salts, g.Order)
		s.generations[k].linked = s.generations[k].linked || g.linked
	}
	h, _ := lenient(s.header.Found)
	if s.header.Err == nil && h.PageSize == l.size {
		c := &s.chains[s.known[h.Salts]]
		c.anchor, c.anchored = h.Sum, true
		c.seeds, c.next = append(c.seeds, seed{h.Sum, headerOrigin}), wal.HeaderSize
	}
	if len(s.generations) > 0 {
		s.last = 0
		s.chains[0].next = wal.HeaderSize
	}
}

// register makes a generation known.
func (s *scanner) register(salts wal.Salts, order wal.ByteOrder) (g int, ok bool) {
	if g, ok := s.known[salts]; ok {
		return g, true
	}
	if len(s.generations) == maxGenerations {
		return 0, false
	}
	g = len(s.generations)
	s.known[salts] = g
	s.generations = append(s.generations, Generation{Salts: salts, Order: order})
	s.chains = append(s.chains, chain{order: order, last: headerOrigin})
	return g, true
}

// run goes through the file, frame by frame.
func (s *scanner) run() {
	for pos := int64(wal.HeaderSize); pos < s.win.size && s.win.err == nil; {
		if s.win.size-pos < s.stride {
			s.torn(pos)
			return
		}
		if g, ok := s.recognise(pos); ok {
			s.take(pos, g)
			pos = s.after(pos)
			continue
		}
		to := s.resync(pos, s.win.size)
		for ; to-pos >= s.stride; pos += s.stride {
			s.unknown(pos)
		}
		if pos < to && to < s.win.size {
			s.frames = append(s.frames, Frame{Offset: pos, Generation: NoGeneration})
			pos = to
		}
	}
}

// after is where to go on after a frame. If it does not hold and the next one is
// not on the grid, then bytes may be missing in it, so that the next begins inside.
// That one has its own next on its grid, so every second frame at most is such.
func (s *scanner) after(pos int64) int64 {
	next := pos + s.stride
	if s.frames[len(s.frames)-1].Link.Holds() {
		return next
	}
	return s.resync(pos, next)
}

// add appends what the header at an offset says.
func (s *scanner) add(pos int64, g int) (int, []byte) {
	b := s.win.get(pos, int(s.stride))
	h := wal.ParseFrameHeader(b)
	s.frames = append(s.frames, Frame{
		Offset: pos, Page: h.Page, Commit: h.Commit, Sum: h.Sum,
		Generation: int16(g),
	})
	return len(s.frames) - 1, b
}

// take adds a frame of a known generation.
func (s *scanner) take(pos int64, g int) {
	i, b := s.add(pos, g)
	s.step(g, i, b)
	s.last = g
}

// unknown adds a place in which no frame was recognised. If it continues the
// grid, it may be one whose salts are damaged.
func (s *scanner) unknown(pos int64) {
	i, b := s.add(pos, NoGeneration)
	if s.last != NoGeneration && s.chains[s.last].next == pos {
		s.step(s.last, i, b)
	}
	if s.frames[i].Link == Unlinked {
		s.alone(i, b)
	}
}

// alone recognises the only frame that is left of an older generation, by a first
// salt near to the others'.
func (s *scanner) alone(i int, b []byte) {
	h := wal.ParseFrameHeader(b)
	if s.last == NoGeneration || h.Page == 0 {
		return
	}
	near := s.generations[s.last].Salts
	if d := int32(h.Salts.Salt1 - near.Salt1); d == 0 || d > aloneSalt || d < -aloneSalt {
		return
	}
	// Between two frames of one generation it is one of theirs, damaged.
	if after := s.frames[i].Offset + s.stride; after+wal.FrameHeaderSize <= s.win.size &&
		wal.ParseFrameHeader(s.win.get(after, wal.FrameHeaderSize)).Salts == near {
		return
	}
	g, ok := s.register(h.Salts, s.generations[s.last].Order)
	if !ok {
		return
	}
	s.frames[i].Generation = int16(g)
	s.step(g, i, s.win.get(s.frames[i].Offset, int(s.stride)))
	s.last = g
}

// torn adds what is left at the file's end.
func (s *scanner) torn(pos int64) {
	f := Frame{Offset: pos, Generation: NoGeneration, Verdict: Torn}
	if s.win.size-pos >= wal.FrameHeaderSize {
		h := wal.ParseFrameHeader(s.win.get(pos, wal.FrameHeaderSize))
		f.Page, f.Commit, f.Sum = h.Page, h.Commit, h.Sum
		if g, ok := s.known[h.Salts]; ok {
			f.Generation = int16(g)
		}
	}
	s.frames = append(s.frames, f)
}

// recognise gives the generation of the frame at an offset. New salts are a
// generation's if the next frame has them, too, and follows.
func (s *scanner) recognise(pos int64) (int, bool) {
	if s.win.size-pos < s.stride {
		return 0, false
	}
	h := wal.ParseFrameHeader(s.win.get(pos, int(min(2*s.stride, s.win.size-pos))))
	if g, ok := s.known[h.Salts]; ok {
		return g, true
	}
	if h.Page == 0 || h.Salts == (wal.Salts{}) || s.win.size-pos < 2*s.stride {
		return 0, false
	}
	order, ok := follows(h, s.win.get(pos+s.stride, int(s.stride)))
	if !ok {
		return 0, false
	}
	g, ok := s.register(h.Salts, order)
	if ok {
		s.generations[g].linked = true
	}
	return g, ok
}

// resync finds the next frame after a place in which there is none: on the grid,
// or else anywhere at a multiple of 8 if it is followed by another. It gives the
// limit if there is none before.
func (s *scanner) resync(pos, limit int64) int64 {
	grid := pos + s.stride
	if _, ok := s.recognise(grid); ok || s.tornAt(grid) {
		return grid
	}
	for off := pos + 8; off < limit && s.win.size-off >= s.stride && s.win.err == nil; off += 8 {
		if off == grid {
			if _, ok := s.recognise(off); ok {
				return off
			}
			grid += s.stride
		} else if s.plausible(off) {
			return off
		}
	}
	return limit
}

// tornAt reports whether the file's end cuts a frame at an offset.
func (s *scanner) tornAt(off int64) bool {
	rest := s.win.size - off
	return rest < s.stride && rest >= wal.FrameHeaderSize && s.familiar(s.win.get(off, wal.FrameHeaderSize))
}

// plausible reports whether a frame may begin off the grid: known salts here, and
// known salts or the file's end a frame later.
func (s *scanner) plausible(off int64) bool {
	have := s.win.size - off
	b := s.win.get(off, int(min(have, s.stride+wal.FrameHeaderSize)))
	if !s.familiar(b) || binary.BigEndian.Uint32(b) == 0 {
		return false
	}
	switch {
	case have == s.stride:
		return true
	case have < s.stride+wal.FrameHeaderSize:
		return false
	}
	return s.familiar(b[s.stride:])
}

// familiar reports whether a frame's header has salts that are known.
func (s *scanner) familiar(b []byte) bool {
	salts := wal.Salts{Salt1: binary.BigEndian.Uint32(b[8:]), Salt2: binary.BigEndian.Uint32(b[12:])}
	if len(s.generations) == 1 {
		return salts == s.generations[0].Salts
	}
	_, ok := s.known[salts]
	return ok
}
