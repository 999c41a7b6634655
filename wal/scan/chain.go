package scan

import (
	"slices"

	"tidemark/wal"
)

// maxSeeds is the number of sums from which a frame is tried: the oldest that is
// still good, and the newest ones.
const maxSeeds = 8

// seed is a sum from which the next frame may follow: the one that frame origin
// stores, carried over all frames after it up to now. If the next frame does
// follow, all of these hold.
type seed struct {
	sum    wal.Checksum
	origin int // an index into the frames; headerOrigin: the header
}

const headerOrigin = -1

// chain is the state of one generation's chain while the file is scanned.
type chain struct {
	order wal.ByteOrder
	// seeds are good for a frame at offset next.
	seeds []seed
	next  int64
	// anchor is the sum that the last frame which was recognised stores, or the
	// header's. A frame elsewhere than at next can only follow from that.
	anchor   wal.Checksum
	anchored bool
	last     int // that frame; headerOrigin: none yet
	// begun is set with the first frame. trust says whether that follows from a
	// header that could be rebuilt, with this sequence.
	begun    bool
	first    int
	trust    Trust
	sequence uint32
}

// step takes the next frame of a generation, with its bytes, and finds its link. If
// the frame's salts are not the generation's, it is only of it if the chain says so.
func (s *scanner) step(g, i int, frame []byte) {
	c, f := &s.chains[g], &s.frames[i]
	known := int(f.Generation) == g
	contiguous := f.Offset == c.next
	if !contiguous {
		c.seeds = c.seeds[:0]
	}
	var start wal.Checksum
	if len(c.seeds) > 0 {
		start = c.seeds[len(c.seeds)-1].sum
	} else if c.anchored {
		start = c.anchor
	}
	end := extend(start, c.order, frame)
	origin, holds := c.match(s.leap, start, end, f.Sum)
	switch {
	case holds && f.Page != 0: // zeros extend a sum of zero to zero, which proves nothing
		s.heal(g, origin, i)
		f.Generation, f.Link = int16(g), Linked
		if !known {
			f.Link = Healed
		}
	case known:
		f.Link = s.unproven(g, f, holds, s.leap.to(f.Sum, start, end))
	}
	if f.Link != Unlinked && !c.begun {
		c.begun, c.first = true, i
	}
	c.advance(s.leap, i, f, start, end)
	c.next = f.Offset + s.stride
}

// unproven is the link of a frame that follows from no sum at hand, or that does but has
// no page number. needs is the sum from which it would follow.
func (s *scanner) unproven(g int, f *Frame, holds bool, needs wal.Checksum) Link {
	switch {
	case holds, s.precedes(&s.chains[g], f.Offset):
		return Broken
	case s.begins(g, f, needs) == Confirmed:
		return Linked
	}
	return Orphaned
}

// begins looks whether a frame, which needs a sum before it, is its generation's
// first: whether a header would have that sum. With the sequence unknown, 32 bits
// speak for it, and linearly: a single flipped bit, if it is one of the highest of
// its word, often passes. That is no proof. It is one if the header's stored sum or
// its sequence has survived, or if the sequence is 0, as that of every new WAL.
func (s *scanner) begins(g int, f *Frame, needs wal.Checksum) Trust {
	c := &s.chains[g]
	if c.begun || c.anchored || f.Page == 0 {
		return Guessed
	}
	h := wal.Header{Order: c.order, PageSize: s.size, Salts: s.generations[g].Salts}
	sequence, ok := solve(h, needs)
	if !ok {
		return Guessed
	}
	found, _ := lenient(s.header.Found)
	c.trust, c.sequence = Likely, sequence
	salts := s.generations[g].linked || found.Salts == h.Salts
	survived := needs == found.Sum || salts && (sequence == found.Sequence || sequence == 0)
	if survived && s.header.Err != nil {
		c.trust = Confirmed
	}
	return c.trust
}

// match finds the sum from which a frame follows, newest first.
func (c *chain) match(l leap, start, end, stored wal.Checksum) (origin int, ok bool) {
	for _, from := range slices.Backward(c.seeds) {
		if l.from(from.sum, start, end) == stored {
			return from.origin, true
		}
	}
	if c.anchored && l.from(c.anchor, start, end) == stored {
		return direct, true
	}
	return 0, false
}

// direct is the origin of a frame that follows from the anchor, with nothing between.
const direct = -2

// advance carries the seeds over a frame and adds the sum that it stores.
func (c *chain) advance(l leap, i int, f *Frame, start, end wal.Checksum) {
	if f.Link.Holds() {
		c.seeds = c.seeds[:0]
	}
	for k := range c.seeds {
		c.seeds[k].sum = l.from(c.seeds[k].sum, start, end)
	}
	if len(c.seeds) == maxSeeds {
		c.seeds = slices.Delete(c.seeds, 1, 2)
	}
	c.seeds = append(c.seeds, seed{f.Sum, i})
	if f.Link != Unlinked {
		c.last, c.anchor, c.anchored = i, f.Sum, true
	}
}

// heal marks the frames between an origin and frame i, which follows from it.
func (s *scanner) heal(g, origin, i int) {
	if origin == direct {
		return
	}
	if origin >= 0 && s.frames[origin].Link == Unlinked {
		// Only its stored sum has survived, and is now confirmed.
		s.frames[origin].Generation, s.frames[origin].Link = int16(g), Orphaned
		if before := origin - 1; before < 0 && s.header.Err == nil || before >= 0 && s.frames[before].Link.Holds() {
			s.frames[origin].Link = Broken
		}
	}
	for k := origin + 1; k < i; k++ {
		f := &s.frames[k]
		f.Generation, f.Link = int16(g), Healed
		if f.Page == 0 {
			f.Link = Broken
		}
	}
}

// precedes reports whether the chain holds right before an offset.
func (s *scanner) precedes(c *chain, off int64) bool {
	if c.last == headerOrigin {
		return c.anchored && off == wal.HeaderSize
	}
	f := s.frames[c.last]
	likely := c.trust == Likely && c.last == c.first
	return (f.Link.Holds() || likely) && f.Offset+s.stride == off
}
