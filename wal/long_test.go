package wal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
)

// Transactions so long that Next does not scan them again every time.

// patience is the number of calls of Next within which it finds what replaced
// a long open transaction.
const patience = 16

// longFrames is 4.3 MiB in pages of 4096 bytes, more than Next scans every time.
const longFrames = 1100

// longTape has a commit of two frames and a long transaction that is open.
func longTape(order wal.ByteOrder) *tape {
	w := newTape(order, 4096)
	w.commit(2)
	w.open(longFrames)
	return w
}

// clone is the same tape, to be written on without the other.
func (w *tape) clone() *tape {
	c, rng := *w, *w.rng
	c.b, c.rng = slices.Clone(w.b), &rng
	return &c
}

// findsWithin calls Next until it gives a commit.
func findsWithin(t *testing.T, r *wal.Reader, calls int) wal.Commit {
	t.Helper()
	for range calls {
		c, err := r.Next()
		if err == nil {
			return c
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	t.Fatalf("nothing found within %d calls", calls)
	return wal.Commit{}
}

func misses(t *testing.T, r *wal.Reader, calls int) {
	t.Helper()
	for range calls {
		if c, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("%v, %v, want io.EOF", c, err)
		}
	}
}

func TestRolledBackLongTailIsReplaced(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w *tape, seen rand.PCG){
		"by one frame":         func(w *tape, _ rand.PCG) { w.commit(1) },
		"by a shorter commit":  func(w *tape, _ rand.PCG) { w.commit(100) },
		"by an equally long":   func(w *tape, _ rand.PCG) { w.commit(longFrames) },
		"by a longer commit":   func(w *tape, _ rand.PCG) { w.commit(longFrames + 100) },
		"by two commits":       func(w *tape, _ rand.PCG) { w.commit(5); w.commit(7) },
		"after a second try":   func(w *tape, _ rand.PCG) { w.open(longFrames - 1); w.rollback(); w.commit(3) },
		"by one like it":       func(w *tape, seen rand.PCG) { *w.rng = seen; w.open(200); w.frame(3, 1000) },
		"by one like it, long": func(w *tape, seen rand.PCG) { *w.rng = seen; w.open(longFrames - 1); w.frame(3, 1000) },
		"by its own frames": func(w *tape, seen rand.PCG) {
			*w.rng = seen
			w.open(longFrames)
			w.frame(3, 1000)
		},
	}
	base := newTape(wal.LittleEndian, 4096)
	base.commit(2)
	seen := *base.rng
	base.open(longFrames)
	for name, replace := range tests {
		for waited, rewind := range map[int]bool{0: false, 3: true, 32: false} {
			t.Run(fmt.Sprintf("%s/waited=%d/rewind=%v", name, waited, rewind), func(t *testing.T) {
				t.Parallel()
				w := base.clone()
				r := wal.NewReader(w, w.h, w.committed)
				misses(t, r, waited)
				w.rollback()
				replace(w, seen)
				w.committed = w.end
				want := naiveAll(w.b, w.h, r.Position())
				calls := patience
				if rewind {
					r.Rewind()
					calls = 1
				}
				c := findsWithin(t, r, calls)
				frames, err := framesOf(r)
				if err != nil {
					t.Fatal(err)
				}
				got := append([]commit{{c.Start, c.End, c.Pages, frames}}, drain(t, r)...)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-naive +got):\n%s", diff)
				}
			})
		}
	}
}

// A long transaction that stays open rewrites its own frames: the checksums
// are zero until, before it commits, SQLite writes them all anew.
func TestLongTransactionRewritesItself(t *testing.T) {
	t.Parallel()
	base := longTape(wal.BigEndian)
	for _, at := range []uint32{2, 700, longFrames + 1} {
		for _, rewind := range []bool{false, true} {
			t.Run(fmt.Sprintf("at=%d/rewind=%v", at, rewind), func(t *testing.T) {
				t.Parallel()
				w := base.clone()
				r := wal.NewReader(w, w.h, w.committed)
				misses(t, r, 3)
				w.write(w.offset(at)+24, w.image()) // the image alone, first
				misses(t, r, 3)
				w.write(w.offset(at)+8, make([]byte, 16)) // and no checksum
				misses(t, r, 9)
				w.rewrite(at)
				binary.BigEndian.PutUint32(w.b[w.offset(at)+8:], w.h.Salts.Salt1)
				misses(t, r, 3)
				w.open(100)
				w.commit(1)
				want := naiveAll(w.b, w.h, r.Position())
				calls := patience
				if rewind {
					r.Rewind()
					calls = 1
				}
				c := findsWithin(t, r, calls)
				got, err := framesOf(r)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, []commit{{c.Start, c.End, c.Pages, got}}); diff != "" {
					t.Errorf("(-naive +got):\n%s", diff)
				}
			})
		}
	}
}

// A long transaction that arrives little by little is not read from its
// beginning each time, and is found at once when it commits.
func TestLongTransactionCostsInProportion(t *testing.T) {
	t.Parallel()
	w := newTape(wal.LittleEndian, 4096)
	read := 0
	r := wal.NewReader(source(func(p []byte, off int64) (int, error) {
		n, err := w.ReadAt(p, off)
		read += n
		return n, err
	}), w.h, w.h.Start())
	for range 30 {
		w.open(100) // 400 KB
		misses(t, r, 1)
	}
	w.commit(1)
	findsWithin(t, r, 1)
	// From its beginning each time would be 15 times its length.
	if most := 8 * len(w.b); read > most {
		t.Errorf("read %d bytes of a transaction of %d, want at most %d", read, len(w.b), most)
	}
}

// An idle look at a long open tail, the usual case after a rollback, costs
// little more than one look in patience.
func TestLongTailCostsLittle(t *testing.T) {
	t.Parallel()
	w := longTape(wal.LittleEndian)
	w.b = append(w.b, make([]byte, 100_000)...) // as of an older, longer generation
	read := 0
	r := wal.NewReader(source(func(p []byte, off int64) (int, error) {
		n, err := w.ReadAt(p, off)
		read += n
		return n, err
	}), w.h, w.h.Start())
	drain(t, r)
	misses(t, r, 5*patience)
	if most := 12 * len(w.b); read > most {
		t.Errorf("read %d bytes over a tail of %d, want at most %d", read, len(w.b), most)
	}
}

// The source holds no frame beyond a short file while the reader remembers a
// long one: truncated, and written again.
func TestLongTailIsTruncated(t *testing.T) {
	t.Parallel()
	w := longTape(wal.LittleEndian)
	r := wal.NewReader(w, w.h, w.committed)
	misses(t, r, 5)
	w.rollback()
	w.b = w.b[:w.offset(w.end.Frame)]
	misses(t, r, 5)
	w.commit(2)
	if c := findsWithin(t, r, patience); c.End != w.end {
		t.Errorf("found a commit to %v, want %v", c.End, w.end)
	}
}

// A read that fails inside a long transaction does not lose the place.
func TestReadErrorInLongTail(t *testing.T) {
	t.Parallel()
	w := longTape(wal.BigEndian)
	var fail error
	r := wal.NewReader(source(func(p []byte, off int64) (int, error) {
		if fail != nil {
			return 0, fail
		}
		return w.ReadAt(p, off)
	}), w.h, w.committed)
	misses(t, r, 2)
	fail = errors.New("disk hiccup")
	if _, err := r.Next(); !errors.Is(err, fail) {
		t.Fatalf("got %v, want %v", err, fail)
	}
	fail = nil
	w.commit(1)
	want := naiveAll(w.b, w.h, r.Position())
	if diff := cmp.Diff(want, drain(t, r)); diff != "" {
		t.Errorf("(-naive +got):\n%s", diff)
	}
}
