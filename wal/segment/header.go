package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Version is the format's version that Writer writes.
const Version = 1

// HeaderSize and TrailerSize are the lengths of a segment's fixed ends.
const (
	HeaderSize  = 128
	TrailerSize = 64
)

const (
	magic    = "TIDESEG\n"
	endMagic = "TIDEEND\n"
)

// MaxWriterLen is the length of the longest writer's name in bytes.
const MaxWriterLen = 56

// The kinds of blocks in a segment.
const (
	kindRecords block.Kind = 0x10 + iota
	kindCommits
	kindBlocks
	kindPages
)

// ReplicaID names a replica: 16 random bytes drawn when it is created. Every
// object of the replica repeats it.
type ReplicaID [16]byte

// String gives 32 hex digits.
func (id ReplicaID) String() string { return hex.EncodeToString(id[:]) }

// Header is the beginning of a segment: what it continues.
type Header struct {
	// PageSize is that of every page in it.
	PageSize wal.PageSize
	// Replica is the replica that it belongs to.
	Replica ReplicaID
	// First is the TXID of its first commit.
	First state.TXID
	// Before and PagesBefore are the state before that commit.
	Before      state.Checksum
	PagesBefore uint32
	// Time is the first commit's.
	Time time.Time
	// Writer names the process that wrote it, for people. A name that does not
	// fit into MaxWriterLen bytes is cut between two characters when it is
	// written, and what is not UTF-8 is replaced.
	Writer string
}

func (h Header) appendTo(b []byte) []byte {
	be, start := binary.BigEndian, len(b)
	b = append(b, magic...)
	b = be.AppendUint16(b, Version)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint32(b, uint32(h.PageSize))
	b = append(b, h.Replica[:]...)
	b = be.AppendUint64(b, uint64(h.First))
	b = be.AppendUint64(b, uint64(h.Before))
	b = be.AppendUint32(b, h.PagesBefore)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint64(b, uint64(h.Time.UnixMilli()))
	name := writerName(h.Writer)
	b = append(b, name...)
	b = append(b, make([]byte, MaxWriterLen-len(name))...)
	return be.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// writerName is what is written of a name: UTF-8, no zero byte, and at most
// MaxWriterLen bytes of whole characters.
func writerName(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	end := min(len(s), MaxWriterLen)
	for end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// parseWriterName decodes a name that is padded with zeros.
func parseWriterName(b []byte) (string, bool) {
	name := bytes.TrimRight(b, "\x00")
	return string(name), utf8.Valid(name) && bytes.IndexByte(name, 0) < 0
}

// ParseHeader decodes the first HeaderSize bytes of a segment. Errors wrap
// block.ErrCorrupt or, for a version that this code does not know,
// block.ErrVersion.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || !bytes.Equal(b[:8], []byte(magic)) {
		return Header{}, corrupt(0, "not a segment")
	}
	be := binary.BigEndian
	if v := be.Uint16(b[8:]); v != Version {
		return Header{}, fmt.Errorf("%w: segment version %d, this program reads %d", block.ErrVersion, v, Version)
	}
	const sumAt = HeaderSize - 8
	if xxhash.Sum64(b[:sumAt]) != be.Uint64(b[sumAt:]) {
		return Header{}, corrupt(0, "header checksum")
	}
	h := Header{
		PageSize:    wal.PageSize(be.Uint32(b[12:])),
		First:       state.TXID(be.Uint64(b[32:])),
		Before:      state.Checksum(be.Uint64(b[40:])),
		PagesBefore: be.Uint32(b[48:]),
		Time:        time.UnixMilli(int64(be.Uint64(b[56:]))).UTC(),
	}
	copy(h.Replica[:], b[16:32])
	var ok bool
	if h.Writer, ok = parseWriterName(b[64:sumAt]); !ok {
		return Header{}, corrupt(0, "header: the writer's name")
	}
	if !h.PageSize.Valid() || h.First == 0 {
		return Header{}, corrupt(0, "header: page size %d, first TXID %d", h.PageSize, h.First)
	}
	return h, nil
}

// Trailer is the end of a segment: what it leads to.
type Trailer struct {
	// Commits is their number and Last the TXID of the last.
	Commits uint64
	Last    state.TXID
	// After and PagesAfter are the state after it, and Time its time.
	After      state.Checksum
	PagesAfter uint32
	Time       time.Time

	index int64
	sum   uint64
}

// Sum is the xxh64 of all bytes of the segment before its place in the trailer.
// It identifies the content: two segments with the same sum and length are
// taken for the same bytes. A Writer's Close and a segment's index give it;
// reading the index does not prove it, reading the records to their end does.
func (t Trailer) Sum() uint64 { return t.sum }

// appendTo leaves out the checksum of the whole and what follows it: only the
// writer, which has hashed all before, can add them.
func (t Trailer) appendTo(b []byte) []byte {
	be, start := binary.BigEndian, len(b)
	b = be.AppendUint64(b, uint64(t.index))
	b = be.AppendUint64(b, t.Commits)
	b = be.AppendUint64(b, uint64(t.Last))
	b = be.AppendUint64(b, uint64(t.After))
	b = be.AppendUint64(b, uint64(t.Time.UnixMilli()))
	b = be.AppendUint32(b, t.PagesAfter)
	return be.AppendUint32(b, uint32(xxhash.Sum64(b[start:])))
}

// parseTrailer decodes the last TrailerSize bytes of a segment whose length is
// size.
func parseTrailer(b []byte, size int64) (Trailer, error) {
	at := size - TrailerSize
	if len(b) != TrailerSize || !bytes.Equal(b[56:], []byte(endMagic)) {
		return Trailer{}, corrupt(at, "no trailer: the segment is cut off")
	}
	be := binary.BigEndian
	if uint32(xxhash.Sum64(b[:44])) != be.Uint32(b[44:]) {
		return Trailer{}, corrupt(at, "trailer checksum")
	}
	t := Trailer{
		index:      int64(be.Uint64(b)),
		Commits:    be.Uint64(b[8:]),
		Last:       state.TXID(be.Uint64(b[16:])),
		After:      state.Checksum(be.Uint64(b[24:])),
		Time:       time.UnixMilli(int64(be.Uint64(b[32:]))).UTC(),
		PagesAfter: be.Uint32(b[40:]),
		sum:        be.Uint64(b[48:]),
	}
	if t.index < HeaderSize || t.index > at || t.Commits == 0 || t.Last == 0 {
		return Trailer{}, corrupt(at, "trailer")
	}
	return t, nil
}

func corrupt(at int64, format string, args ...any) error {
	return &block.Error{Offset: at, Err: fmt.Errorf("%w: "+format, append([]any{block.ErrCorrupt}, args...)...)}
}

func truncated(at int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // io.ReadFull returns them bare
		return corrupt(at, "ends too early: %w", io.ErrUnexpectedEOF)
	}
	return err
}
