package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	// tailRead is how much of an object's end Open reads at once. It holds
	// the index of about 1 GiB of pages.
	tailRead = 64 << 10
	// maxBuffer is how much of a section is asked for at once.
	maxBuffer = 8 << 20
)

// Reader reads a snapshot by ranges. It is safe for concurrent use if its
// source is, as an io.ReaderAt has to be.
type Reader struct {
	src     io.ReaderAt
	header  Header
	trailer trailer
	blocks  []BlockInfo
	scratch sync.Pool // of *scratch
}

// scratch is the memory that decoding one block takes.
type scratch struct {
	payload []byte
	runs    []Run
}

// Open reads the header, the trailer and the index of the object of size
// bytes in r. It takes one read of r up to 64 KiB, mostly two above, three for
// some gigabytes. Errors are block.ErrVersion, block.ErrCorrupt with the place
// in a [block.Error], and r's own.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	s := &Reader{}
	if err := s.open(r, size); err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	return s, nil
}

func (r *Reader) open(src io.ReaderAt, size int64) error {
	tail := &tailed{src: src, from: max(0, size-tailRead)}
	tail.bytes = make([]byte, max(0, size-tail.from))
	if err := readFull(src, tail.bytes, tail.from); err != nil {
		return err
	}
	r.src = tail
	head := make([]byte, max(0, min(size, HeaderSize)))
	if err := readFull(r.src, head, 0); err != nil {
		return err
	}
	var err error
	if r.header, err = ReadHeader(head); err != nil {
		return &block.Error{Offset: 0, Err: err}
	}
	end := size - trailerSize
	if end < HeaderSize {
		return &block.Error{Offset: 0, Err: fmt.Errorf("%w: snapshot of %d bytes", block.ErrCorrupt, size)}
	}
	r.trailer, err = parseTrailer(tail.bytes[len(tail.bytes)-trailerSize:], r.header, size)
	if err != nil {
		return &block.Error{Offset: end, Err: err}
	}
	return r.readIndex(end)
}

func (r *Reader) readIndex(end int64) error {
	section := r.section(r.trailer.index, end)
	total := int(r.trailer.blocks)
	var err error
	for len(r.blocks) < total {
		if r.blocks, err = nextEntries(section, r.blocks, total); err != nil {
			return err
		}
	}
	if section.Offset() != end {
		return &block.Error{Offset: section.Offset(), Err: fmt.Errorf("%w: index goes on", block.ErrCorrupt)}
	}
	if err := r.header.checkIndex(r.blocks, r.trailer.sums); err != nil {
		return &block.Error{Offset: r.trailer.index, Err: err}
	}
	return nil
}

// section reads the blocks from one offset to another.
func (r *Reader) section(from, to int64) *block.Reader {
	src := io.NewSectionReader(r.src, from, to-from)
	return block.NewReader(bufio.NewReaderSize(src, int(min(to-from, maxBuffer))), from)
}

// Header says what the snapshot is of.
func (r *Reader) Header() Header { return r.header }

// Checksum is the state checksum that the snapshot records. The trailer's own
// sum covers it; [Reader.Table] proves that it is that of the page sums.
func (r *Reader) Checksum() state.Checksum { return r.trailer.checksum }

// Blocks is the index of the page blocks in ascending order of offsets and
// pages. It must not be changed.
func (r *Reader) Blocks() []BlockInfo { return r.blocks }

// Table reads the page sums of the whole database and checks that they add up
// to the state checksum. Errors are as with [Open].
func (r *Reader) Table() (*state.Table, error) {
	table, err := r.table()
	if err != nil {
		return nil, fmt.Errorf("read page sums: %w", err)
	}
	return table, nil
}

func (r *Reader) table() (*state.Table, error) {
	section := r.section(r.trailer.sums, r.trailer.index)
	sums := make([]state.Sum, 0, r.header.Pages) // the section is long enough for them
	for uint32(len(sums)) < r.header.Pages {
		at := section.Offset()
		h, raw, err := section.Next()
		if err != nil {
			return nil, err
		}
		if sums, err = r.header.appendSums(sums, h.Kind, raw); err != nil {
			return nil, &block.Error{Offset: at, Err: err}
		}
	}
	if section.Offset() != r.trailer.index {
		return nil, &block.Error{Offset: section.Offset(), Err: fmt.Errorf("%w: page sums go on", block.ErrCorrupt)}
	}
	table, err := r.header.newTable(sums)
	if err == nil && table.Checksum() != r.trailer.checksum {
		err = fmt.Errorf("%w: page sums add up to %v, the state checksum is %v",
			block.ErrCorrupt, table.Checksum(), r.trailer.checksum)
	}
	if err != nil {
		return nil, &block.Error{Offset: r.trailer.sums, Err: err}
	}
	return table, nil
}

// DecodeBlocks decodes consecutive page blocks and calls fn for each page in
// ascending order; the page is valid until fn returns, and only before the
// next call. data is the object's bytes from the offset of block number first
// (of [Reader.Blocks]) on and holds all of the last block it holds any of.
// A block is checked before fn sees any of its pages. Calls may run at once.
//
// Errors are fn's own, as it is, or block.ErrCorrupt with the place in a
// [block.Error].
func (r *Reader) DecodeBlocks(first int, data []byte, fn func(no wal.PageNo, page []byte) error) error {
	size := uint32(r.header.PageSize)
	return r.DecodeRuns(first, data, func(no wal.PageNo, images []byte) error {
		run := []Run{{First: no, Pages: uint32(len(images)) / size}} //nolint:gosec // a block's pages
		return r.header.eachPage(run, images, fn)
	})
}

// decode decodes block n, with which data begins, and gives its page images
// (of the pages s.runs) and the rest of data.
func (r *Reader) decode(s *scratch, n int, data []byte) (images, rest []byte, err error) {
	h, payload, rest, err := block.Cut(s.payload, data)
	if err != nil {
		return nil, nil, err
	}
	s.payload = payload
	if h.Kind != kindPages || h.Size() != r.blocks[n].Stored {
		return nil, nil, fmt.Errorf("%w: block of kind %d with %d bytes, the index says %d bytes of pages",
			block.ErrCorrupt, h.Kind, h.Size(), r.blocks[n].Stored)
	}
	runs, images, err := r.header.parseRuns(s.runs, payload)
	if err != nil {
		return nil, nil, err
	}
	s.runs = runs
	end := uint64(r.header.Pages) + 1
	if n+1 < len(r.blocks) {
		end = uint64(r.blocks[n+1].First)
	}
	i := r.blocks[n]
	if runs[0].First != i.First || pageCount(runs) != i.Pages || uint64(runs[len(runs)-1].end()) > end {
		return nil, nil, fmt.Errorf("%w: block holds %v, the index says %d pages from %v, below %d",
			block.ErrCorrupt, runs, i.Pages, i.First, end)
	}
	return images, rest, nil
}

// tailed is a source whose end has been read already.
type tailed struct {
	src   io.ReaderAt
	from  int64
	bytes []byte
}

func (t *tailed) ReadAt(p []byte, off int64) (int, error) {
	if off < t.from {
		return t.src.ReadAt(p, off)
	}
	n := copy(p, t.bytes[min(off-t.from, int64(len(t.bytes))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readFull fills b; a source that ends before is corrupt.
func readFull(src io.ReaderAt, b []byte, off int64) error {
	n, err := src.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return &block.Error{Offset: off + int64(n), Err: fmt.Errorf(
			"%w: truncated: %w", block.ErrCorrupt, io.ErrUnexpectedEOF)}
	default:
		return err
	}
}
