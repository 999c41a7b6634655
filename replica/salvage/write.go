package salvage

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// writeChunk is how much is written at a time.
const writeChunk = 1 << 20

// write writes the pages of a plan and gives their state checksum: that of the pages as
// they are in their sources, before the first one is made that of a database without a WAL.
func (w *work) write(ctx context.Context, p *plan, f *os.File) (sum state.Checksum, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("write a candidate: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return 0, fmt.Errorf("write a candidate: %w", err)
	}
	out := bufio.NewWriterSize(f, writeChunk)
	b := make([]byte, p.size)
	for i := range p.from {
		no := wal.PageNo(i + 1)
		if err := w.read(p, no, b); err != nil {
			return 0, err
		}
		if no != p.size.LockPage() {
			sum += state.Checksum(state.SumPage(no, b))
		}
		if no == 1 {
			finishHeader(b, p.count())
		}
		if _, err := out.Write(b); err != nil {
			return 0, fmt.Errorf("write a candidate: %w", err)
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		w.advance(int64(len(b)))
	}
	if err := out.Flush(); err != nil {
		return 0, fmt.Errorf("write a candidate: %w", err)
	}
	return sum, nil
}

// read reads a page of a plan. What is missing is zeros, and so is the lock page.
func (w *work) read(p *plan, no wal.PageNo, b []byte) error {
	switch {
	case no == p.size.LockPage(), p.missing(no):
		clear(b)
		return nil
	case p.from[no-1] != noFrame:
		return w.history.read(int(p.from[no-1]), b)
	default:
		return p.base.read(no, b)
	}
}

// finishHeader makes a first page that of a database without a WAL, and of its true length:
// the frame that said so can be lost. A page that is no header stays as it is.
func finishHeader(b []byte, pages uint32) {
	if string(b[:len(magic)]) != magic {
		return
	}
	for _, version := range []int{18, 19} {
		if b[version] == 2 {
			b[version] = 1
		}
	}
	if be := binary.BigEndian; be.Uint32(b[28:]) != pages {
		be.PutUint32(b[28:], pages)
		copy(b[92:96], b[24:28])
	}
}
