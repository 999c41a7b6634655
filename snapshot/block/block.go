// Package block is the framing that tidemark's segments and snapshots share: a
// stream of blocks, each a header and a payload that is compressed and summed
// on its own, so that blocks are encoded, decoded and fetched independently.
//
// # Format
//
// All integers are big-endian.
//
//	 0       1       2               4                               8
//	+-------+-------+---------------+-------------------------------+
//	| kind  | codec | reserved (0)  | raw length                    |
//	+-------+-------+---------------+-------------------------------+
//	| stored length                 | reserved (0)                  |
//	+-------------------------------+-------------------------------+
//	| xxh64 of the 16 bytes above and the payload                   |
//	+---------------------------------------------------------------+
//	| payload: stored length bytes ...                              |
//	+---------------------------------------------------------------+
//
// kind is the business of the format around; codec is 0 when the payload is
// the raw bytes themselves (then both lengths are equal) and 1 when it is an
// LZ4 block (then it is shorter than the raw bytes, and not empty). Nothing
// else is valid, so that equal content has few encodings and every byte is
// checked. A length over [Limit] is corrupt, whatever the sum says: it is
// refused before memory is taken for it.
//
// LZ4 blocks: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md.
package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/pierrec/lz4/v4"
)

const (
	// HeaderSize is the length of a block's header in bytes.
	HeaderSize = 24
	// MaxRaw is the raw length that writers aim at: large enough to compress
	// well, small enough that a few blocks for each worker are no memory.
	MaxRaw = 256 << 10
	// Limit is the largest raw and stored length that a decoder accepts.
	Limit = 1 << 20

	summed = HeaderSize - 8 // the part of the header that the sum covers
)

// Errors that callers branch on; test with errors.Is.
var (
	// ErrCorrupt says that bytes are not what was written.
	ErrCorrupt = errors.New("corrupt")
	// ErrVersion says that an object is in a format version that this build
	// does not know. It is not corruption: a newer build may read it.
	ErrVersion = errors.New("unknown format version")
)

// Error is an error at a place in an object.
type Error struct {
	// Offset is where in the object the offending structure begins.
	Offset int64
	// Err is what is wrong there.
	Err error
}

// Error names the offset and the cause.
func (e *Error) Error() string { return fmt.Sprintf("at offset %d: %v", e.Offset, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Kind says what a block's payload is; its values belong to the format around.
type Kind uint8

// Codec says how a block's payload is stored.
type Codec uint8

const (
	// Stored payloads are the raw bytes.
	Stored Codec = 0
	// LZ4 payloads are one LZ4 block.
	LZ4 Codec = 1
)

// String names the codec.
func (c Codec) String() string {
	switch c {
	case Stored:
		return "stored"
	case LZ4:
		return "lz4"
	default:
		return fmt.Sprintf("codec %d", uint8(c))
	}
}

// Header is a decoded block header.
type Header struct {
	// Kind is what the payload is.
	Kind Kind
	// Codec is how it is stored.
	Codec Codec
	// Raw is its length before compression, Stored its length as it stands
	// in the object, both in bytes and at most [Limit].
	Raw, Stored uint32
	// Sum is the xxh64 of header and payload.
	Sum uint64
}

// Size is the length of the whole block, header included.
func (h Header) Size() int64 { return HeaderSize + int64(h.Stored) }

// put writes all of the header but the sum.
func (h Header) put(b []byte) {
	b[0] = byte(h.Kind)
	b[1] = byte(h.Codec)
	binary.BigEndian.PutUint16(b[2:], 0)
	binary.BigEndian.PutUint32(b[4:], h.Raw)
	binary.BigEndian.PutUint32(b[8:], h.Stored)
	binary.BigEndian.PutUint32(b[12:], 0)
}

// ParseHeader reads the first [HeaderSize] bytes of b. It checks everything
// but the sum, which needs the payload ([Decode]); what it accepts has lengths
// within [Limit]. Errors are ErrCorrupt.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes for a block header", ErrCorrupt, len(b))
	}
	h := Header{
		Kind:   Kind(b[0]),
		Codec:  Codec(b[1]),
		Raw:    binary.BigEndian.Uint32(b[4:]),
		Stored: binary.BigEndian.Uint32(b[8:]),
		Sum:    binary.BigEndian.Uint64(b[16:]),
	}
	if binary.BigEndian.Uint16(b[2:]) != 0 || binary.BigEndian.Uint32(b[12:]) != 0 {
		return Header{}, fmt.Errorf("%w: reserved bytes of a block header are not zero", ErrCorrupt)
	}
	if err := h.check(); err != nil {
		return Header{}, err
	}
	return h, nil
}

func (h Header) check() error {
	if h.Raw > Limit || h.Stored > Limit {
		return fmt.Errorf("%w: block of %d bytes raw, %d stored is over %d", ErrCorrupt, h.Raw, h.Stored, Limit)
	}
	ok := false
	switch h.Codec {
	case Stored:
		ok = h.Stored == h.Raw
	case LZ4:
		ok = h.Stored > 0 && h.Stored < h.Raw
	}
	if !ok {
		return fmt.Errorf("%w: block of %d bytes raw, %d stored with %v", ErrCorrupt, h.Raw, h.Stored, h.Codec)
	}
	return nil
}

// sum is the xxh64 of a header (hb, whose sum field is ignored) and payload.
func sum(hb, payload []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(hb[:summed]) // never fails
	_, _ = d.Write(payload)
	return d.Sum64()
}

// compressors keeps the tables of LZ4, 136 KiB each, from one block to the next.
// There are thousands of writers, and few of them make a block at a time.
//
//nolint:gochecknoglobals // see above
var compressors = sync.Pool{New: func() any { return new(lz4.Compressor) }}

// Append appends a block with the payload raw to dst and returns the extended
// slice. Payloads that LZ4 does not shrink are stored, and so are those of 16 KiB or
// more that look as if it would shrink them by a few percent at most. The block
// depends on kind and raw alone.
//
// It does not allocate if dst has room for [HeaderSize] + len(raw) bytes more. raw
// is only read, must not overlap dst's spare capacity, and must be no longer than
// [Limit]: Append panics otherwise, as no reader would accept the block. Calls may
// run at once.
func Append(dst []byte, kind Kind, raw []byte) []byte {
	if len(raw) > Limit {
		panic(fmt.Sprintf("block: payload of %d bytes is over %d", len(raw), Limit))
	}
	start := len(dst)
	dst = slices.Grow(dst, HeaderSize+len(raw))[:start+HeaderSize+len(raw)]
	hb, payload := dst[start:start+HeaderSize], dst[start+HeaderSize:]

	h := Header{Kind: kind, Codec: Stored, Raw: uint32(len(raw)), Stored: uint32(len(raw))}
	if n := compress(payload, raw); n > 0 {
		h.Codec, h.Stored = LZ4, uint32(n)
	} else {
		copy(payload, raw)
	}
	payload = payload[:h.Stored]
	h.put(hb)
	binary.BigEndian.PutUint64(hb[summed:], sum(hb, payload))
	return dst[:start+HeaderSize+len(payload)]
}

// compress gives the length of raw's LZ4 block in dst, or 0 if it would not be
// shorter than raw, or hardly.
func compress(dst, raw []byte) int {
	if len(raw) < 2 || noise(raw) {
		return 0
	}
	c, _ := compressors.Get().(*lz4.Compressor)
	defer compressors.Put(c)
	n, err := c.CompressBlock(raw, dst[:len(raw)-1])
	if err != nil { // it did not fit
		return 0
	}
	return n
}

func errSum() error { return fmt.Errorf("%w: block checksum does not match", ErrCorrupt) }

// Decode checks a block and gives its raw bytes: h is what [ParseHeader] made
// of hb, the header's bytes, and stored the payload. The result has exactly
// h.Raw bytes; it lies in dst's memory, from its beginning, if dst's capacity
// is enough, and in new memory if not. stored is only read and must not
// overlap dst. Errors are ErrCorrupt.
func Decode(dst []byte, h Header, hb, stored []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if len(hb) < HeaderSize || len(stored) != int(h.Stored) {
		return nil, fmt.Errorf("%w: %d bytes for a block of %d", ErrCorrupt, len(stored), h.Stored)
	}
	if sum(hb, stored) != h.Sum {
		return nil, errSum()
	}
	dst = sized(dst, h.Raw)
	if h.Codec == Stored {
		copy(dst, stored)
		return dst, nil
	}
	n, err := lz4.UncompressBlock(stored, dst)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if n != len(dst) {
		return nil, fmt.Errorf("%w: block has %d raw bytes, its header says %d", ErrCorrupt, n, h.Raw)
	}
	return dst, nil
}

// Cut decodes the block at the beginning of data as [Decode] does and gives
// what follows it as rest. A block that data does not hold completely is
// ErrCorrupt.
func Cut(dst, data []byte) (h Header, raw, rest []byte, err error) {
	h, err = ParseHeader(data)
	if err != nil {
		return Header{}, nil, nil, err
	}
	if int64(len(data)) < h.Size() {
		return Header{}, nil, nil, fmt.Errorf("%w: %d bytes for a block of %d", ErrCorrupt, len(data), h.Size())
	}
	raw, err = Decode(dst, h, data[:HeaderSize], data[HeaderSize:h.Size()])
	if err != nil {
		return Header{}, nil, nil, err
	}
	return h, raw, data[h.Size():], nil
}

// sized gives n bytes, in b's memory if it is large enough. n is at most
// Limit; new memory is a power of two, so that blocks of creeping sizes don't
// allocate each.
func sized(b []byte, n uint32) []byte {
	if cap(b) >= int(n) {
		return b[:n]
	}
	return make([]byte, n, 1<<bits.Len32(n-1))
}
