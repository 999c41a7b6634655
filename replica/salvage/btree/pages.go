package btree

import (
	"errors"
	"fmt"
	"io"

	"tidemark/wal"
)

// ErrLost says that a page is not to be had.
var ErrLost = errors.New("page is lost")

// ErrSize says that a page size is none that SQLite has.
var ErrSize = errors.New("not a page size of SQLite: a power of two from 512 to 65536")

// Pages are the pages of a database, of which some may be lost.
type Pages interface {
	// PageSize is the size of each page in bytes, as [wal.PageSize.Valid] has it.
	PageSize() wal.PageSize
	// Count is the number of the last page. Pages past it do not exist. A reader
	// takes eleven bytes of memory for each, so it must come from what is there,
	// such as a file's size, and not from a field that may be damaged.
	Count() wal.PageNo
	// Page gives a page from 1 to Count. The slice is the source's and must be left
	// as it is until the next call. An error that is [ErrLost] costs the page;
	// any other error ends the reading.
	Page(no wal.PageNo) ([]byte, error)
}

// fromReader reads pages from where they lie in a database file.
type fromReader struct {
	r     io.ReaderAt
	size  wal.PageSize
	count wal.PageNo
	buf   []byte
}

// FromReader makes pages from a database file of so many bytes. A last page that is
// cut off is filled with zeros. A page that fails to be read is lost.
func FromReader(r io.ReaderAt, bytes int64, size wal.PageSize) (Pages, error) {
	if !size.Valid() {
		return nil, fmt.Errorf("page size %d: %w", size, ErrSize)
	}
	count := (bytes + int64(size) - 1) / int64(size)
	count = max(0, min(count, maxPage))
	return &fromReader{r: r, size: size, count: wal.PageNo(count), buf: make([]byte, size)}, nil
}

// maxPage is the highest page number (fileformat2, section 1.2).
const maxPage = 0xfffffffe

func (p *fromReader) PageSize() wal.PageSize { return p.size }
func (p *fromReader) Count() wal.PageNo      { return p.count }

func (p *fromReader) Page(no wal.PageNo) ([]byte, error) {
	if no == 0 || no > p.count {
		return nil, ErrLost
	}
	n, err := p.r.ReadAt(p.buf, p.size.Offset(no))
	if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
		return nil, fmt.Errorf("%w: read page %d: %w", ErrLost, no, err)
	}
	clear(p.buf[n:])
	return p.buf, nil
}
