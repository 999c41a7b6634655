package source

import (
	"errors"
	"fmt"
	"io"

	"tidemark/wal"
)

// Image reads a database's pages as they stood at one position of its WAL: the
// last frame of a page up to there, and the database file for all others.
//
// That is right whatever a checkpoint does meanwhile: the pin keeps frames
// after the position out of the file, and the frames before it are read from
// the WAL, whether or not they are in the file. Only if all of them were in the
// file when the pin was taken are they read from there: then the WAL may restart
// over them. It holds until the pin that was taken with it is handed off. An
// Image is safe for concurrent use.
type Image struct {
	db, wal io.ReaderAt
	header  wal.Header
	size    wal.PageSize
	pages   uint32
	frames  map[wal.PageNo]uint32
}

// Complete reports, as ErrDamaged, that neither the file nor the WAL holds the
// database's last page: it was cut off.
func (m *Image) Complete(fileSize int64) error {
	if _, ok := m.frames[wal.PageNo(m.pages)]; ok || m.size.Offset(wal.PageNo(m.pages)+1) <= fileSize {
		return nil
	}
	return fmt.Errorf("%w: it should have %d pages of %d bytes, the file has %d bytes", ErrDamaged, m.pages, m.size, fileSize)
}

// Through gives the image with another way to read the database file, such as a
// [Sweep].
func (m *Image) Through(db io.ReaderAt) *Image {
	through := *m
	through.db = db
	return &through
}

// PageSize is the size of the pages.
func (m *Image) PageSize() wal.PageSize { return m.size }

// Pages is the number of pages.
func (m *Image) Pages() uint32 { return m.pages }

// ReadPages fills buf with consecutive pages. A page that the file does not
// reach is zeros, as SQLite reads it.
func (m *Image) ReadPages(first wal.PageNo, buf []byte) error {
	n, err := m.db.ReadAt(buf, m.size.Offset(first))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read database pages from %v: %w", first, err)
	}
	clear(buf[n:])
	for i := 0; i < len(buf); i += int(m.size) {
		no := first + wal.PageNo(i/int(m.size))
		frame, ok := m.frames[no]
		if !ok {
			continue
		}
		page := buf[i : i+int(m.size)]
		if n, err := m.wal.ReadAt(page, m.header.Offset(frame)+wal.FrameHeaderSize); n < len(page) {
			return fmt.Errorf("read page %v in WAL frame %d: %w", no, frame, err)
		}
	}
	return nil
}
