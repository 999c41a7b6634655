package scan

import (
	"errors"
	"fmt"
	"io"
)

// windowSize is how much of the file is in memory; the longest request, two
// frames of the largest pages, is well below it.
const windowSize = 1 << 20

// window gives pieces of the file. It keeps its first error and gives zeros from
// then on, so that callers look at it once in a while only.
type window struct {
	src  io.ReaderAt
	size int64
	at   int64
	b    []byte
	buf  []byte
	err  error
}

// get gives n bytes at an offset, valid until the next get. They must lie in the
// file.
func (w *window) get(off int64, n int) []byte {
	if off < w.at || off+int64(n) > w.at+int64(len(w.b)) {
		w.fill(off)
	}
	i := int(off - w.at)
	return w.b[i : i+n : i+n]
}

func (w *window) fill(off int64) {
	if w.buf == nil {
		w.buf = make([]byte, min(windowSize, w.size))
	}
	kept := 0
	if w.at <= off && off < w.at+int64(len(w.b)) {
		kept = copy(w.buf, w.b[off-w.at:])
	}
	w.at, w.b = off, w.buf[:min(int64(len(w.buf)), w.size-off)]
	n, err := 0, w.err
	if err == nil {
		n, err = w.src.ReadAt(w.b[kept:], off+int64(kept))
	}
	if kept+n == len(w.b) {
		return
	}
	clear(w.b[kept+n:])
	if w.err != nil {
		return
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	w.err = fmt.Errorf("read WAL at offset %d: %w", off+int64(kept+n), err)
}
