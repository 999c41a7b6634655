package check

import (
	"errors"
	"fmt"
	"io"
	"os"

	"tidemark/wal"
)

// view is one committed state of a database. It is read through descriptors that
// it does not own, and is safe for concurrent use.
type view struct {
	size  wal.PageSize
	pages uint32
	// db has the pages that are not in over, and fileSize bytes of them.
	db       io.ReaderAt
	fileSize int64
	// over has those at the offsets of at: newer ones.
	over io.ReaderAt
	at   map[wal.PageNo]int64
}

// length is how long a database file with this state is.
func (v *view) length() int64 { return int64(v.pages) * int64(v.size) }

// missing is how many pages of the state are nowhere.
func (v *view) missing() (n uint32) {
	for no := wal.PageNo(v.fileSize/int64(v.size)) + 1; no <= wal.PageNo(v.pages); no++ {
		if _, ok := v.at[no]; !ok && no != v.size.LockPage() {
			n++
		}
	}
	return n
}

// ReadAt implements [io.ReaderAt] for the file that the state would be in: without a
// WAL, and marked so in its header.
func (v *view) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = v.readInPage(b[n:], off+int64(n))
		n += m
	}
	return n, err
}

// The bytes of the header that say how the file is journalled (fileformat2, section
// 1.3.3), and what they are for a rollback journal.
const (
	writeVersionAt, readVersionAt = 18, 19
	rollbackVersion, walVersion   = 1, 2
)

// readInPage reads up to the end of a page.
func (v *view) readInPage(b []byte, off int64) (int, error) {
	n, err := v.readStored(b, off)
	for _, at := range []int64{writeVersionAt, readVersionAt} {
		if at >= off && at < off+int64(n) {
			b[at-off] = rollbackVersion
		}
	}
	return n, err
}

// readPages reads consecutive pages from first on, as they are stored.
func (v *view) readPages(b []byte, first wal.PageNo) error {
	off := v.size.Offset(first)
	for n := 0; n < len(b); {
		m, err := v.readStored(b[n:], off+int64(n))
		if err != nil {
			return err
		}
		n += m
	}
	return nil
}

// readStored reads up to the end of a page, as it is stored.
func (v *view) readStored(b []byte, off int64) (int, error) {
	if off >= v.length() {
		return 0, io.EOF
	}
	no, in := wal.PageNo(off/int64(v.size))+1, off%int64(v.size)
	b = b[:min(int64(len(b)), int64(v.size)-in)]
	src, from := v.db, off
	if at, ok := v.at[no]; ok {
		src, from = v.over, at+in
	}
	n, err := src.ReadAt(b, from)
	if n < len(b) && errors.Is(err, io.EOF) {
		clear(b[n:]) // SQLite gets zeros, too, where a file is too short
		n, err = len(b), nil
	}
	if n < len(b) {
		return n, fmt.Errorf("read page %v: %w", no, err)
	}
	return n, nil
}

// pageMap notes where the newest images of pages lie in a WAL.
type pageMap map[wal.PageNo]int64

// frames takes what a reader of the WAL finds up to its end, and gives the length of
// the database after it, or pages if there is nothing.
func (m pageMap) frames(r *wal.Reader, pages uint32) (uint32, error) {
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return pages, err
		}
		n := c.Start.Frame
		for f, err := range r.Frames() {
			if err != nil {
				return pages, err
			}
			n++
			m[f.Page] = r.Header().Offset(n) + wal.FrameHeaderSize
		}
		pages = c.Pages
	}
}

// readWALHeader reads the header of a WAL that may not be there, or be empty: then
// ok is false. One that is no header is [wal.ErrHeader].
func readWALHeader(f *os.File) (h wal.Header, ok bool, err error) {
	if f == nil {
		return wal.Header{}, false, nil
	}
	h, err = wal.ReadHeader(f)
	if errors.Is(err, io.EOF) {
		return wal.Header{}, false, nil
	}
	return h, err == nil, err
}
