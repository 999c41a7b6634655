package block

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	// noiseMin is the length from which on a payload is looked at before LZ4 gets it.
	noiseMin = 16 << 10

	// So many short pieces, from all over the payload, are looked at for the values of
	// their bytes. In noise 32 bytes have 30 values, hardly ever less than 22; text,
	// numbers and zeros have fewer.
	valuePieces, valuePiece, fewValues = 64, 32, 22
	// So many longer ones are looked for in what follows them, in steps of their own
	// length, so that a step falls into each copy.
	repeatPieces, repeatPiece = 16, 64
	// A word is 8 bytes: in noise no two are the same.
	word = 8
)

// noise tells that raw looks like noise, as pictures and encrypted or compressed data
// do. To find that it can do next to nothing with it, LZ4 takes as long as a copy and
// a checksum together. This takes a quarter of that, for a sample of both things that
// LZ4 lives on: bytes of few values, among which short words repeat, and longer pieces
// that are there twice, like the same picture in many rows.
//
// Nothing is remembered from one payload to the next: in a database pictures and rows
// alternate, and which worker gets a block is chance.
func noise(raw []byte) bool {
	return len(raw) >= noiseMin && manyValues(raw) && !repeats(raw)
}

// manyValues tells whether the bytes of raw have as many values as those of noise, but
// for one piece at most: a picture rarely ends where a page does. If the share s of raw
// is other than noise, that is so in (1-s)^64 + 64 s (1-s)^63 of all cases: one in six
// for a twentieth of raw, one in a hundred for a tenth.
func manyValues(raw []byte) bool {
	step, others := len(raw)/valuePieces, 0
	for i := range valuePieces {
		at := i*step + i*1597%(step-valuePiece+1) // not always at the same place of a page
		var values [4]uint64
		for _, b := range raw[at : at+valuePiece] {
			values[b>>6] |= 1 << (b & 63)
		}
		n := 0
		for _, v := range values {
			n += bits.OnesCount64(v)
		}
		if n < fewValues {
			others++
		}
		if others > 1 {
			return false
		}
	}
	return true
}

// repeats tells whether any of some pieces of raw comes again after it. If the share s
// of raw does, none of the pieces shows it in (1-s)^16 of all cases: one in 100,000 for
// half of raw, one in 100 for a quarter. Zeros don't count: manyValues has seen that
// they are few.
func repeats(raw []byte) bool {
	var seen [2048]uint64 // words by their hash; a later one takes an earlier one's place
	hash := func(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 >> 53 }
	for part := range slices.Chunk(raw, len(raw)/repeatPieces) {
		n := len(part) - word
		for at := 0; at <= n; at += repeatPiece {
			if w := binary.LittleEndian.Uint64(part[at:]); w == seen[hash(w)] && w != 0 {
				return true
			}
		}
		for at := max(0, n-repeatPiece); at < n; at++ {
			w := binary.LittleEndian.Uint64(part[at:])
			seen[hash(w)] = w
		}
	}
	return false
}
