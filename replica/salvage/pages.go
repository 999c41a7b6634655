package salvage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// pages is a file of database pages: the database, or a state of the replica.
type pages struct {
	src   io.ReaderAt
	size  wal.PageSize
	count uint32
	// length is the number of pages that count, if the header says that not all do; else 0.
	length uint32
	// cut tells that the file ends inside its last page, of which the rest is zeros.
	cut bool
	// unreadable are pages that the system could not read, wholly or in part.
	unreadable map[wal.PageNo]bool
	// sums are the pages' sums, in order.
	sums []state.Sum
	// checksum is that of the whole.
	checksum state.Checksum
}

// newPages sums up the pages of a file.
func newPages(ctx context.Context, src io.ReaderAt, bytes int64, size wal.PageSize) (*pages, error) {
	n := (bytes + int64(size) - 1) / int64(size)
	p := &pages{src: src, size: size, count: uint32(min(n, maxPages)), cut: bytes%int64(size) != 0}
	p.sums = make([]state.Sum, p.count)
	b := make([]byte, size)
	for i := range p.sums {
		no := wal.PageNo(i + 1)
		if no == size.LockPage() {
			continue
		}
		if err := p.read(no, b); err != nil {
			return nil, err
		}
		p.sums[i] = state.SumPage(no, b)
		p.checksum += state.Checksum(p.sums[i])
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return p, nil
}

// maxPages is the greatest number of pages that a database has.
const maxPages = 1<<32 - 2

// at is the sum of a page, 0 for one that it has not.
func (p *pages) at(no wal.PageNo) state.Sum {
	if p == nil || no == 0 || uint32(no) > p.count {
		return 0
	}
	return p.sums[no-1]
}

// has tells whether it has a page.
func (p *pages) has(no wal.PageNo) bool {
	return p != nil && no != 0 && uint32(no) <= p.count && !p.unreadable[no]
}

// len is the number of pages of the database by itself.
func (p *pages) len() uint32 { return cmp.Or(p.length, p.count) }

// equals tells whether another file has the same pages.
func (p *pages) equals(other *pages) bool {
	return other != nil && p.checksum == other.checksum && p.count == other.count
}

// isCut tells whether the file ends inside a page.
func (p *pages) isCut(no wal.PageNo) bool { return p != nil && p.cut && uint32(no) == p.count }

// without marks the pages that lie in parts of a file that could not be read.
func (p *pages) without(parts []span) {
	p.unreadable = map[wal.PageNo]bool{}
	for _, s := range parts {
		for no := s.from / int64(p.size); no*int64(p.size) < s.to; no++ {
			p.unreadable[wal.PageNo(no+1)] = true
		}
	}
}

// blank tells whether nothing is there of a page: it lies past the end, or the end cuts it, or it
// is zeros.
func (p *pages) blank(no wal.PageNo) bool {
	if !p.has(no) || p.isCut(no) {
		return true
	}
	return p.at(no) == state.SumPage(no, make([]byte, p.size))
}

// read reads a page; what the file lacks of the last one is zeros.
func (p *pages) read(no wal.PageNo, b []byte) error {
	n, err := p.src.ReadAt(b, p.size.Offset(no))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read page %v: %w", no, err)
	}
	clear(b[n:])
	return nil
}

// looksLikeTree tells whether a page can be one of a b-tree (fileformat2, section 1.6).
func looksLikeTree(no wal.PageNo, b []byte) bool {
	at := 0
	if no == 1 {
		at = databaseHeaderSize
	}
	h := b[at:]
	be16 := func(i int) int { return int(h[i])<<8 | int(h[i+1]) }
	head := 8
	switch h[0] {
	case 2, 5:
		head = 12
	case 10, 13:
	default:
		return false
	}
	cells, content := be16(3), be16(5)
	if content == 0 {
		content = 65536
	}
	return h[7] <= 60 && be16(1) < len(b) && at+head+2*cells <= content && content <= len(b)
}

// guessPageSize is the page size at which most of a file is b-trees of which every byte
// is accounted for; or if there are none, at which most of it looks like b-trees; 0 if
// none does.
func guessPageSize(src io.ReaderAt, bytes int64) wal.PageSize {
	if size := mostPages(src, bytes, accounts); size != 0 {
		return size
	}
	return mostPages(src, bytes, looksLikeTree)
}

// mostPages is the page size at which most of a file are pages of a kind.
func mostPages(src io.ReaderAt, bytes int64, is func(wal.PageNo, []byte) bool) (best wal.PageSize) {
	most := int64(0)
	for size := wal.MinPageSize; size <= wal.MaxPageSize; size *= 2 {
		// Every page of a larger size begins where one of a smaller size does, so a share
		// of the bytes is compared, not of the pages.
		if n := int64(countPages(src, bytes, size, is)) * int64(size); n > most {
			most, best = n, size
		}
	}
	return best
}

// countPages counts the pages of a kind, of the first ones.
func countPages(src io.ReaderAt, bytes int64, size wal.PageSize, is func(wal.PageNo, []byte) bool) (n int) {
	const window = 16 << 20
	p := pages{src: src, size: size}
	b := make([]byte, size)
	for no := wal.PageNo(1); size.Offset(no)+int64(size) <= min(bytes, window); no++ {
		if p.read(no, b) != nil {
			return n
		}
		if is(no, b) {
			n++
		}
	}
	return n
}
