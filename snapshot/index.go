package snapshot

import (
	"encoding/binary"
	"fmt"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	sumSize       = 8
	sumsPerBlock  = 16384
	entrySize     = 12
	entriesABlock = 8192
)

// BlockInfo is where a page block is and what it holds.
type BlockInfo struct {
	// Offset is where in the object the block begins.
	Offset int64
	// Stored is its length there, block header included; the next page block
	// begins right after it.
	Stored int64
	// First is the number of its first page.
	First wal.PageNo
	// Pages is how many pages it holds, at least one.
	Pages int
}

func appendEntries(b []byte, blocks []BlockInfo) []byte {
	for _, i := range blocks {
		b = binary.BigEndian.AppendUint32(b, uint32(i.Stored))
		b = binary.BigEndian.AppendUint32(b, uint32(i.First))
		b = binary.BigEndian.AppendUint32(b, uint32(i.Pages))
	}
	return b
}

// nextEntries reads the next of the index blocks that describe total page
// blocks, and appends what it holds to blocks.
func nextEntries(r *block.Reader, blocks []BlockInfo, total int) ([]BlockInfo, error) {
	at := r.Offset()
	h, raw, err := r.Next()
	if err != nil {
		return nil, err
	}
	n := min(total-len(blocks), entriesABlock)
	if h.Kind != kindIndex || len(raw) != n*entrySize {
		return nil, &block.Error{Offset: at, Err: fmt.Errorf(
			"%w: block of kind %d with %d bytes for the index of %d blocks", block.ErrCorrupt, h.Kind, len(raw), n)}
	}
	off := int64(HeaderSize)
	if len(blocks) > 0 {
		off = blocks[len(blocks)-1].end()
	}
	for ; len(raw) > 0; raw = raw[entrySize:] {
		i := BlockInfo{
			Offset: off,
			Stored: int64(binary.BigEndian.Uint32(raw)),
			First:  wal.PageNo(binary.BigEndian.Uint32(raw[4:])),
			Pages:  int(binary.BigEndian.Uint32(raw[8:])),
		}
		blocks = append(blocks, i)
		off = i.end()
	}
	return blocks, nil
}

// end is the offset after the block.
func (i BlockInfo) end() int64 { return i.Offset + i.Stored }

// sane reports whether there can be such a block.
func (i BlockInfo) sane(size wal.PageSize) bool {
	return i.Stored > block.HeaderSize && i.Stored <= block.HeaderSize+block.Limit &&
		i.Pages > 0 && i.Pages <= block.Limit/int(size)
}

// checkIndex makes sure that blocks fill the object up to the offset end with
// pages in ascending order; in a full snapshot, with all of them.
func (h Header) checkIndex(blocks []BlockInfo, end int64) error {
	lock := h.PageSize.LockPage()
	next := uint64(1) // the lowest page that may come
	off := int64(HeaderSize)
	for n, i := range blocks {
		first := uint64(i.First)
		if !i.sane(h.PageSize) || first < next || h.Base == 0 && first != next {
			return fmt.Errorf("%w: index entry %d is a block of %d bytes with %d pages from %v, expected page %d",
				block.ErrCorrupt, n, i.Stored, i.Pages, i.First, next)
		}
		next = first + uint64(i.Pages)
		if i.First <= lock && uint64(lock) <= next && uint32(lock) <= h.Pages {
			next++
		}
		off = i.end()
	}
	all := uint64(h.Pages) + 1
	if off != end || next > all || h.Base == 0 && next != all {
		return fmt.Errorf("%w: index goes to page %d of %d and offset %d of %d",
			block.ErrCorrupt, next-1, h.Pages, off, end)
	}
	return nil
}

// appendSums appends the sums of a sum block's payload, which must be the next
// of a database of pages pages.
func (h Header) appendSums(sums []state.Sum, kind block.Kind, raw []byte) ([]state.Sum, error) {
	n := min(int(h.Pages)-len(sums), sumsPerBlock)
	if kind != kindSums || len(raw) != n*sumSize {
		return nil, fmt.Errorf("%w: block of kind %d with %d bytes for the sums of %d pages",
			block.ErrCorrupt, kind, len(raw), n)
	}
	for ; len(raw) > 0; raw = raw[sumSize:] {
		sums = append(sums, state.Sum(binary.BigEndian.Uint64(raw)))
	}
	return sums, nil
}

// newTable makes the table of sums.
func (h Header) newTable(sums []state.Sum) (*state.Table, error) {
	table := state.TableOf(h.PageSize, sums)
	if table.At(h.PageSize.LockPage()) != 0 {
		return nil, fmt.Errorf("%w: the lock-byte page has a page sum", block.ErrCorrupt)
	}
	return table, nil
}
