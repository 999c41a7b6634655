package scan

import (
	"encoding/binary"

	"tidemark/wal"
)

// Field is a field of the WAL's header.
type Field uint8

// The fields. Magic holds the byte order.
const (
	Magic Field = iota
	Version
	PageSize
	Sequence
	Salts
	Sum
)

// String is the field's name.
func (f Field) String() string {
	return name(f, "magic", "version", "page size", "sequence", "salts", "checksum")
}

// Rebuilt is a header's field whose value was not taken from the file.
type Rebuilt struct {
	Field Field
	// Votes is the number of frames that speak for the value used: those that
	// hold, for magic, version and page size; those that have them, for salts; 1
	// for sequence and checksum if the first frame speaks for them, else 0.
	Votes int
}

// Trust is how far the header used is to be trusted.
type Trust uint8

// The kinds of trust.
const (
	// Guessed: nothing confirms the header as a whole.
	Guessed Trust = iota
	// Likely: the header was rebuilt, and 32 bits of the first frame's checksum
	// confirm it. The first frame stays an orphan.
	Likely
	// Confirmed: the header was rebuilt, and 64 bits confirm it and the first frame.
	Confirmed
	// Whole: the header was found whole.
	Whole
)

// String is the trust in a word.
func (t Trust) String() string { return name(t, "guessed", "likely", "confirmed", "whole") }

// Header is a WAL's header as found and as used.
type Header struct {
	// Found is what the file begins with, up to 32 bytes.
	Found []byte
	// Err is what [wal.ParseHeader] says of it; nil if it is whole.
	Err error
	// Used is the header of the current generation. Its page size is 0 if the file
	// does not look like a WAL at all.
	Used wal.Header
	// Trust is how far Used is to be trusted.
	Trust Trust
	// Rebuilt lists the fields in which Used and Found differ. It has salts and
	// checksum also if Found is whole, but the header of an older generation.
	Rebuilt []Rebuilt
}

// lenient is what can be read of a header that may be damaged. Fields that make no
// sense are 0; the byte order is meaningful if ordered.
func lenient(found []byte) (h wal.Header, ordered bool) {
	var b [wal.HeaderSize]byte
	copy(b[:], found)
	be := binary.BigEndian
	h = wal.Header{
		PageSize: wal.PageSize(be.Uint32(b[8:])),
		Sequence: be.Uint32(b[12:]),
		Salts:    wal.Salts{Salt1: be.Uint32(b[16:]), Salt2: be.Uint32(b[20:])},
		Sum:      wal.Checksum{S0: be.Uint32(b[24:]), S1: be.Uint32(b[28:])},
	}
	if !h.PageSize.Valid() {
		h.PageSize = 0
	}
	magic, little := be.Uint32(b[:]), be.Uint32(wal.Header{}.AppendTo(nil))
	ordered = magic&^1 == little&^1
	if ordered && magic != little {
		h.Order = wal.BigEndian
	}
	return h, ordered
}

// compare lists the fields in which the header used differs from that found.
func (h *Header) compare(holding, frames int) {
	have := make([]byte, wal.HeaderSize)
	copy(have, h.Found)
	want := h.Used.AppendTo(nil)
	binary.BigEndian.PutUint32(want[24:], h.Used.Sum.S0)
	binary.BigEndian.PutUint32(want[28:], h.Used.Sum.S1)
	first := 0
	if h.Trust == Likely || h.Trust == Confirmed {
		first = 1
	}
	for f, at := range []struct{ from, to, votes int }{
		Magic:    {0, 4, holding},
		Version:  {4, 8, holding},
		PageSize: {8, 12, holding},
		Sequence: {12, 16, first},
		Salts:    {16, 24, frames},
		Sum:      {24, 32, first},
	} {
		short := len(h.Found) < at.to
		if short || string(have[at.from:at.to]) != string(want[at.from:at.to]) {
			h.Rebuilt = append(h.Rebuilt, Rebuilt{Field: Field(f), Votes: at.votes})
		}
	}
}
