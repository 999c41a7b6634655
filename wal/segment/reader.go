package segment

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Record is one step of a segment: a frame, or the commit that ends a
// transaction.
type Record struct {
	// Commit is set in a record that ends a transaction, and zero (its TXID
	// is 0) in a frame.
	Commit Commit
	// Page is a frame's page number.
	Page wal.PageNo
	// Delta tells that Data is the image XOR the page's previous image; else
	// it is the image.
	Delta bool
	// Data is one page long and valid until the next call of Next.
	Data []byte
}

// Reader decodes a segment from its beginning. Every block is checked before a
// record of it is given; the trailer and the checksum of the whole are checked
// at the end, so who stops after some commit relies on the blocks' checksums
// and on the commit's state checksum. A Reader is not safe for concurrent use.
type Reader struct {
	src    *hashing
	size   int64
	hdr    Header
	blocks *block.Reader
	at     int64 // where the block of rest begins
	rest   []byte
	last   Commit
	open   uint32 // frames of the open transaction
	index  *Index // nil if it is not kept
	unread bool   // blocks are copied, and their records not looked at
	err    error
}

// hashing passes reads on and hashes what they gave.
type hashing struct {
	io.Reader
	sum xxhash.Digest
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	_, _ = h.sum.Write(p[:n]) // never fails
	return n, err
}

// NewReader reads a segment's header from src. size is the segment's length in
// bytes, or -1 for one that was never closed: its records end, with io.EOF, at
// the end of the last whole block.
//
// Errors of the Reader are a *block.Error that wraps block.ErrCorrupt,
// block.ErrVersion, or those of src.
func NewReader(src io.Reader, size int64) (*Reader, error) {
	r := &Reader{src: &hashing{Reader: src}, size: size}
	r.src.sum.Reset()
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r.src, b[:]); err != nil {
		return nil, truncated(0, err)
	}
	h, err := ParseHeader(b[:])
	if err != nil {
		return nil, err
	}
	r.hdr, r.blocks = h, block.NewReader(r.src, HeaderSize)
	r.last = Commit{TXID: h.First - 1, After: h.Before, Pages: h.PagesBefore, Time: h.Time}
	return r, nil
}

// Header is the segment's.
func (r *Reader) Header() Header { return r.hdr }

// Last is the last commit that Next has given. Before any it holds the state
// before the segment, under the TXID before its first.
func (r *Reader) Last() Commit { return r.last }

// KeepIndex makes the Reader keep the segment's index, which else it only
// checks. It must be called before the first call of Next.
func (r *Reader) KeepIndex() {
	r.index = &Index{first: r.hdr.First, firstTime: r.hdr.Time, pageSize: r.hdr.PageSize}
}

// Index is the segment's index if KeepIndex was called. It is whole once Next has
// given io.EOF.
func (r *Reader) Index() *Index { return r.index }

// Next gives the next record. io.EOF says that the segment ended as its trailer
// says. Errors stick.
func (r *Reader) Next() (Record, error) {
	for r.err == nil && len(r.rest) == 0 {
		r.err = r.nextBlock()
	}
	if r.err != nil {
		return Record{}, r.err
	}
	rec, err := r.record()
	r.err = err
	return rec, err
}

func (r *Reader) nextBlock() error {
	r.at = r.blocks.Offset()
	next := r.blocks.Next
	if r.size < 0 {
		next = r.blocks.NextOrEOF
	}
	h, raw, err := next()
	switch {
	case r.size < 0 && (errors.Is(err, block.ErrCorrupt) || err == nil && h.Kind != kindRecords):
		return io.EOF // a torn block, or the index of one that was being closed
	case err != nil:
		return err
	case h.Kind != kindRecords:
		return r.finish(h.Kind, raw)
	}
	r.rest = raw
	return nil
}

func (r *Reader) record() (Record, error) {
	b := r.rest
	switch b[0] {
	case recordFull, recordDelta:
		no, n := binary.Uvarint(b[1:])
		size := int(r.hdr.PageSize)
		if n <= 0 || no == 0 || no > 1<<32-1 || len(b) < 1+n+size {
			return Record{}, corrupt(r.at, "frame record")
		}
		data := b[1+n : 1+n+size : 1+n+size]
		r.rest = b[1+n+size:]
		r.open++
		return Record{Page: wal.PageNo(no), Delta: b[0] == recordDelta, Data: data}, nil
	case recordCommit:
		return r.commit(b)
	default:
		return Record{}, corrupt(r.at, "record of unknown kind %d", b[0])
	}
}

func (r *Reader) commit(b []byte) (Record, error) {
	be := binary.BigEndian
	if len(b) < commitRecordSize || Flags(b[1])&^allFlags != 0 {
		return Record{}, corrupt(r.at, "commit record")
	}
	c := Commit{
		TXID:   r.last.TXID + 1,
		Time:   time.UnixMilli(int64(be.Uint64(b[2:]))).UTC(),
		Flags:  Flags(b[1]),
		Pages:  be.Uint32(b[10:]),
		After:  state.Checksum(be.Uint64(b[14:])),
		Frames: r.open,
	}
	if c.Time.Before(r.last.Time) {
		return Record{}, corrupt(r.at, "commit %v is older than the one before it", c.TXID)
	}
	r.rest, r.open, r.last = b[commitRecordSize:], 0, c
	return Record{Commit: c}, nil
}

// finish reads what follows the records and proves the whole. Of the index one
// block has been read already.
func (r *Reader) finish(kind block.Kind, raw []byte) error {
	if r.open != 0 {
		return corrupt(r.at, "a transaction without its commit")
	}
	for index := r.at; ; {
		if kind < kindCommits || kind > kindPages {
			return corrupt(r.at, "block of kind %#x", kind)
		}
		if r.index != nil {
			s := r.index.section(kind)
			*s = append(*s, raw...)
		}
		if r.blocks.Offset() == r.size-TrailerSize {
			return r.trailer(index)
		}
		h, next, err := r.blocks.Next()
		if err != nil {
			return err
		}
		kind, raw = h.Kind, next
	}
}

func (r *Reader) trailer(index int64) error {
	at := r.size - TrailerSize
	var b [TrailerSize]byte
	if _, err := io.ReadFull(r.src, b[:48]); err != nil {
		return truncated(at, err)
	}
	sum := r.src.sum.Sum64()
	if _, err := io.ReadFull(r.src, b[48:]); err != nil {
		return truncated(at, err)
	}
	t, err := parseTrailer(b[:], r.size)
	if err != nil {
		return err
	}
	if t.sum != sum || t.index != index || !r.unread && !t.ends(r.hdr, r.last) {
		return corrupt(at, "trailer does not match what precedes it")
	}
	if r.index != nil {
		r.index.Trailer = t
	}
	return io.EOF
}

// ends tells whether a commit is the segment's last.
func (t Trailer) ends(h Header, c Commit) bool {
	return t.Last == c.TXID && t.Commits == uint64(c.TXID-h.First+1) &&
		t.After == c.After && t.PagesAfter == c.Pages && t.Time.Equal(c.Time)
}

// Copy adds a record of another segment to the one being written, as it is. A
// commit's TXID must be the one that follows.
func (s *Writer) Copy(rec Record) error {
	if c := rec.Commit; c.TXID != 0 {
		if s.err == nil && c.TXID != s.last.Last+1 {
			return corrupt(0, "commit %v follows %v", c.TXID, s.last.Last)
		}
		_, err := s.Commit(c)
		return err
	}
	tag := byte(recordFull)
	if rec.Delta {
		tag = recordDelta
	}
	if err := s.frame(tag, rec.Page, rec.Data); err != nil {
		return err
	}
	s.raw = append(s.raw, rec.Data...)
	return nil
}
