package wal_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"

	"pgregory.net/rapid"

	"tidemark/wal"
)

// tape is a WAL in memory, written as SQLite writes one: appended to,
// overwritten after a rollback, rewritten in place, restarted over its old
// frames. It is an io.ReaderAt of all that was written.
type tape struct {
	b         []byte
	h         wal.Header
	end       wal.Position // where the next frame goes
	committed wal.Position // the end of the last commit
	rng       *rand.PCG    // what pages hold
	// wrote, if set, sees each write instead of b; see wire.
	wrote func(off int, b []byte)
}

// newTape is a WAL with a header and no frames.
func newTape(order wal.ByteOrder, size wal.PageSize) *tape {
	w := &tape{rng: rand.NewPCG(1, 2)}
	w.start(wal.Header{Order: order, PageSize: size, Salts: wal.Salts{Salt1: 0xfffffffe, Salt2: 7}})
	return w
}

// start writes the header of a generation.
func (w *tape) start(h wal.Header) {
	b := h.AppendTo(nil)
	h.Sum = naiveSum(h.Order, wal.Checksum{}, b[:24])
	w.h, w.end = h, h.Start()
	w.committed = w.end
	w.write(0, b)
}

// restart begins the next generation over the frames of this one.
func (w *tape) restart() {
	h := w.h
	h.Sequence++
	h.Salts.Salt1++
	h.Salts.Salt2 = uint32(w.rng.Uint64())
	w.start(h)
}

func (w *tape) write(off int, b []byte) {
	w.b = overlay(w.b, off, b)
	if w.wrote != nil {
		w.wrote(off, b)
	}
}

// overlay writes b into file, which grows if it must.
func overlay(file []byte, off int, b []byte) []byte {
	if n := off + len(b) - len(file); n > 0 {
		file = append(file, make([]byte, n)...)
	}
	copy(file[off:], b)
	return file
}

// image is a page that was never seen before.
func (w *tape) image() []byte {
	b := make([]byte, w.h.PageSize)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], w.rng.Uint64())
	}
	return b
}

// frame writes one frame where the last one ended.
func (w *tape) frame(page wal.PageNo, commit uint32) {
	off := w.offset(w.end.Frame)
	b, end := w.h.AppendFrame(nil, w.end, page, commit, w.image())
	w.end = end
	w.write(off, b)
}

// offset is the place of the frame after n others.
func (w *tape) offset(n uint32) int { return 32 + int(n)*(24+int(w.h.PageSize)) }

// open writes n frames of a transaction that stays open.
func (w *tape) open(n int) {
	for range n {
		w.frame(wal.PageNo(w.rng.Uint64()%1000+1), 0)
	}
}

// commit writes n frames, the last of which commits.
func (w *tape) commit(n int) {
	w.open(n - 1)
	w.frame(wal.PageNo(w.rng.Uint64()%1000+1), 1000+uint32(n))
	w.committed = w.end
}

// rollback forgets the open transaction; its frames stay in the file.
func (w *tape) rollback() { w.end = w.committed }

// rewrite gives the open transaction's k-th frame another image and, as SQLite
// does before such a transaction commits, writes all checksums from there on
// anew.
func (w *tape) rewrite(k uint32) {
	w.write(w.offset(k)+24, w.image())
	pos := w.committed
	for pos.Frame < w.end.Frame {
		off := w.offset(pos.Frame)
		f := w.b[off : off+24+int(w.h.PageSize)]
		b, end := w.h.AppendFrame(nil, pos, wal.PageNo(naiveWord(f)), naiveWord(f[4:]), f[24:])
		if pos.Frame >= k {
			w.write(off, b[:24])
		}
		pos = end
	}
	w.end = pos
}

// reader follows the tape from the beginning of its generation.
func (w *tape) reader() *wal.Reader { return wal.NewReader(w, w.h, w.h.Start()) }

// ReadAt implements io.ReaderAt.
func (w *tape) ReadAt(p []byte, off int64) (int, error) { return readAt(w.b, p, off) }

func readAt(file, p []byte, off int64) (int, error) {
	if off >= int64(len(file)) {
		return 0, io.EOF
	}
	n := copy(p, file[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// source is an io.ReaderAt made of a function.
type source func(p []byte, off int64) (int, error)

// ReadAt implements io.ReaderAt.
func (f source) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// wire is what a reader sees of a tape: writes reach it later, in order, and
// cut anywhere.
type wire struct {
	b     []byte
	queue []chunk
}

type chunk struct {
	off int
	b   []byte
}

func newWire(w *tape) *wire {
	d := &wire{b: append([]byte(nil), w.b...)}
	w.wrote = func(off int, b []byte) { d.queue = append(d.queue, chunk{off, b}) }
	return d
}

// waiting is the number of bytes written that have not landed.
func (d *wire) waiting() int {
	n := 0
	for _, c := range d.queue {
		n += len(c.b)
	}
	return n
}

// land lets the next n bytes reach the reader.
func (d *wire) land(n int) {
	for n > 0 && len(d.queue) > 0 {
		c := &d.queue[0]
		k := min(n, len(c.b))
		d.b = overlay(d.b, c.off, c.b[:k])
		c.off, c.b, n = c.off+k, c.b[k:], n-k
		if len(c.b) == 0 {
			d.queue = d.queue[1:]
		}
	}
}

// ReadAt implements io.ReaderAt.
func (d *wire) ReadAt(p []byte, off int64) (int, error) { return readAt(d.b, p, off) }

// orders and pageSizes are all there are.
func orders() []wal.ByteOrder { return []wal.ByteOrder{wal.LittleEndian, wal.BigEndian} }

func pageSizes() []wal.PageSize {
	return []wal.PageSize{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
}

func drawTape(t *rapid.T) *tape {
	return newTape(rapid.SampledFrom(orders()).Draw(t, "order"), rapid.SampledFrom(pageSizes()[:4]).Draw(t, "page size"))
}
