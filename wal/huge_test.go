package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
)

// A WAL beyond 4 GiB. What lies before the interesting place is a hole: a reader
// that resumes from a position does not look at it.

// huge is a WAL whose bytes up to an offset are zeros, apart from the header.
type huge struct {
	head []byte
	off  int64 // where tail begins
	tail []byte
}

func (h *huge) ReadAt(p []byte, off int64) (int, error) {
	end := h.off + int64(len(h.tail))
	if off >= end {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), end-off))
	clear(p[:n])
	if off < int64(len(h.head)) {
		copy(p[:n], h.head[off:])
	}
	if at := h.off - off; at >= 0 && at < int64(n) {
		copy(p[at:n], h.tail)
	} else if at < 0 {
		copy(p[:n], h.tail[-at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// write appends frames at a position: a commit for each length, and an unfinished
// transaction. The images are of one byte each, which tells them apart.
func (h *huge) write(hdr wal.Header, from wal.Position, commits ...int) wal.Position {
	pos, fill := from, byte(1)
	frame := func(commit uint32) {
		image := bytes.Repeat([]byte{fill}, int(hdr.PageSize))
		h.tail, pos = hdr.AppendFrame(h.tail, pos, wal.PageNo(fill), commit, image)
		fill++
	}
	for _, n := range commits {
		for range n - 1 {
			frame(0)
		}
		frame(0xfffffff0)
	}
	end := pos
	frame(0)
	frame(0)
	return end
}

// borders are the frames around which offsets pass 2 and 4 GiB, and the last ones
// that a position can count.
func borders(size wal.PageSize) map[string]uint32 {
	frame := int64(size) + wal.FrameHeaderSize
	return map[string]uint32{
		"2 GiB":            uint32((1<<31 - wal.HeaderSize) / frame),
		"4 GiB":            uint32((1<<32 - wal.HeaderSize) / frame),
		"half of frames":   1<<31 - 3,
		"nearly all of it": 1<<32 - 40,
	}
}

func hugeHeader(t *testing.T, size wal.PageSize) (wal.Header, []byte) {
	t.Helper()
	b := wal.Header{Order: wal.LittleEndian, PageSize: size, Salts: wal.Salts{Salt1: 0xfffffffe, Salt2: 7}}.AppendTo(nil)
	hdr, err := wal.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return hdr, b
}

// pastHuge reads all commits after a position, as it would after a restart: from
// the header and the position alone.
func pastHuge(t *testing.T, src io.ReaderAt, from wal.Position) (lengths []int, end wal.Position) {
	t.Helper()
	hdr, err := wal.ReadHeader(src)
	if err != nil {
		t.Fatal(err)
	}
	r, fill := wal.NewReader(src, hdr, from), byte(1)
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lengths, r.Position()
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Pages != 0xfffffff0 {
			t.Errorf("commit to %v of %d pages", c.End, c.Pages)
		}
		lengths = append(lengths, int(c.Frames()))
		for f, err := range r.Frames() {
			if err != nil {
				t.Fatal(err)
			}
			if f.Page != wal.PageNo(fill) || !bytes.Equal(f.Image, bytes.Repeat([]byte{fill}, int(hdr.PageSize))) {
				t.Fatalf("page %v where %d should be", f.Page, fill)
			}
			fill++
		}
	}
}

func TestHugeWAL(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 4096, 65536} {
		for name, n := range borders(size) {
			hdr, head := hugeHeader(t, size)
			from := wal.Position{Salts: hdr.Salts, Frame: n - 5, Sum: wal.Checksum{S0: 0xdeadbeef, S1: 3}}
			h := &huge{head: head, off: wal.HeaderSize + int64(n-5)*(int64(size)+wal.FrameHeaderSize)}
			if got := hdr.Offset(from.Frame + 1); got != h.off {
				t.Fatalf("%d, %s: frame %d is at %d, want %d", size, name, from.Frame+1, got, h.off)
			}
			want := h.write(hdr, from, 1, 3, 7, 2)
			lengths, end := pastHuge(t, h, from)
			if diff := cmp.Diff([]int{1, 3, 7, 2}, lengths); diff != "" || end != want {
				t.Errorf("%d, %s: read to %v, want %v; commits (-want +got):\n%s", size, name, end, want, diff)
			}
			// From the middle, as after a restart.
			r := wal.NewReader(h, hdr, from)
			c, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			saved := wal.Position{Salts: c.End.Salts, Frame: c.End.Frame, Sum: c.End.Sum}
			if c, err = wal.NewReader(h, hdr, saved).Next(); err != nil || c.Frames() != 3 || c.Start != saved {
				t.Errorf("%d, %s: resumed at %v: %+v %v", size, name, saved, c, err)
			}
			// A frame of another place does not continue the chain.
			r = wal.NewReader(h, hdr, wal.Position{Salts: saved.Salts, Frame: saved.Frame + 1, Sum: saved.Sum})
			if c, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("%d, %s: %+v %v out of its place", size, name, c, err)
			}
		}
	}
}

// The same in a file with a hole, as the system gives it.
func TestHugeFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files are not sparse by themselves")
	}
	const size = 4096
	hdr, head := hugeHeader(t, size)
	n := borders(size)["4 GiB"]
	from := wal.Position{Salts: hdr.Salts, Frame: n - 5, Sum: wal.Checksum{S0: 1, S1: binary.BigEndian.Uint32(head[24:])}}
	h := &huge{}
	want := h.write(hdr, from, 2, 4, 6)
	f, err := os.Create(filepath.Join(t.TempDir(), "app.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the writes are checked
	if _, err := f.Write(head); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(h.tail, hdr.Offset(from.Frame+1)); err != nil {
		t.Skip("no room for a sparse file: ", err)
	}
	lengths, end := pastHuge(t, f, from)
	if diff := cmp.Diff([]int{2, 4, 6}, lengths); diff != "" || end != want {
		t.Errorf("read to %v, want %v; commits (-want +got):\n%s", end, want, diff)
	}
}
