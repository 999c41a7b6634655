package segment_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// counted counts reads of a segment.
type counted struct {
	io.ReaderAt
	reads int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(p, off)
}

// TestIndexOfManyBlocks has an index whose sections each need several blocks
// and which is longer than what ReadIndex reads at first.
func TestIndexOfManyBlocks(t *testing.T) {
	t.Parallel()
	const commits, pages = 80_000, 70_000
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{PageSize: 512, First: 1})
	for i := range commits {
		c := segment.Commit{Pages: pages, Time: time.UnixMilli(int64(i) * 5)}
		if _, err := w.Commit(c); err != nil {
			t.Fatal(err)
		}
	}
	noisy := func(no wal.PageNo) state.Sum { return state.Sum(no) * 0x9e3779b97f4a7c15 }
	if _, err := w.Close(noisy); err != nil {
		t.Fatal(err)
	}
	if _, rs, err := read(bytes.NewReader(b.Bytes()), int64(b.Len())); err != io.EOF || len(rs) != commits { //nolint:errorlint // bare by contract
		t.Errorf("%d records, error %v", len(rs), err)
	}
	src := counted{ReaderAt: bytes.NewReader(b.Bytes())}
	_, x, err := segment.ReadIndex(&src, int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if src.reads != 3 {
		t.Errorf("%d reads, want 3", src.reads)
	}
	next := wal.PageNo(1)
	if err := x.Pages(func(no wal.PageNo, sum state.Sum) {
		if no != next || sum != noisy(no) {
			t.Fatalf("page %v with sum %x, want page %v", no, sum, next)
		}
		next++
	}); err != nil || next != pages+1 {
		t.Errorf("%d pages, error %v", next-1, err)
	}
	cs, err := x.Commits()
	if err != nil || len(cs) != commits {
		t.Fatalf("%d commits, error %v", len(cs), err)
	}
	last := cs[commits-1]
	last.Bytes = 0
	want := segment.Commit{TXID: commits, Time: time.UnixMilli((commits - 1) * 5).UTC(), Pages: pages}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("last commit (-want +got):\n%s", diff)
	}
}

func TestIndexOfFewReads(t *testing.T) {
	t.Parallel()
	h := small()
	b := h.closed(t)
	src := counted{ReaderAt: bytes.NewReader(b)}
	if _, _, err := segment.ReadIndex(&src, int64(len(b))); err != nil || src.reads != 1 {
		t.Errorf("%d reads of a short segment, error %v", src.reads, err)
	}
}

// TestBytesOfLargeCommits shares the stored bytes of many blocks out: a commit
// of noise costs what it is long, one of zeros next to nothing.
func TestBytesOfLargeCommits(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{PageSize: 4096, First: 1})
	write := func(frames int, page []byte) {
		for i := range frames {
			if err := w.Full(wal.PageNo(i+1), page); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Commit(segment.Commit{Pages: 1000}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	noise := noisePage(4096)
	for i := 0; i < len(noise); i += 2 { // repeats within a block are further than LZ4 sees
		noise[i] ^= byte(i)
	}
	write(600, make([]byte, 4096))
	write(1, noise)
	write(0, nil)
	if _, err := w.Close(func(wal.PageNo) state.Sum { return 0 }); err != nil {
		t.Fatal(err)
	}
	_, x, err := segment.ReadIndex(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	cs, err := x.Commits()
	if err != nil {
		t.Fatal(err)
	}
	if zeros := cs[0].Bytes; zeros < 5_000 || zeros > 20_000 {
		t.Errorf("2.4 MB of zeros have %d bytes", zeros)
	}
	if one := cs[1].Bytes; one < 4096 || one > 4096+100 {
		t.Errorf("a page of noise has %d bytes", one)
	}
	if none := cs[2].Bytes; none < 22 || none > 22+24 {
		t.Errorf("an empty commit has %d bytes", none)
	}
}

// TestLockPage grows a database over the lock-byte page, with and without a
// frame for it.
func TestLockPage(t *testing.T) {
	t.Parallel()
	const size = wal.MaxPageSize
	lock := size.LockPage()
	before := state.TableOf(size, make([]state.Sum, lock-3))
	after := before.Clone()
	after.Resize(uint32(lock) + 2)
	after.Set(lock+2, 7)

	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{PageSize: size, First: 5, PagesBefore: before.Len(), Before: before.Checksum()})
	for _, no := range []wal.PageNo{lock, lock + 2, lock + 9} {
		if err := w.Full(no, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(segment.Commit{Pages: after.Len(), After: after.Checksum()}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(after.At); err != nil {
		t.Fatal(err)
	}
	h, x, err := segment.ReadIndex(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var got []wal.PageNo
	if err := x.Pages(func(no wal.PageNo, _ state.Sum) { got = append(got, no) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]wal.PageNo{lock - 2, lock - 1, lock + 1, lock + 2}, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if err := x.Apply(h, before); err != nil || before.At(lock+2) != 7 {
		t.Errorf("apply: error %v", err)
	}
}

// TestApplyRefuses gives states that the segment does not follow, and page sums
// that do not give its state.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	h := small()
	b := h.closed(t)
	hdr, x, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	other := table(512, [][]byte{text("other")})
	if err := x.Apply(hdr, other.Clone()); err == nil || errors.Is(err, block.ErrCorrupt) {
		t.Errorf("another state: error %v", err)
	}
	zeroSum := state.TableOf(512, []state.Sum{0})
	if err := x.Apply(hdr, zeroSum); err == nil || errors.Is(err, block.ErrCorrupt) {
		t.Errorf("another length: error %v", err)
	}
	hdr.Before, hdr.PagesBefore = other.Checksum(), other.Len()
	hdr.PagesBefore = 9
	other.Resize(9)
	hdr.Before = other.Checksum()
	if err := x.Apply(hdr, other); err != nil {
		t.Errorf("a segment that rewrites all pages: error %v", err)
	}

	var wrong bytes.Buffer
	w, _ := h.write(t, &wrong)
	if _, err := w.Close(func(wal.PageNo) state.Sum { return 1 }); err != nil {
		t.Fatal(err)
	}
	hdr, x, err = segment.ReadIndex(bytes.NewReader(wrong.Bytes()), int64(wrong.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Apply(hdr, state.NewTable(512)); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("wrong sums: error %v, want ErrCorrupt", err)
	}
}

// failing fails at its n-th read.
type failing struct {
	io.ReaderAt
	n *int
}

var errSource = errors.New("source failed")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if *f.n--; *f.n == 0 {
		return 0, errSource
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestSourceErrors wants errors of the source back, and not as corruption.
func TestSourceErrors(t *testing.T) {
	t.Parallel()
	b := flushed().closed(t)
	for n := range b {
		src := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(errSource))
		for _, size := range []int64{int64(len(b)), -1} {
			if size < 0 && n > len(b)/2 {
				continue // it ends before
			}
			if _, _, err := read(src, size); !errors.Is(err, errSource) || errors.Is(err, block.ErrCorrupt) {
				t.Errorf("size %d, source fails at %d: error %v", size, n, err)
			}
		}
	}
	large := append(bytes.Clone(b[:segment.HeaderSize]), make([]byte, 1<<17)...)
	for n := 1; n <= 2; n++ {
		left := n
		_, _, err := segment.ReadIndex(failing{bytes.NewReader(large), &left}, int64(len(large)))
		if !errors.Is(err, errSource) || errors.Is(err, block.ErrCorrupt) {
			t.Errorf("read %d fails: error %v", n, err)
		}
	}
}

// TestKeepIndex compares the index that a Reader keeps with the one that is read
// alone.
func TestKeepIndex(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := drawHistory(t, true).closed(t)
		_, want, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := segment.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r.KeepIndex()
		for err == nil {
			_, err = r.Next()
		}
		if err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.Index(), cmp.AllowUnexported(segment.Index{}, segment.Trailer{})); diff != "" {
			t.Errorf("the kept index (-read +kept):\n%s", diff)
		}
	})
}
