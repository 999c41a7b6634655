package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/wal"
)

// A WAL that is not written to while it is read.

func TestReaderReadsAll(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		for _, size := range pageSizes() {
			t.Run(fmt.Sprintf("order=%d/size=%d", order, size), func(t *testing.T) {
				t.Parallel()
				w := newTape(order, size)
				for _, n := range []int{1, 1, 3, 20, 1, min(300, 1<<20/int(size)), 2} {
					w.commit(n)
				}
				r := w.reader()
				if r.Header() != w.h || r.Position() != w.h.Start() {
					t.Errorf("begins with %v at %v", r.Header(), r.Position())
				}
				got := drain(t, r)
				if diff := cmp.Diff(naiveAll(w.b, w.h, w.h.Start()), got); diff != "" {
					t.Fatalf("(-naive +got):\n%s", diff)
				}
				if len(got) != 7 || r.Position() != w.end {
					t.Errorf("%d commits to %v, want 7 to %v", len(got), r.Position(), w.end)
				}
				for i, c := range got {
					r := wal.NewReader(w, w.h, c.End)
					if r.Position() != c.End {
						t.Errorf("resumed at %v, want %v", r.Position(), c.End)
					}
					if diff := cmp.Diff(got[i+1:], drain(t, r)); len(got[i+1:]) > 0 && diff != "" {
						t.Errorf("resumed after %d (-want +got):\n%s", i, diff)
					}
				}
			})
		}
	}
}

func TestReaderWithoutCommits(t *testing.T) {
	t.Parallel()
	w := newTape(wal.LittleEndian, 512)
	tests := map[string]func(*tape){
		"header only":  func(*tape) {},
		"uncommitted":  func(w *tape) { w.open(5) },
		"half a frame": func(w *tape) { w.commit(1); w.b = w.b[:200] },
		"page 0":       func(w *tape) { w.frame(0, 9) },
		"zeros":        func(w *tape) { w.b = append(w.b, make([]byte, 9000)...) },
		"other salts":  func(w *tape) { w.h.Salts.Salt2++; w.commit(3) },
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTape(w.h.Order, w.h.PageSize)
			h := w.h
			write(w)
			r := wal.NewReader(w, h, h.Start())
			for range 3 {
				if c, err := r.Next(); !errors.Is(err, io.EOF) || c != (wal.Commit{}) {
					t.Errorf("Next: %v, %v, want io.EOF", c, err)
				}
			}
			if got, err := framesOf(r); len(got) != 0 || err != nil {
				t.Errorf("Frames: %d, %v, want none", len(got), err)
			}
			if r.Position() != h.Start() {
				t.Errorf("moved to %v", r.Position())
			}
		})
	}
}

func TestNothingAfterAFlippedBit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawTape(t)
		var ends []wal.Position
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, 9), 1, 9).Draw(t, "commits") {
			w.commit(n)
			ends = append(ends, w.end)
		}
		all := naiveAll(w.b, w.h, w.h.Start())
		bit := rapid.IntRange(8*wal.HeaderSize, 8*len(w.b)-1).Draw(t, "bit")
		w.b[bit/8] ^= 1 << (bit % 8)
		whole := 0
		for whole < len(ends) && w.offset(ends[whole].Frame) <= bit/8 {
			whole++
		}
		r := w.reader()
		for range 2 * 16 { // past every fresh look
			for _, c := range drain(t, r) {
				if whole == 0 || !cmp.Equal(c, all[0]) {
					t.Fatalf("gave %v to %v", c.Start, c.End)
				}
				all, whole = all[1:], whole-1
			}
		}
		if whole != 0 {
			t.Fatalf("%d commits before the bit were not given", whole)
		}
	})
}

// A commit larger than the window is read twice.
func TestLargeCommit(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		w := newTape(order, 4096)
		w.commit(3)
		w.commit(700) // 2.9 MB
		w.commit(1)
		want := naiveAll(w.b, w.h, w.h.Start())
		r := w.reader()
		if diff := cmp.Diff(want, drain(t, r)); diff != "" {
			t.Errorf("order %d (-naive +got):\n%s", order, diff)
		}
		r = w.reader()
		for i := range want {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			for again := range 3 {
				if got, err := framesOf(r); err != nil || !slices.Equal(got, want[i].Frames) {
					t.Errorf("commit %d, time %d: frames differ, %v", i, again, err)
				}
				if again == 1 {
					r.Rewind()
				}
			}
		}
	}
}

// Frames may be left early, or not asked for at all.
func TestFramesLeftEarly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawTape(t)
		for _, n := range rapid.SliceOfN(rapid.SampledFrom([]int{1, 2, 5, 40, 400}), 1, 8).Draw(t, "commits") {
			w.commit(n)
		}
		r := w.reader()
		for i, want := range naiveAll(w.b, w.h, w.h.Start()) {
			c, err := r.Next()
			if err != nil || c.Start != want.Start || c.End != want.End || c.Pages != want.Pages {
				t.Fatalf("commit %d: %v, %v, want %v to %v", i, c, err, want.Start, want.End)
			}
			leave := rapid.IntRange(0, len(want.Frames)).Draw(t, "leave after")
			n := 0
			for f, err := range r.Frames() {
				if n == leave {
					break
				}
				if err != nil || f.Page != want.Frames[n].Page || string(f.Image) != want.Frames[n].Image {
					t.Fatalf("commit %d, frame %d: page %v, %v", i, n, f.Page, err)
				}
				n++
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last: %v", err)
		}
	})
}

func TestErrChanged(t *testing.T) {
	t.Parallel()
	const at = 300 // the frame that changes
	tests := map[string]func(*tape){
		"image":      func(w *tape) { w.b[w.offset(at)+24]++ },
		"page":       func(w *tape) { w.b[w.offset(at)]++ },
		"salts":      func(w *tape) { w.b[w.offset(at)+8]++ },
		"checksum":   func(w *tape) { w.b[w.offset(at)+16]++ },
		"truncation": func(w *tape) { w.b = w.b[:w.offset(at)+100] },
		"deletion":   func(w *tape) { w.b = nil },
		"restart":    func(w *tape) { w.restart(); w.commit(at + 1) },
		// A whole chain, but another one: found at the commit's end.
		"other commit": func(w *tape) { w.rollback(); w.end = w.h.Start(); w.commit(600) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTape(wal.LittleEndian, 4096)
			w.commit(600)
			want, _ := naiveNext(w.b, w.h, w.h.Start())
			r := w.reader()
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			change(w)
			got, err := framesOf(r)
			if !errors.Is(err, wal.ErrChanged) {
				t.Errorf("%d frames, then %v, want ErrChanged", len(got), err)
			}
			if name != "other commit" && (len(got) > at || !slices.Equal(got, want.Frames[:len(got)])) {
				t.Errorf("gave %d frames before it, not those of the commit", len(got))
			}
		})
	}
}

// A commit read again, and not to its end, has not been checked to its end.
func TestErrChangedAgain(t *testing.T) {
	t.Parallel()
	w := newTape(wal.LittleEndian, 512)
	w.commit(20)
	r := w.reader()
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.Rewind() // the next Frames reads the file
	w.b[w.offset(9)+24]++
	for range r.Frames() {
		break
	}
	for range 2 {
		if got, err := framesOf(r); !errors.Is(err, wal.ErrChanged) || len(got) != 9 {
			t.Errorf("%d frames, then %v, want 9, then ErrChanged", len(got), err)
		}
	}
}

// A commit that needs two reads is given as its chain was checked, even when
// the file's first half is no longer what it was at the second read.
func TestFramesAreThoseThatWereChecked(t *testing.T) {
	t.Parallel()
	w := newTape(wal.LittleEndian, 4096)
	w.commit(25) // 100 KB
	want, _ := naiveNext(w.b, w.h, w.h.Start())
	reads := 0
	r := wal.NewReader(source(func(p []byte, off int64) (int, error) {
		if reads++; reads == 2 {
			w.b[w.offset(3)+24]++
		}
		return w.ReadAt(p, off)
	}), w.h, w.h.Start())
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	got, err := framesOf(r)
	if err != nil && !errors.Is(err, wal.ErrChanged) || err == nil && len(got) != 25 {
		t.Fatalf("%d frames, then %v", len(got), err)
	}
	if !slices.Equal(got, want.Frames[:len(got)]) {
		t.Error("gave a frame that the chain does not vouch for")
	}
	if reads < 2 {
		t.Error("one read was enough: the test has lost its point")
	}
}

// Bytes change between any two reads of the file. Whatever is given must
// still be what the chain vouches for.
func TestOnlyCheckedBytesAreGiven(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawTape(t)
		for _, n := range rapid.SliceOfN(rapid.SampledFrom([]int{1, 7, 30, 60, 90, 150}), 1, 6).Draw(t, "commits") {
			w.commit(n)
		}
		all := naiveAll(w.b, w.h, w.h.Start())
		r := wal.NewReader(source(func(p []byte, off int64) (int, error) {
			b := w.b
			if cut := rapid.IntRange(0, 3).Draw(t, "short read"); cut == 0 && int(off) < len(b) {
				b = b[:rapid.IntRange(int(off), len(b)).Draw(t, "to")]
			}
			n, err := readAt(b, p, off)
			if n > 0 && rapid.IntRange(0, 2).Draw(t, "spoil") == 0 {
				for p := p[:n]; len(p) > 0; p = p[min(len(p), 5000):] {
					p[0] ^= 1
				}
			}
			return n, err
		}), w.h, w.h.Start())
		for range 20 {
			c, err := r.Next()
			if errors.Is(err, io.EOF) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Start != all[0].Start || c.End != all[0].End {
				t.Fatalf("gave %v to %v, want %v to %v", c.Start, c.End, all[0].Start, all[0].End)
			}
			for range 2 {
				got, err := framesOf(r)
				if err != nil && !errors.Is(err, wal.ErrChanged) {
					t.Fatal(err)
				}
				if !slices.Equal(got, all[0].Frames[:len(got)]) || err == nil && len(got) != len(all[0].Frames) {
					t.Fatalf("%d frames, not those of the commit; %v", len(got), err)
				}
			}
			if all = all[1:]; len(all) == 0 {
				return
			}
		}
	})
}

// Every read fails once; what is read in the end is the same.
func TestReadErrorsArePassedOn(t *testing.T) {
	t.Parallel()
	w := newTape(wal.BigEndian, 1024)
	for _, n := range []int{1, 200, 2, 1200, 1} {
		w.commit(n)
	}
	w.open(60)
	want := naiveAll(w.b, w.h, w.h.Start())
	errDisk := fmt.Errorf("disk hiccup: %w", io.ErrUnexpectedEOF)
	failed := true
	for k := 0; failed; k++ {
		reads := 0
		failed = false
		r := wal.NewReader(source(func(p []byte, off int64) (int, error) {
			if reads++; reads == k+1 {
				failed = true
				n, _ := w.ReadAt(p, off)
				return n / 2, errDisk
			}
			return w.ReadAt(p, off)
		}), w.h, w.h.Start())
		var got []commit
		seen := false
		for range 12 {
			c, err := r.Next()
			if errors.Is(err, io.EOF) {
				continue
			}
			if err != nil {
				if seen = errors.Is(err, errDisk); !seen {
					t.Fatalf("read %d failed: Next: %v, want %v", k, err, errDisk)
				}
				continue
			}
			frames, err := framesOf(r)
			if err != nil {
				if seen = errors.Is(err, errDisk); !seen {
					t.Fatalf("read %d failed: Frames: %v, want %v", k, err, errDisk)
				}
				if frames, err = framesOf(r); err != nil {
					t.Fatalf("read %d failed: Frames again: %v", k, err)
				}
			}
			got = append(got, commit{Start: c.Start, End: c.End, Pages: c.Pages, Frames: frames})
		}
		if seen != failed {
			t.Errorf("read %d failed: %v, reported: %v", k, failed, seen)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("read %d failed (-naive +got):\n%s", k, diff)
		}
	}
}

// A frame far beyond 4 GiB, in a file that exists only there.
func TestBeyond4GiB(t *testing.T) {
	t.Parallel()
	tests := []struct {
		size  wal.PageSize
		frame uint32
	}{
		{65536, 1<<32/65560 - 1}, // the first commit lies across 4 GiB
		{65536, 1<<31/65560 - 1},
		{65536, 70_000},
		{512, 9_000_000},
		{4096, 1 << 30},
		{65536, 1<<32 - 5000},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("size=%d/frame=%d", tt.size, tt.frame), func(t *testing.T) {
			t.Parallel()
			h := newTape(wal.LittleEndian, tt.size).h
			from := wal.Position{Salts: h.Salts, Frame: tt.frame, Sum: wal.Checksum{S0: 1, S1: 2}}
			// The same frames on a short tape, whose chain starts elsewhere.
			w := newTape(h.Order, h.PageSize)
			w.end = wal.Position{Salts: h.Salts, Sum: from.Sum}
			for _, n := range []int{3, 1, 2 << 20 / int(tt.size), 2} {
				w.commit(n)
			}
			want := naiveAll(w.b, h, wal.Position{Salts: h.Salts, Sum: from.Sum})
			for i := range want {
				want[i].Start.Frame += tt.frame
				want[i].End.Frame += tt.frame
			}
			base := int64(tt.frame) * (24 + int64(tt.size))
			far := source(func(p []byte, off int64) (int, error) {
				if off < base+32 {
					return 0, fmt.Errorf("read at %d, before %d", off, base+32)
				}
				return w.ReadAt(p, off-base)
			})
			if diff := cmp.Diff(want, drain(t, wal.NewReader(far, h, from))); diff != "" {
				t.Errorf("(-naive +got):\n%s", diff)
			}
		})
	}
}

// TestSteadyStateDoesNotAllocate reads commits that fit into the window, and some
// that are read twice. Not parallel: AllocsPerRun counts the whole process.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	for _, frames := range []int{1, 10, 300} {
		w, commits := newTape(wal.LittleEndian, 4096), 2000/frames+10
		for range commits {
			w.commit(frames)
		}
		r := wal.NewReader(bytes.NewReader(w.b), w.h, w.h.Start())
		step := func() {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			for f, err := range r.Frames() {
				if err != nil || f.Page == 0 {
					t.Fatal(f.Page, err)
				}
			}
		}
		for range commits / 2 {
			step() // until the window has its full size
		}
		if n := testing.AllocsPerRun(commits/2-1, step); n != 0 {
			t.Errorf("%d frames a commit: %v allocations a commit", frames, n)
		}
	}
}
