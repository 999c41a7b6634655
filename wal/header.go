package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// HeaderSize is the length of a WAL's header in bytes.
const HeaderSize = 32

const (
	magicLittle = 0x377f0682
	magicBig    = 0x377f0683
	version     = 3007000
)

// ErrHeader says that bytes are not a WAL's header: wrong magic, version,
// page size or checksum. A WAL that SQLite is just creating can look so for a
// moment.
var ErrHeader = errors.New("not a valid WAL header")

// Salts are the two numbers that every frame of one WAL generation repeats
// from the header. On a restart SQLite adds 1 to the first and draws the second
// at random.
type Salts struct{ Salt1, Salt2 uint32 }

// String gives both salts as hex digits.
func (s Salts) String() string { return fmt.Sprintf("%08x-%08x", s.Salt1, s.Salt2) }

// Header is a WAL's header. It names a generation of the WAL: the frames
// between two restarts.
type Header struct {
	// Order is the byte order of the checksums.
	Order ByteOrder
	// PageSize is the database's page size.
	PageSize PageSize
	// Sequence counts checkpoints; SQLite writes it and never reads it.
	Sequence uint32
	// Salts are repeated by each frame of this generation.
	Salts Salts
	// Sum is the checksum of the header's first 24 bytes, from which the
	// chain of the frames starts.
	Sum Checksum
}

// ParseHeader decodes the first HeaderSize bytes of a WAL. Every error wraps
// ErrHeader.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes, want %d", ErrHeader, len(b), HeaderSize)
	}
	be := binary.BigEndian
	h := Header{
		PageSize: PageSize(be.Uint32(b[8:])),
		Sequence: be.Uint32(b[12:]),
		Salts:    Salts{be.Uint32(b[16:]), be.Uint32(b[20:])},
		Sum:      Checksum{be.Uint32(b[24:]), be.Uint32(b[28:])},
	}
	switch magic := be.Uint32(b); magic {
	case magicLittle:
	case magicBig:
		h.Order = BigEndian
	default:
		return Header{}, fmt.Errorf("%w: magic %08x", ErrHeader, magic)
	}
	if v := be.Uint32(b[4:]); v != version {
		return Header{}, fmt.Errorf("%w: version %d", ErrHeader, v)
	}
	if !h.PageSize.Valid() {
		return Header{}, fmt.Errorf("%w: page size %d", ErrHeader, h.PageSize)
	}
	if got := (Checksum{}).Extend(h.Order, b[:24]); got != h.Sum {
		return Header{}, fmt.Errorf("%w: checksum %v, stored %v", ErrHeader, got, h.Sum)
	}
	return h, nil
}

// AppendTo appends the header's 32 bytes, with the checksum computed anew.
func (h Header) AppendTo(b []byte) []byte {
	be, start := binary.BigEndian, len(b)
	magic := uint32(magicLittle)
	if h.Order == BigEndian {
		magic = magicBig
	}
	for _, v := range []uint32{magic, version, uint32(h.PageSize), h.Sequence, h.Salts.Salt1, h.Salts.Salt2} {
		b = be.AppendUint32(b, v)
	}
	sum := Checksum{}.Extend(h.Order, b[start:])
	return be.AppendUint32(be.AppendUint32(b, sum.S0), sum.S1)
}

// ReadHeader reads a WAL's header. A WAL that has none yet, because its file is
// shorter than one, gives io.EOF; bytes that are no header give ErrHeader.
func ReadHeader(src io.ReaderAt) (Header, error) {
	var b [HeaderSize]byte
	n, err := src.ReadAt(b[:], 0)
	switch {
	case n == HeaderSize:
		return ParseHeader(b[:])
	case err == nil || errors.Is(err, io.EOF):
		return Header{}, io.EOF
	default:
		return Header{}, fmt.Errorf("read WAL header: %w", err)
	}
}

// Start is the position before the generation's first frame.
func (h Header) Start() Position { return Position{Salts: h.Salts, Sum: h.Sum} }

// Offset is the place of a frame, counted from 1, in the WAL file.
func (h Header) Offset(frame uint32) int64 {
	return HeaderSize + int64(frame-1)*h.frameSize()
}

func (h Header) frameSize() int64 { return FrameHeaderSize + int64(h.PageSize) }
