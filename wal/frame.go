package wal

import (
	"encoding/binary"
	"fmt"
)

// FrameHeaderSize is the length of a frame's header in bytes.
const FrameHeaderSize = 24

// FrameHeader is what precedes the page image of a frame.
type FrameHeader struct {
	// Page is the number of the page that the frame holds.
	Page PageNo
	// Commit is 0, or, in the last frame of a transaction, the database's
	// length in pages after it.
	Commit uint32
	// Salts are those of the frame's generation.
	Salts Salts
	// Sum is the chain's checksum after this frame.
	Sum Checksum
}

// ParseFrameHeader decodes the first FrameHeaderSize bytes of b, which must be
// at least that long. Any bytes have a meaning; whether they count is decided
// by the salts and the chain.
func ParseFrameHeader(b []byte) FrameHeader {
	be := binary.BigEndian
	return FrameHeader{
		Page:   PageNo(be.Uint32(b)),
		Commit: be.Uint32(b[4:]),
		Salts:  Salts{be.Uint32(b[8:]), be.Uint32(b[12:])},
		Sum:    Checksum{be.Uint32(b[16:]), be.Uint32(b[20:])},
	}
}

// AppendFrame appends a frame for the page image to b, continuing the chain
// from a position, and gives the position after it. It is for tests and tools
// that make WALs; the generation's header says the byte order.
func (h Header) AppendFrame(b []byte, from Position, page PageNo, commit uint32, image []byte) ([]byte, Position) {
	be, start := binary.BigEndian, len(b)
	b = be.AppendUint32(b, uint32(page))
	b = be.AppendUint32(b, commit)
	sum := from.Sum.Extend(h.Order, b[start:]).Extend(h.Order, image)
	b = be.AppendUint32(b, h.Salts.Salt1)
	b = be.AppendUint32(b, h.Salts.Salt2)
	b = be.AppendUint32(b, sum.S0)
	b = be.AppendUint32(b, sum.S1)
	return append(b, image...), Position{Salts: h.Salts, Frame: from.Frame + 1, Sum: sum}
}

// Position is a place between two frames of one generation: Frame frames lie
// before it, and Sum is the chain's checksum after the last of them. It says
// all that is needed to resume reading, and to prove that what follows is what
// followed.
type Position struct {
	// Salts name the generation.
	Salts Salts
	// Frame is the number of frames before the position.
	Frame uint32
	// Sum is the running checksum.
	Sum Checksum
}

// String names the generation and the frame.
func (p Position) String() string { return fmt.Sprintf("%v frame %d", p.Salts, p.Frame) }
