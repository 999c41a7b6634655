package scan

import (
	"math/bits"

	"tidemark/wal"
)

// The checksum is affine in the sum from which it starts: extending s over n
// bytes gives M^(n/8)*s + c, where c depends on the bytes only and M is
//
//	1 1
//	1 2
//
// modulo 2^32. So the bytes are read once, from any sum, and the result from
// another is had without them; and as M has an inverse, so is the sum from which
// one must start to arrive at a given one.

// matrix is two by two, by rows.
type matrix [4]uint32

func (m matrix) times(n matrix) matrix {
	return matrix{
		m[0]*n[0] + m[1]*n[2], m[0]*n[1] + m[1]*n[3],
		m[2]*n[0] + m[3]*n[2], m[2]*n[1] + m[3]*n[3],
	}
}

func (m matrix) apply(c wal.Checksum) wal.Checksum {
	return wal.Checksum{S0: m[0]*c.S0 + m[1]*c.S1, S1: m[2]*c.S0 + m[3]*c.S1}
}

func (m matrix) power(n int) matrix {
	p := matrix{1, 0, 0, 1}
	for ; n > 0; n /= 2 {
		if n%2 == 1 {
			p = p.times(m)
		}
		m = m.times(m)
	}
	return p
}

func plus(a, b wal.Checksum) wal.Checksum  { return wal.Checksum{S0: a.S0 + b.S0, S1: a.S1 + b.S1} }
func minus(a, b wal.Checksum) wal.Checksum { return wal.Checksum{S0: a.S0 - b.S0, S1: a.S1 - b.S1} }

// leap goes over the bytes of a frame, forward or back, without them.
type leap struct{ forward, back matrix }

func newLeap(size wal.PageSize) leap {
	steps := (8 + int(size)) / 8
	const minus1 = ^uint32(0)
	return leap{forward: matrix{1, 1, 1, 2}.power(steps), back: matrix{2, minus1, minus1, 1}.power(steps)}
}

// from is where one arrives from another sum, if one arrives at end from start.
func (l leap) from(other, start, end wal.Checksum) wal.Checksum {
	return plus(end, l.forward.apply(minus(other, start)))
}

// to is from where one arrives at other, if one arrives at end from start.
func (l leap) to(other, start, end wal.Checksum) wal.Checksum {
	return plus(start, l.back.apply(minus(other, end)))
}

// extend continues a sum over a whole frame.
func extend(from wal.Checksum, order wal.ByteOrder, frame []byte) wal.Checksum {
	return from.Extend(order, frame[:8]).Extend(order, frame[wal.FrameHeaderSize:])
}

// word is a header's number as checksums of the byte order read it, and back.
func word(order wal.ByteOrder, v uint32) uint32 {
	if order == wal.BigEndian {
		return v
	}
	return bits.ReverseBytes32(v)
}

// solve finds the sequence with which a header of these fields has the sum. The sum
// has 64 bits and the sequence 32, so the other 32 confirm the fields.
func solve(h wal.Header, sum wal.Checksum) (sequence uint32, ok bool) {
	begin := wal.Checksum{}.Extend(h.Order, h.AppendTo(nil)[:8])
	var after wal.Checksum // the sum before the salts
	after.S1 = sum.S1 - word(h.Order, h.Salts.Salt2) - sum.S0
	after.S0 = sum.S0 - word(h.Order, h.Salts.Salt1) - after.S1
	if after.S0 != begin.S0+word(h.Order, uint32(h.PageSize))+begin.S1 {
		return 0, false
	}
	return word(h.Order, after.S1-begin.S1-after.S0), true
}
