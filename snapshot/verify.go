package snapshot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Verify reads a whole object from r and checks everything there is to check:
// all that [Open], [Reader.DecodeBlocks] and [Reader.Table] check, every page
// against its page sum, the xxh64 of the whole, and that nothing follows. It
// gives the header and the state checksum. It takes 20 bytes of memory for
// each page of the database. Errors are as with [Open].
func Verify(r io.Reader) (Header, state.Checksum, error) {
	v := &verifier{src: bufio.NewReaderSize(r, block.MaxRaw)}
	v.sum.Reset()
	if err := v.run(); err != nil {
		return Header{}, 0, fmt.Errorf("verify snapshot: %w", err)
	}
	return v.header, v.table.Checksum(), nil
}

// verifier reads an object front to back and works out for itself what the
// trailer has to say.
type verifier struct {
	src    *bufio.Reader
	sum    xxhash.Digest
	header Header
	reader *block.Reader

	blocks []BlockInfo // page blocks as found
	pages  []wal.PageNo
	found  []state.Sum // the sums of pages
	runs   []Run
	table  *state.Table // page sums as they stand in the object
}

func (v *verifier) run() error {
	b, err := v.fixed(HeaderSize, 0)
	if err != nil {
		return err
	}
	if v.header, err = ReadHeader(b); err != nil {
		return &block.Error{Offset: 0, Err: err}
	}
	_, _ = v.sum.Write(b) // never fails
	v.reader = block.NewReader(io.TeeReader(v.src, &v.sum), HeaderSize)
	want := trailer{sums: HeaderSize, index: HeaderSize}
	if v.table, err = v.header.newTable(nil); err != nil {
		return err
	}
	if v.header.Pages > 0 { // or there are no blocks at all
		if want.sums, err = v.body(); err != nil {
			return err
		}
		want.index = v.reader.Offset()
		if err := v.index(want); err != nil {
			return err
		}
	}
	want.blocks, want.checksum = uint32(len(v.blocks)), v.table.Checksum()
	return v.end(want)
}

// body reads the page blocks and the sum blocks, of which there is at least
// one, and gives the offset of the latter.
func (v *verifier) body() (int64, error) {
	at := v.reader.Offset()
	h, raw, err := v.reader.Next()
	for err == nil && h.Kind == kindPages {
		if err := v.pageBlock(BlockInfo{Offset: at, Stored: h.Size()}, raw); err != nil {
			return 0, &block.Error{Offset: at, Err: err}
		}
		at = v.reader.Offset()
		h, raw, err = v.reader.Next()
	}
	sumsAt := at
	var sums []state.Sum
	for err == nil {
		if sums, err = v.header.appendSums(sums, h.Kind, raw); err != nil {
			return 0, &block.Error{Offset: at, Err: err}
		}
		if len(sums) == int(v.header.Pages) {
			break
		}
		at = v.reader.Offset()
		h, raw, err = v.reader.Next()
	}
	if err != nil {
		return 0, err
	}
	if err := v.compare(sums); err != nil {
		return 0, &block.Error{Offset: sumsAt, Err: err}
	}
	return sumsAt, nil
}

func (v *verifier) pageBlock(i BlockInfo, payload []byte) error {
	runs, images, err := v.header.parseRuns(v.runs, payload)
	if err != nil {
		return err
	}
	v.runs = runs
	i.First, i.Pages = runs[0].First, pageCount(runs)
	if n := len(v.pages); n > 0 && v.pages[n-1] >= i.First {
		return fmt.Errorf("%w: page %v after page %v", block.ErrCorrupt, i.First, v.pages[n-1])
	}
	v.blocks = append(v.blocks, i)
	return v.header.eachPage(runs, images, func(no wal.PageNo, page []byte) error {
		v.pages = append(v.pages, no)
		v.found = append(v.found, state.SumPage(no, page))
		return nil
	})
}

// compare checks the pages found against the page sums.
func (v *verifier) compare(sums []state.Sum) error {
	var err error
	if v.table, err = v.header.newTable(sums); err != nil {
		return err
	}
	for i, no := range v.pages {
		if v.table.At(no) != v.found[i] {
			return fmt.Errorf("%w: page %v does not match its page sum", block.ErrCorrupt, no)
		}
	}
	return nil
}

// index checks the index against the blocks found.
func (v *verifier) index(want trailer) error {
	if err := v.header.checkIndex(v.blocks, want.sums); err != nil {
		return &block.Error{Offset: want.sums, Err: err}
	}
	var listed []BlockInfo
	var err error
	for len(listed) < len(v.blocks) {
		if listed, err = nextEntries(v.reader, listed, len(v.blocks)); err != nil {
			return err
		}
	}
	if !slices.Equal(listed, v.blocks) {
		return &block.Error{Offset: want.index, Err: fmt.Errorf(
			"%w: index does not match the blocks", block.ErrCorrupt)}
	}
	return nil
}

// end reads the trailer, which must be the one that is wanted, and the end of
// the object.
func (v *verifier) end(want trailer) error {
	at := v.reader.Offset()
	b, err := v.fixed(trailerSize, at)
	if err != nil {
		return err
	}
	_, _ = v.sum.Write(want.appendFields(nil)) // never fails
	want.object = v.sum.Sum64()
	if !bytes.Equal(b, want.append(nil)) {
		return &block.Error{Offset: at, Err: fmt.Errorf(
			"%w: trailer does not match what stands before it", block.ErrCorrupt)}
	}
	at += trailerSize
	b, err = v.fixed(1, at)
	if err == nil && len(b) > 0 {
		err = &block.Error{Offset: at, Err: fmt.Errorf("%w: bytes after the trailer", block.ErrCorrupt)}
	}
	return err
}

// fixed reads up to n bytes, fewer only at the end of the source: what is
// missing is found by whoever reads them. (A header of another version may be
// shorter.) An EOF that the source wrapped is its failure, not its end.
func (v *verifier) fixed(n int, at int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(v.src, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, &block.Error{Offset: at, Err: err}
	}
	return b[:got], nil
}
