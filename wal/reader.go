package wal

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
)

// Sizes of the reader's window on the file. It grows while commits keep
// coming and shrinks when the end is reached, so that a wake-up for one small
// commit reads little.
const (
	minWindow = 64 << 10
	maxWindow = 1 << 20
	// rescanFree is the length of an open transaction, in bytes, up to which
	// every Next scans it from its beginning.
	rescanFree = 4 << 20
	// maxPatience is the longest run of fruitless Nexts before a longer open
	// transaction is scanned from its beginning again.
	maxPatience = 16
)

// Frame is one page image of a commit.
type Frame struct {
	// Page is the page's number.
	Page PageNo
	// Image is the page, valid until the iteration goes on.
	Image []byte
}

// Commit is a transaction that the WAL holds whole.
type Commit struct {
	// Start and End are the positions before its first frame and after its
	// last.
	Start, End Position
	// Pages is the database's length after it.
	Pages uint32
}

// Frames is the number of frames of the commit. A page can be among them more
// than once; the last image counts.
func (c Commit) Frames() uint32 { return c.End.Frame - c.Start.Frame }

// Reader follows the commits of one WAL generation while SQLite writes it. It
// keeps one window of the file in memory, whatever a transaction's length: a
// long one is scanned to find its commit and then read again to give its
// frames.
//
// A Reader is not safe for concurrent use. It never gives a frame that is not
// part of a whole transaction, and it cannot tell that the WAL was restarted:
// to it a generation simply ends. Whoever owns it compares [ReadHeader] with
// [Reader.Header].
type Reader struct {
	src io.ReaderAt
	hdr Header
	// last is the commit that Next gave last; its End is where it resumes.
	last Commit
	// scan is how far the chain has been followed past last.End, inside a
	// transaction that had not committed when it was read.
	scan     Position
	misses   int
	patience int
	limit    uint32

	window []byte
	buf    []byte
	at     int64 // the window's place in the file
	want   int
}

// NewReader gives a reader that resumes at a position of the header's
// generation, which must be the end of a commit or the generation's start.
// Nothing is read before Next.
func NewReader(src io.ReaderAt, h Header, from Position) *Reader {
	return &Reader{src: src, hdr: h, last: Commit{Start: from, End: from}, scan: from, patience: 1, limit: math.MaxUint32, want: minWindow}
}

// Header is that of the generation which the reader follows.
func (r *Reader) Header() Header { return r.hdr }

// SetLimit tells how many of the generation's frames count. Next gives no commit
// past them, whatever the file holds. The wal-index knows their number (mxFrame):
// a writer publishes a commit there after it has written its last frame to the
// WAL, and if it dies in between, the next one writes over it. Without a limit
// the reader takes what recovery would.
func (r *Reader) SetLimit(frames uint32) { r.limit = frames }

// Position is the end of the last commit that Next gave.
func (r *Reader) Position() Position { return r.last.End }

// Next finds the next commit. io.EOF says that the WAL holds no further whole
// transaction now; a later call looks again. Other errors are the source's.
func (r *Reader) Next() (Commit, error) {
	if r.scan.Frame-r.last.End.Frame <= uint32(rescanFree/r.hdr.frameSize()) {
		r.scan = r.last.End
	}
	// The end may lie in bytes that an earlier call read and that SQLite has
	// since written over, or behind a transaction that is no longer there.
	old, resumed := len(r.window) > 0, r.scan != r.last.End
	c, err := r.find()
	if errors.Is(err, io.EOF) && (old || resumed && r.impatient()) {
		r.Rewind()
		c, err = r.find()
	}
	if err != nil {
		r.window = nil // what was read may have been torn
		r.want = minWindow
		return Commit{}, err
	}
	r.last, r.scan = c, c.End
	r.misses, r.patience = 0, 1
	return c, nil
}

// Rewind makes the next Next scan an open transaction from its beginning. Who
// holds the write lock calls it: then there is none, and what follows the last
// commit is either committed or left over.
func (r *Reader) Rewind() { r.scan, r.window = r.last.End, nil }

// Release gives the window's memory back, for a time in which nothing is to be
// read. The next Next takes it again.
func (r *Reader) Release() { r.scan, r.window, r.buf, r.want = r.last.End, nil, nil, minWindow }

// impatient decides, when nothing continues a long open transaction, whether
// to look at all of it again. Its frames can have been rewritten, or rolled
// back and replaced by a shorter commit, which no look at its end can show.
// Doubling the wait keeps the cost of looking in proportion.
func (r *Reader) impatient() bool {
	r.misses++
	if r.misses < r.patience {
		return false
	}
	r.misses, r.patience = 0, min(2*r.patience, maxPatience)
	return true
}

// find follows the chain from r.scan to a frame that commits.
func (r *Reader) find() (Commit, error) {
	for {
		if r.scan.Frame >= r.limit {
			return Commit{}, io.EOF
		}
		f, err := r.frame(r.scan.Frame + 1)
		if err != nil {
			return Commit{}, err
		}
		h, end, ok := r.follow(r.scan, f)
		if !ok {
			return Commit{}, io.EOF
		}
		r.scan = end
		if h.Commit != 0 {
			return Commit{Start: r.last.End, End: end, Pages: h.Commit}, nil
		}
	}
}

// follow checks one frame against the position before it.
func (r *Reader) follow(from Position, f []byte) (FrameHeader, Position, bool) {
	h := ParseFrameHeader(f)
	if h.Salts != r.hdr.Salts || h.Page == 0 {
		return h, from, false
	}
	sum := from.Sum.Extend(r.hdr.Order, f[:8]).Extend(r.hdr.Order, f[FrameHeaderSize:])
	if sum != h.Sum {
		return h, from, false
	}
	return h, Position{Salts: h.Salts, Frame: from.Frame + 1, Sum: sum}, true
}

// ErrChanged says that the frames of a commit are no longer what they were
// when it was found. A read transaction that pins the WAL rules it out.
var ErrChanged = errors.New("WAL frames of a commit changed under the reader")

// Frames gives the frames of the last commit that Next found, in order. A
// commit that did not fit into the window is read again, and its chain checked
// again. The iteration ends after its first error: the source's, or ErrChanged.
func (r *Reader) Frames() iter.Seq2[Frame, error] {
	// Not r.frames itself: the compiler sees through a function literal, and so a
	// range over Frames allocates nothing.
	return func(yield func(Frame, error) bool) { r.frames(yield) }
}

func (r *Reader) frames(yield func(Frame, error) bool) {
	first, end := r.hdr.Offset(r.last.Start.Frame+1), r.hdr.Offset(r.last.End.Frame+1)
	if first >= r.at && end <= r.at+int64(len(r.window)) {
		r.framesOf(r.window[first-r.at:end-r.at], yield)
		return
	}
	r.framesAgain(yield)
}

// framesOf gives frames out of bytes that find has checked.
func (r *Reader) framesOf(b []byte, yield func(Frame, error) bool) {
	for size := int(r.hdr.frameSize()); len(b) > 0; b = b[size:] {
		f := Frame{Page: ParseFrameHeader(b).Page, Image: b[FrameHeaderSize:size:size]}
		if !yield(f, nil) {
			return
		}
	}
}

func (r *Reader) framesAgain(yield func(Frame, error) bool) {
	pos := r.last.Start
	defer func() {
		if pos != r.last.End {
			r.window = nil // not all of it was checked
		}
	}()
	for pos.Frame < r.last.End.Frame {
		f, err := r.frame(pos.Frame + 1)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: frame %d is gone", ErrChanged, pos.Frame+1)
		}
		if err != nil {
			yield(Frame{}, err)
			return
		}
		h, end, ok := r.follow(pos, f)
		if !ok {
			yield(Frame{}, fmt.Errorf("%w: frame %d", ErrChanged, pos.Frame+1))
			return
		}
		pos = end
		if !yield(Frame{Page: h.Page, Image: f[FrameHeaderSize:]}, nil) {
			return
		}
	}
	if pos != r.last.End {
		yield(Frame{}, fmt.Errorf("%w: chain ends elsewhere", ErrChanged))
	}
}

// frame gives a frame's bytes out of the window, which it moves if it must.
// io.EOF says that the file does not hold the whole frame.
func (r *Reader) frame(n uint32) ([]byte, error) {
	size := r.hdr.frameSize()
	off := r.hdr.Offset(n)
	if off < r.at || off+size > r.at+int64(len(r.window)) {
		if err := r.fill(off); err != nil {
			return nil, err
		}
	}
	i := off - r.at
	return r.window[i : i+size : i+size], nil
}

// fill reads a window that holds the frame at off. If the open transaction's
// start is near, the window keeps its frames, so that they need no second read.
// They are kept and not read anew because they have been checked: SQLite, or a
// failing disk, could give others now.
func (r *Reader) fill(off int64) error {
	size := r.hdr.frameSize()
	want := max(int64(r.want), 4*size)
	start, kept := off, []byte(nil)
	first := r.hdr.Offset(r.last.End.Frame + 1)
	if r.at <= first && first < off && off <= r.at+int64(len(r.window)) && off-first <= want/2 {
		start, kept = first, r.window[first-r.at:off-r.at]
	}
	if int64(cap(r.buf)) < want {
		r.buf = make([]byte, want)
	}
	n := copy(r.buf, kept)
	m, err := r.src.ReadAt(r.buf[n:want], off)
	n += m
	r.window, r.at = r.buf[:n], start
	if err != nil && !errors.Is(err, io.EOF) {
		r.window = nil
		return fmt.Errorf("read WAL at offset %d: %w", off, err)
	}
	if off+size > start+int64(n) {
		r.window = nil
		return io.EOF
	}
	r.want = min(2*r.want, maxWindow)
	return nil
}
