package wal_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/wal"
)

// A WAL that is written to while it is read.

// TestFollow is a model: SQLite's writes land in any cuts, and at any moment
// the reader must find exactly what a look at the whole file finds.
func TestFollow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := newFollow(t)
		t.Repeat(map[string]func(*rapid.T){
			"": f.check,
			// the writer
			"commit":   f.commit,
			"open":     f.open,
			"rewrite":  f.rewrite,
			"rollback": f.rollback,
			"restart":  f.restart,
			// the file
			"land":      f.land,
			"land some": f.land, // twice as often
			"land all":  f.landAll,
			// the reader
			"next":   f.next,
			"next 2": f.next,
			"drain":  f.drain,
			"again":  f.framesAgain,
			"resume": f.resume,
			"rewind": f.rewind, "release": f.release,
			"reopen": f.reopen,
		})
		f.finish(t)
	})
}

// follow is a writer, a file that lags behind it, and a reader of the file.
type follow struct {
	w *tape
	d *wire
	r *wal.Reader
	// ends are the commits that the writer made, given those that the reader gave.
	ends  map[wal.Position]commit
	given map[wal.Position]bool
	last  commit
}

func newFollow(t *rapid.T) *follow {
	w := drawTape(t)
	f := &follow{w: w, ends: map[wal.Position]commit{}, given: map[wal.Position]bool{}}
	f.d = newWire(w)
	f.r = wal.NewReader(f.d, w.h, w.h.Start())
	f.last = commit{Start: w.h.Start(), End: w.h.Start()}
	return f
}

func (f *follow) size(t *rapid.T) int {
	return rapid.SampledFrom([]int{1, 1, 2, 3, 8, 30, 150}).Draw(t, "frames")
}

func (f *follow) commit(t *rapid.T) {
	f.write(f.size(t))
}

// write commits what is open and n frames more.
func (f *follow) write(n int) {
	from := f.w.committed
	f.w.commit(n)
	f.ends[f.w.end], _ = naiveNext(f.w.b, f.w.h, from)
}

func (f *follow) open(t *rapid.T) { f.w.open(f.size(t)) }

func (f *follow) rollback(*rapid.T) { f.w.rollback() }

func (f *follow) rewrite(t *rapid.T) {
	n := f.w.end.Frame - f.w.committed.Frame
	if n == 0 {
		t.Skip("nothing is open")
	}
	f.w.rewrite(f.w.committed.Frame + rapid.Uint32Range(0, n-1).Draw(t, "frame"))
}

func (f *follow) restart(*rapid.T) {
	f.w.rollback()
	f.w.restart()
}

func (f *follow) land(t *rapid.T) {
	n := f.d.waiting()
	if n == 0 {
		t.Skip("all has landed")
	}
	most := rapid.SampledFrom([]int{30, 1000, 20000, n}).Draw(t, "at most")
	f.d.land(rapid.IntRange(1, min(most, n)).Draw(t, "bytes"))
}

func (f *follow) landAll(*rapid.T) { f.d.land(f.d.waiting()) }

func (f *follow) next(t *rapid.T) { f.step(t) }

func (f *follow) drain(t *rapid.T) {
	for f.step(t) {
		continue
	}
}

// step compares one Next with the whole file as it is.
func (f *follow) step(t *rapid.T) bool {
	want, there := naiveNext(f.d.b, f.r.Header(), f.r.Position())
	got, found := next(t, f.r)
	if !found {
		if there {
			t.Fatalf("found nothing after %v, want a commit to %v", f.r.Position(), want.End)
		}
		return false
	}
	if !there { // read before a restart wrote over it
		want = f.ends[got.End]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-naive +got):\n%s", diff)
	}
	if written, ok := f.ends[got.End]; !ok || f.given[got.End] || got.Start != written.Start {
		t.Fatalf("commit to %v: written %v, given before %v", got.End, ok, f.given[got.End])
	}
	f.given[got.End] = true
	f.last = got
	return true
}

// framesAgain asks for the last commit's frames when the file may have gone on.
func (f *follow) framesAgain(t *rapid.T) {
	got, err := framesOf(f.r)
	now, there := naiveNext(f.d.b, f.r.Header(), f.last.Start)
	switch {
	case f.last.Frames == nil:
		return
	case err == nil && slices.Equal(got, f.last.Frames):
	case errors.Is(err, wal.ErrChanged) && (!there || now.End != f.last.End):
		if !slices.Equal(got, f.last.Frames[:len(got)]) {
			t.Fatalf("frames before %v differ", err)
		}
	default:
		t.Fatalf("%d frames of %d, %v", len(got), len(f.last.Frames), err)
	}
}

func (f *follow) resume(*rapid.T) {
	f.r = wal.NewReader(f.d, f.r.Header(), f.r.Position())
	f.last = commit{}
}

func (f *follow) rewind(*rapid.T) { f.r.Rewind() }

func (f *follow) release(*rapid.T) { f.r.Release() }

// reopen looks whether the WAL was restarted, as a reader's owner does.
func (f *follow) reopen(t *rapid.T) {
	want, ok := naiveHeader(f.d.b)
	h, err := wal.ReadHeader(f.d)
	if ok != (err == nil) || ok && h != want {
		t.Fatalf("ReadHeader: %v, %v, want %v", h, err, want)
	}
	if ok && h.Salts != f.r.Header().Salts {
		f.r = wal.NewReader(f.d, h, h.Start())
		f.last = commit{}
	}
}

// check holds at any time: the reader stands where a commit ends.
func (f *follow) check(t *rapid.T) {
	p := f.r.Position()
	if p != f.r.Header().Start() && !f.given[p] {
		t.Fatalf("stands at %v", p)
	}
}

// finish lets all writes land: the reader then knows the whole generation.
func (f *follow) finish(t *rapid.T) {
	f.w.rollback()
	f.write(1)
	f.landAll(t)
	f.reopen(t)
	f.drain(t)
	if f.r.Position() != f.w.end {
		t.Fatalf("ends at %v, want %v", f.r.Position(), f.w.end)
	}
}

// Every cut of a WAL: a commit is given with its last byte and not before.
func TestFollowEveryByte(t *testing.T) {
	t.Parallel()
	w := newTape(wal.BigEndian, 512)
	var ends []int
	for _, n := range []int{1, 2, 1, 3} {
		w.commit(n)
		ends = append(ends, len(w.b))
	}
	w.open(1)
	d := &wire{}
	r := wal.NewReader(d, w.h, w.h.Start())
	given := 0
	for n := range len(w.b) + 1 {
		d.b = w.b[:n]
		c, found := next(t, r)
		if want := given < len(ends) && n == ends[given]; found != want {
			t.Fatalf("%d bytes: found %v to %v: %v, want %v", n, c.Start, c.End, found, want)
		}
		if found {
			given++
		}
		if _, found := next(t, r); found {
			t.Fatalf("%d bytes: given twice", n)
		}
	}
	if given != len(ends) {
		t.Errorf("%d commits, want %d", given, len(ends))
	}
}

// The stale tail of an earlier generation does not count, wherever the new
// one ends, and the old reader finds nothing in the new one.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newTape(wal.LittleEndian, 1024)
	for range 30 {
		w.commit(3)
	}
	old := w.reader()
	drain(t, old)
	for generation := range 4 {
		w.restart()
		h, err := wal.ReadHeader(w)
		if err != nil || h == old.Header() {
			t.Fatalf("generation %d: %v, %v", generation, h, err)
		}
		r := wal.NewReader(w, h, h.Start())
		for n := range 10 {
			if _, found := next(t, r); found {
				t.Fatalf("generation %d: stale commit after %d", generation, n)
			}
			w.commit(n%4 + 1)
			if c, found := next(t, r); !found || c.End != w.end {
				t.Fatalf("generation %d, commit %d: found %v, to %v, want %v", generation, n, found, c.End, w.end)
			}
			if _, found := next(t, old); found {
				t.Fatalf("generation %d: the old reader found something", generation)
			}
		}
	}
}

// What Next read beyond a commit, it must not trust in the next call: there
// was the tail of an older generation, or half a frame, and now is a commit.
func TestNextLooksAnew(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w *tape){
		"over an older generation": func(w *tape) {
			w.commit(50)
			w.restart()
		},
		"over a rolled-back transaction": func(w *tape) {
			w.commit(1)
			w.open(50)
			w.rollback()
		},
		"over a longer rolled-back transaction": func(w *tape) {
			w.commit(1)
			w.open(500)
			w.rollback()
		},
		"at the end of the file": func(w *tape) { w.commit(1) },
	}
	for name, prepare := range tests {
		for _, n := range []int{1, 5, 100} {
			t.Run(fmt.Sprintf("%s/frames=%d", name, n), func(t *testing.T) {
				t.Parallel()
				w := newTape(wal.LittleEndian, 1024)
				prepare(w)
				w.commit(1)
				r := w.reader()
				for r.Position() != w.end {
					if _, err := r.Next(); err != nil {
						t.Fatal(err)
					}
				}
				w.commit(n)
				if c, err := r.Next(); err != nil || c.End != w.end {
					t.Errorf("%v, %v, want a commit to %v", c, err, w.end)
				}
				if _, err := r.Next(); !errors.Is(err, io.EOF) {
					t.Errorf("then: %v, want io.EOF", err)
				}
			})
		}
	}
}
