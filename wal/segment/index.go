package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// tailGuess is what ReadIndex reads first: it holds the index of most
// segments.
const tailGuess = 64 << 10

// Index is the end of a segment: everything about it but its pages.
type Index struct {
	// Trailer is the segment's.
	Trailer Trailer

	commits, blocks, pages []byte // the sections' raw bytes
	first                  state.TXID
	firstTime              time.Time
	pageSize               wal.PageSize
}

// ReadIndex reads the index of a segment of the given length with few reads:
// one for the header, one or two for the end. Errors are a *block.Error that
// wraps block.ErrCorrupt, block.ErrVersion, or those of src.
func ReadIndex(src io.ReaderAt, size int64) (Header, *Index, error) {
	if size < HeaderSize+TrailerSize {
		return Header{}, nil, corrupt(0, "%d bytes are too few for a segment", size)
	}
	tail, err := readTail(src, size, min(size, tailGuess))
	if err != nil {
		return Header{}, nil, err
	}
	// The header comes first: of another version nothing else is known.
	head := tail
	if int64(len(tail)) < size {
		head = make([]byte, HeaderSize)
		if err := readFullAt(src, head, 0); err != nil {
			return Header{}, nil, err
		}
	}
	h, err := ParseHeader(head)
	if err != nil {
		return Header{}, nil, err
	}
	t, err := parseTrailer(tail[len(tail)-TrailerSize:], size)
	if err != nil {
		return Header{}, nil, err
	}
	if need := size - t.index; need > int64(len(tail)) {
		if tail, err = readTail(src, size, need); err != nil {
			return Header{}, nil, err
		}
	}
	x, err := parseIndex(h, t, tail[int64(len(tail))-(size-t.index):len(tail)-TrailerSize])
	return h, x, err
}

func readTail(src io.ReaderAt, size, n int64) ([]byte, error) {
	b := make([]byte, n)
	return b, readFullAt(src, b, size-n)
}

func readFullAt(src io.ReaderAt, b []byte, off int64) error {
	n, err := src.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return truncated(off, err)
}

func parseIndex(h Header, t Trailer, b []byte) (*Index, error) {
	x := &Index{Trailer: t, first: h.First, firstTime: h.Time, pageSize: h.PageSize}
	if t.Last-h.First+1 != state.TXID(t.Commits) {
		return nil, corrupt(t.index, "%d commits from %v to %v", t.Commits, h.First, t.Last)
	}
	blocks := block.NewReader(bytes.NewReader(b), t.index)
	for end := t.index + int64(len(b)); blocks.Offset() < end; {
		kind, raw, err := blocks.Next()
		if err != nil {
			return nil, err
		}
		s := x.section(kind.Kind)
		if s == nil {
			return nil, corrupt(blocks.Offset(), "block of kind %#x in the index", kind.Kind)
		}
		*s = append(*s, raw...)
	}
	return x, nil
}

// section is where the blocks of a kind belong, nil if they are not the index's.
func (x *Index) section(kind block.Kind) *[]byte {
	switch kind {
	case kindCommits:
		return &x.commits
	case kindBlocks:
		return &x.blocks
	case kindPages:
		return &x.pages
	default:
		return nil
	}
}

// Commits gives the commits of the segment in order. Their After is not known.
func (x *Index) Commits() ([]Commit, error) {
	var cs []Commit
	err := x.each(func(c Commit, _ uint64) { cs = append(cs, c) })
	if err != nil {
		return nil, err
	}
	return cs, nil
}

// each calls fn for each commit in order, with the raw bytes of its records.
func (x *Index) each(fn func(c Commit, raw uint64)) error {
	shares, err := x.shares()
	if err != nil {
		return err
	}
	r := uvarints{b: x.commits}
	id, at, end, total := x.first, x.firstTime.UnixMilli(), int64(0), shares.total()
	for ; len(r.b) > 0; id++ {
		prev := at
		at += int64(r.next())
		flags := Flags(r.byte())
		pages, frames, raw := r.next(), r.next(), r.next()
		if r.bad || at < prev || flags&^allFlags != 0 || max(pages, frames) > 1<<32-1 || raw > uint64(total-end) {
			return corrupt(x.Trailer.index, "commit index")
		}
		end += int64(raw)
		fn(Commit{
			TXID: id, Time: time.UnixMilli(at).UTC(), Flags: flags,
			Pages: uint32(pages), Frames: uint32(frames), Bytes: shares.between(end-int64(raw), end),
		}, raw)
	}
	if n := uint64(id - x.first); n != x.Trailer.Commits || at != x.Trailer.Time.UnixMilli() || end != total {
		return corrupt(x.Trailer.index, "commit index of %d commits, the trailer has %d", n, x.Trailer.Commits)
	}
	return nil
}

// Pages calls fn for each page that the segment wrote and that is part of the
// database after it, in ascending order, with its sum then.
func (x *Index) Pages(fn func(wal.PageNo, state.Sum)) error {
	no := uint64(0)
	r := uvarints{b: x.pages}
	for len(r.b) > 0 {
		step := r.next()
		sum := r.uint64()
		if r.bad || step == 0 || step > uint64(x.Trailer.PagesAfter)-no || wal.PageNo(no+step) == x.pageSize.LockPage() {
			return corrupt(x.Trailer.index, "page index")
		}
		no += step
		fn(wal.PageNo(no), state.Sum(sum))
	}
	return nil
}

// Apply rolls a table of page sums forward over the segment. Its state must be
// the one before the segment; an error leaves the table in between, and says so
// if the result is not the state that the trailer records.
func (x *Index) Apply(h Header, t *state.Table) error {
	if t.Checksum() != h.Before || t.Len() != h.PagesBefore {
		return fmt.Errorf("page sums of state %v (%d pages), the segment follows %v (%d pages)",
			t.Checksum(), t.Len(), h.Before, h.PagesBefore)
	}
	if err := x.Pages(t.Set); err != nil {
		return err
	}
	t.Resize(x.Trailer.PagesAfter)
	if t.Checksum() != x.Trailer.After {
		return corrupt(x.Trailer.index, "page sums give state %v, the trailer has %v", t.Checksum(), x.Trailer.After)
	}
	return nil
}

// shares maps raw bytes of records to stored bytes, block by block.
type shares []struct{ rawEnd, raw, stored int64 }

func (x *Index) shares() (shares, error) {
	var s shares
	end := int64(0)
	r := uvarints{b: x.blocks}
	for len(r.b) > 0 {
		stored, raw := int64(r.next()), int64(r.next())
		if r.bad || raw <= 0 || raw > block.Limit || stored <= 0 || stored > block.Limit+block.HeaderSize {
			return nil, corrupt(x.Trailer.index, "block index")
		}
		end += raw
		s = append(s, struct{ rawEnd, raw, stored int64 }{end, raw, stored})
	}
	return s, nil
}

// total is the raw length of all blocks.
func (s *shares) total() int64 {
	if len(*s) == 0 {
		return 0
	}
	return (*s)[len(*s)-1].rawEnd
}

// between is the share of the stored bytes that raw bytes [from, to) have. It
// drops the blocks before from: calls must ascend.
func (s *shares) between(from, to int64) int64 {
	sum := 0.0
	for len(*s) > 0 {
		b := (*s)[0]
		lo, hi := max(from, b.rawEnd-b.raw), min(to, b.rawEnd)
		if hi > lo {
			sum += float64(b.stored) * float64(hi-lo) / float64(b.raw)
		}
		if b.rawEnd > to {
			break
		}
		*s = (*s)[1:]
	}
	return int64(sum + 0.5)
}

// uvarints reads a section; bad sticks.
type uvarints struct {
	b   []byte
	bad bool
}

func (r *uvarints) next() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *uvarints) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *uvarints) uint64() uint64 {
	if len(r.b) < 8 {
		r.bad, r.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}
