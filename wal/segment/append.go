package segment

import (
	"encoding/binary"
	"fmt"
	"io"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// wholeBlock is the raw length from which on Append copies a block as it is.
// Smaller ones are joined: their headers are a burden then, and what repeats in
// several of them compresses better together.
const wholeBlock = block.MaxRaw / 4

// Append adds all commits of another segment, of which nothing has been read yet,
// and gives its index. Every commit keeps its time, flags and frames. The segment
// must begin with the TXID that follows and the state that was reached.
//
// Records are not looked at: what proves them is the segment's checksum, which is
// checked at its end. Large blocks are not even decoded: segments of 350 KB take
// a twentieth of the time that Copy would take for each record, 3 ms a MB (see
// BenchmarkJoin in package archive).
//
// Errors are those of the Reader, and those of the underlying writer. They stick:
// there is no going on after one.
func (s *Writer) Append(r *Reader) (*Index, error) {
	if s.err == nil {
		s.err = s.append(r)
	}
	return r.index, s.err
}

func (s *Writer) append(r *Reader) error {
	h := r.hdr
	if s.open.Frames > 0 || h.PageSize != s.hdr.PageSize || h.First != s.last.Last+1 || h.Before != s.last.After ||
		h.PagesBefore != s.last.PagesAfter || h.Time.Before(s.last.Time) {
		return fmt.Errorf("%w: append TXID %v on state %v (%d pages) to %v on %v (%d pages)",
			ErrOrder, h.First, h.Before, h.PagesBefore, s.last.Last, s.last.After, s.last.PagesAfter)
	}
	r.KeepIndex()
	r.unread = true
	from := s.total + int64(len(s.raw))
	for {
		err := s.appendBlock(r)
		if err == io.EOF { //nolint:errorlint // bare by contract
			break
		}
		if err != nil {
			return err
		}
	}
	s.start = s.total + int64(len(s.raw))
	return s.appendIndex(r.index, s.start-from)
}

// appendBlock adds the next block of records. io.EOF says that the segment ended
// as its trailer says.
func (s *Writer) appendBlock(r *Reader) error {
	if r.err != nil {
		return r.err
	}
	r.at = r.blocks.Offset()
	h, header, stored, err := r.blocks.NextStored()
	if err != nil {
		return err
	}
	if h.Kind == kindRecords && h.Raw >= wholeBlock {
		if err := s.Flush(); err != nil {
			return err
		}
		s.blocks = binary.AppendUvarint(s.blocks, uint64(h.Size()))
		s.blocks = binary.AppendUvarint(s.blocks, uint64(h.Raw))
		s.total += int64(h.Raw)
		s.write(header)
		s.write(stored)
		return s.err
	}
	// Not into the buffer that Flush encodes into.
	raw, err := block.Decode(s.in, h, header, stored)
	if err != nil {
		return &block.Error{Offset: r.at, Err: err}
	}
	s.in = raw
	if h.Kind != kindRecords {
		r.err = r.finish(h.Kind, raw)
		return r.err
	}
	s.reserve(len(raw))
	s.raw = append(s.raw, raw...)
	return s.err
}

// appendIndex adds the commits of a segment whose records, so many raw bytes, have
// been added.
func (s *Writer) appendIndex(x *Index, raw int64) error {
	shares, err := x.shares()
	if err != nil {
		return err
	}
	if shares.total() != raw {
		return corrupt(x.Trailer.index, "block index of %d raw bytes, the records have %d", shares.total(), raw)
	}
	at := s.last.Time.UnixMilli()
	err = x.each(func(c Commit, raw uint64) {
		s.commits = binary.AppendUvarint(s.commits, uint64(c.Time.UnixMilli()-at))
		s.commits = append(s.commits, byte(c.Flags))
		s.commits = binary.AppendUvarint(s.commits, uint64(c.Pages))
		s.commits = binary.AppendUvarint(s.commits, uint64(c.Frames))
		s.commits = binary.AppendUvarint(s.commits, raw)
		at = c.Time.UnixMilli()
	})
	if err != nil {
		return err
	}
	commits := s.last.Commits
	s.last = x.Trailer
	s.last.Commits += commits
	return x.Pages(func(no wal.PageNo, _ state.Sum) { s.pages.add(uint32(no)) })
}
