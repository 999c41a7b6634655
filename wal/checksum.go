package wal

import (
	"encoding/binary"
	"fmt"
)

// Checksum is the running checksum of a WAL's chain, SQLite's own: a
// Fibonacci-weighted pair of 32-bit sums over 8-byte steps.
type Checksum struct{ S0, S1 uint32 }

// String gives both sums as hex digits.
func (c Checksum) String() string { return fmt.Sprintf("%08x%08x", c.S0, c.S1) }

// ByteOrder is the order in which a WAL's checksums read 32-bit words. It is
// that of the machine that created the WAL; every machine reads both.
type ByteOrder uint8

// The two byte orders.
const (
	LittleEndian ByteOrder = iota
	BigEndian
)

// Extend continues a checksum over b, whose length must be a multiple of 8; a
// rest is ignored. It does not allocate.
func (c Checksum) Extend(order ByteOrder, b []byte) Checksum {
	if order == BigEndian {
		return c.extendBig(b)
	}
	return c.extendLittle(b)
}

// extendLittle is unrolled to 32 bytes a turn. Each sum needs the one before it, so
// that what bounds the speed is the additions in that chain. The order in which they
// are written leaves one of them a word: what does not need the latest sum is added
// before it is there.
func (c Checksum) extendLittle(b []byte) Checksum {
	s0, s1 := c.S0, c.S1
	for ; len(b) >= 32; b = b[32:] {
		w := b[:32:32]
		a0, a1 := binary.LittleEndian.Uint64(w), binary.LittleEndian.Uint64(w[8:])
		a2, a3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
		s0 = s0 + uint32(a0) + s1
		s1 = s1 + uint32(a0>>32) + s0
		s0 = s0 + uint32(a1) + s1
		s1 = s1 + uint32(a1>>32) + s0
		s0 = s0 + uint32(a2) + s1
		s1 = s1 + uint32(a2>>32) + s0
		s0 = s0 + uint32(a3) + s1
		s1 = s1 + uint32(a3>>32) + s0
	}
	for ; len(b) >= 8; b = b[8:] {
		s0 += binary.LittleEndian.Uint32(b) + s1
		s1 += binary.LittleEndian.Uint32(b[4:]) + s0
	}
	return Checksum{s0, s1}
}

func (c Checksum) extendBig(b []byte) Checksum {
	s0, s1 := c.S0, c.S1
	for ; len(b) >= 32; b = b[32:] {
		w := b[:32:32]
		a0, a1 := binary.BigEndian.Uint64(w), binary.BigEndian.Uint64(w[8:])
		a2, a3 := binary.BigEndian.Uint64(w[16:]), binary.BigEndian.Uint64(w[24:])
		s0 = s0 + uint32(a0>>32) + s1
		s1 = s1 + uint32(a0) + s0
		s0 = s0 + uint32(a1>>32) + s1
		s1 = s1 + uint32(a1) + s0
		s0 = s0 + uint32(a2>>32) + s1
		s1 = s1 + uint32(a2) + s0
		s0 = s0 + uint32(a3>>32) + s1
		s1 = s1 + uint32(a3) + s0
	}
	for ; len(b) >= 8; b = b[8:] {
		s0 += binary.BigEndian.Uint32(b) + s1
		s1 += binary.BigEndian.Uint32(b[4:]) + s0
	}
	return Checksum{s0, s1}
}
