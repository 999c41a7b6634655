package segment

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	recordFull = 1 + iota
	recordDelta
	recordCommit
)

const commitRecordSize = 1 + 1 + 8 + 4 + 8

// ErrOrder says that a Writer was used out of its order, which is a bug in the
// caller: closed inside a transaction or without a commit, used after it was
// closed, or given what no Reader would accept.
var ErrOrder = errors.New("segment written out of order")

// Writer encodes a segment in one pass. The order of calls is
//
//	(Full | Delta)* Commit, any number of times, Flush anywhere between, Close
//
// The first error of the underlying writer sticks. Apart from a few bytes for
// each commit and each touched page, memory is one block, raw and encoded, and less
// as long as the segment is small. A Writer is not safe for concurrent use.
type Writer struct {
	w    io.Writer
	hdr  Header
	hash xxhash.Digest
	err  error

	raw    []byte // records of the open block
	out    []byte // one encoded block, reused
	in     []byte // one decoded block of another segment, reused
	stored int64  // bytes given to w

	pages touched
	open  Commit // the transaction being written
	start int64  // raw bytes before it
	total int64  // raw bytes in blocks already written

	last    Trailer
	commits []byte // the commits section
	blocks  []byte // the blocks section
}

// NewWriter begins a segment. The header's Time must be its first commit's.
func NewWriter(w io.Writer, h Header) *Writer {
	s := &Writer{w: w, hdr: h, pages: touched{}}
	s.last = Trailer{Last: h.First - 1, After: h.Before, PagesAfter: h.PagesBefore, Time: h.Time.Truncate(time.Millisecond)}
	s.hash.Reset()
	if !h.PageSize.Valid() || h.First == 0 {
		s.err = fmt.Errorf("%w: header with page size %d, first TXID %d", ErrOrder, h.PageSize, h.First)
	}
	s.write(h.appendTo(make([]byte, 0, HeaderSize)))
	return s
}

// Header is what the segment was begun with.
func (s *Writer) Header() Header { return s.hdr }

// Commits is the number of commits so far, and Last the TXID of the last one.
func (s *Writer) Commits() uint64 { return s.last.Commits }

// Last is the TXID of the last commit so far, First-1 before any.
func (s *Writer) Last() state.TXID { return s.last.Last }

// Stored is the number of bytes written so far; what Flush would write is not
// among them.
func (s *Writer) Stored() int64 { return s.stored }

// Full adds a page's whole image to the open transaction.
func (s *Writer) Full(no wal.PageNo, image []byte) error {
	if err := s.frame(recordFull, no, image); err != nil {
		return err
	}
	s.raw = append(s.raw, image...)
	return nil
}

// Delta adds a page's image as its difference from prev, the page's image
// until now.
func (s *Writer) Delta(no wal.PageNo, image, prev []byte) error {
	if len(prev) != len(image) {
		return fmt.Errorf("%w: page %v of %d bytes over one of %d", ErrOrder, no, len(image), len(prev))
	}
	if err := s.frame(recordDelta, no, image); err != nil {
		return err
	}
	n := len(s.raw)
	s.raw = s.raw[:n+len(image)]
	subtle.XORBytes(s.raw[n:], image, prev)
	return nil
}

// frame makes room for a frame in the block and writes what precedes its
// image.
func (s *Writer) frame(tag byte, no wal.PageNo, image []byte) error {
	if len(image) != int(s.hdr.PageSize) || no == 0 {
		return fmt.Errorf("%w: page %v of %d bytes", ErrOrder, no, len(image))
	}
	s.reserve(1 + binary.MaxVarintLen32 + len(image))
	s.raw = append(s.raw, tag)
	s.raw = binary.AppendUvarint(s.raw, uint64(no))
	s.pages.add(uint32(no))
	s.open.Frames++
	return s.err
}

// reserve ends the block if n more bytes would overfill it. The buffer then
// has room for them without growing. It begins small: thousands of databases
// have a segment open, and most of these stay small.
func (s *Writer) reserve(n int) {
	if len(s.raw) > 0 && len(s.raw)+n > block.MaxRaw {
		_ = s.Flush() // the error sticks
	}
	if need := len(s.raw) + n; need > cap(s.raw) {
		s.raw = slices.Grow(s.raw, max(need, min(4*cap(s.raw), block.MaxRaw))-len(s.raw))
	}
}

// Commit ends the open transaction, which may be empty. TXID, Frames and Bytes
// of c are ignored. Times that go back are lifted to the one before.
func (s *Writer) Commit(c Commit) (state.TXID, error) {
	if s.err != nil {
		return 0, s.err
	}
	if c.Flags&^allFlags != 0 {
		return 0, fmt.Errorf("%w: unknown flags %#x", ErrOrder, c.Flags)
	}
	be := binary.BigEndian
	ms := max(c.Time.UnixMilli(), s.last.Time.UnixMilli())
	s.reserve(commitRecordSize)
	s.raw = append(s.raw, recordCommit, byte(c.Flags))
	s.raw = be.AppendUint64(s.raw, uint64(ms))
	s.raw = be.AppendUint32(s.raw, c.Pages)
	s.raw = be.AppendUint64(s.raw, uint64(c.After))

	end := s.total + int64(len(s.raw))
	s.commits = binary.AppendUvarint(s.commits, uint64(ms-s.last.Time.UnixMilli()))
	s.commits = append(s.commits, byte(c.Flags))
	s.commits = binary.AppendUvarint(s.commits, uint64(c.Pages))
	s.commits = binary.AppendUvarint(s.commits, uint64(s.open.Frames))
	s.commits = binary.AppendUvarint(s.commits, uint64(end-s.start))

	// Pages that the database grew by count as touched even if no frame held
	// them: they may have been there before it shrank, and are zeros now.
	for no := s.last.PagesAfter + 1; no <= c.Pages && no != 0; no++ {
		s.pages.add(no)
	}
	s.last = Trailer{
		Commits: s.last.Commits + 1, Last: s.last.Last + 1,
		After: c.After, PagesAfter: c.Pages, Time: time.UnixMilli(ms).UTC(),
	}
	s.open, s.start = Commit{}, end
	return s.last.Last, s.err
}

// Flush writes the records so far, ending a block early. After it the
// underlying writer has every commit so far.
func (s *Writer) Flush() error {
	if len(s.raw) == 0 || s.err != nil {
		return s.err
	}
	s.out = block.Append(s.out[:0], kindRecords, s.raw)
	s.blocks = binary.AppendUvarint(s.blocks, uint64(len(s.out)))
	s.blocks = binary.AppendUvarint(s.blocks, uint64(len(s.raw)))
	s.total += int64(len(s.raw))
	s.raw = s.raw[:0]
	s.write(s.out)
	return s.err
}

// Close writes the index and the trailer. sum gives the sum, after the last
// commit, of each page that the segment touched. It does not close the
// underlying writer.
func (s *Writer) Close(sum func(wal.PageNo) state.Sum) (Trailer, error) {
	if s.err != nil {
		return Trailer{}, s.err
	}
	if s.open.Frames > 0 || s.last.Commits == 0 {
		return Trailer{}, fmt.Errorf("%w: close with %d commits and %d frames of another", ErrOrder, s.last.Commits, s.open.Frames)
	}
	if err := s.Flush(); err != nil {
		return Trailer{}, err
	}
	s.last.index = s.stored
	s.section(kindCommits, s.commits)
	s.section(kindBlocks, s.blocks)
	s.writePages(sum)
	s.write(s.last.appendTo(nil))
	s.last.sum = s.hash.Sum64()
	s.write(append(binary.BigEndian.AppendUint64(nil, s.last.sum), endMagic...))
	err := s.err
	if err == nil {
		s.err = fmt.Errorf("%w: the segment is closed", ErrOrder)
	}
	return s.last, err
}

// section writes one section of the index in blocks. Entries may span them.
func (s *Writer) section(kind block.Kind, b []byte) {
	for part := range slices.Chunk(b, block.MaxRaw) {
		s.out = block.Append(s.out[:0], kind, part)
		s.write(s.out)
	}
}

func (s *Writer) writePages(sum func(wal.PageNo) state.Sum) {
	prev, b := uint64(0), make([]byte, 0, 4096)
	lock := s.hdr.PageSize.LockPage()
	for _, hi := range slices.Sorted(maps.Keys(s.pages)) {
		for i, word := range s.pages[hi] {
			for ; word != 0; word &= word - 1 {
				no := wal.PageNo(hi<<15 | uint32(i)<<6 | uint32(bits.TrailingZeros64(word)))
				if uint32(no) > s.last.PagesAfter || no == lock {
					continue
				}
				b = binary.AppendUvarint(b, uint64(no)-prev)
				b = binary.BigEndian.AppendUint64(b, uint64(sum(no)))
				prev = uint64(no)
			}
			if len(b) > block.MaxRaw/2 {
				s.section(kindPages, b)
				b = b[:0]
			}
		}
	}
	s.section(kindPages, b)
}

func (s *Writer) write(b []byte) {
	if s.err != nil {
		return
	}
	n, err := s.w.Write(b)
	s.stored += int64(n)
	_, _ = s.hash.Write(b[:n]) // never fails
	if err != nil {
		s.err = fmt.Errorf("write segment: %w", err)
	}
}
