package segment_test

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"tidemark/wal"
	"tidemark/wal/segment"
)

// workload is pages and their next images.
type workload struct {
	before, after [][]byte
}

const benchSize = 4096

// newWorkload makes pages that look like a table's: short records of few words, and
// the same pages with 50 bytes changed.
func newWorkload(pages int) workload {
	rng := rand.New(rand.NewPCG(7, 7))
	var w workload
	for range pages {
		var p []byte
		for len(p) < benchSize {
			p = fmt.Appendf(p, "%08x|station %d|water level %d mm|", rng.Uint32(), rng.IntN(50), rng.IntN(5000))
		}
		p = p[:benchSize]
		q := bytes.Clone(p)
		for at, i := rng.IntN(benchSize-50), 0; i < 50; i++ {
			q[at+i] = byte(rng.Uint32())
		}
		w.before, w.after = append(w.before, p), append(w.after, q)
	}
	return w
}

// newNoise makes pages that have nothing in common, not even with their next
// images.
func newNoise(pages int) workload {
	rng := rand.New(rand.NewPCG(7, 8))
	page := func() []byte {
		b := make([]byte, benchSize)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	var w workload
	for range pages {
		w.before, w.after = append(w.before, page()), append(w.after, page())
	}
	return w
}

func (w workload) full(tb testing.TB, s *segment.Writer) {
	tb.Helper()
	for i, p := range w.before {
		if err := s.Full(wal.PageNo(i+1), p); err != nil {
			tb.Fatal(err)
		}
	}
}

func (w workload) delta(tb testing.TB, s *segment.Writer) {
	tb.Helper()
	for i, p := range w.after {
		if err := s.Delta(wal.PageNo(i+1), p, w.before[i]); err != nil {
			tb.Fatal(err)
		}
	}
}

// use is a way to write a workload's frames.
type use struct {
	name   string
	frames func(testing.TB, *segment.Writer)
}

func uses(pages int) []use {
	rows, noise := newWorkload(pages), newNoise(pages)
	return []use{{"full", rows.full}, {"delta", rows.delta}, {"noise", noise.full}, {"noise-delta", noise.delta}}
}

func commitTo(tb testing.TB, s *segment.Writer) {
	tb.Helper()
	if _, err := s.Commit(segment.Commit{Pages: 64}); err != nil {
		tb.Fatal(err)
	}
}

func newBenchWriter(w io.Writer) *segment.Writer {
	return segment.NewWriter(w, segment.Header{PageSize: benchSize, First: 1})
}

// encoded is a segment of so many commits of that use.
func encoded(tb testing.TB, use use, commits int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := newBenchWriter(&b)
	for range commits {
		use.frames(tb, w)
		commitTo(tb, w)
	}
	if _, err := w.Close(noSums); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestFramesDoNotAllocate covers more than a block in each run, so that blocks
// count as well. AllocsPerRun counts the whole process: not parallel.
func TestFramesDoNotAllocate(t *testing.T) {
	if raced {
		t.Skip("the race detector empties pools now and then")
	}
	for _, use := range uses(80) {
		w := newBenchWriter(io.Discard)
		use.frames(t, w)
		use.frames(t, w)
		if n := testing.AllocsPerRun(10, func() { use.frames(t, w) }); n != 0 {
			t.Errorf("80 calls of Writer, %s, allocate %v times", use.name, n)
		}

		b := encoded(t, use, 25)
		r, err := segment.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		next := func() {
			for range 80 {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
			}
		}
		next()
		next()
		if n := testing.AllocsPerRun(20, next); n != 0 {
			t.Errorf("80 calls of Reader.Next, %s, allocate %v times", use.name, n)
		}
	}
}

// TestSmallWriterIsSmall bounds what a segment of one small commit takes: a process
// has one open for each database that is written to.
func TestSmallWriterIsSmall(t *testing.T) {
	load := newWorkload(3)
	var before, after runtime.MemStats
	const n = 100
	open := make([]*segment.Writer, n)
	runtime.ReadMemStats(&before)
	for i := range open {
		open[i] = newBenchWriter(io.Discard)
		load.full(t, open[i])
		commitTo(t, open[i])
	}
	runtime.ReadMemStats(&after)
	if a := (after.TotalAlloc - before.TotalAlloc) / n; a > 64<<10 {
		t.Errorf("%d bytes for a segment of three pages", a)
	}
	runtime.KeepAlive(open)
}

// BenchmarkEncode adds commits of 64 frames to a segment.
func BenchmarkEncode(b *testing.B) {
	for _, use := range uses(64) {
		b.Run(use.name, func(b *testing.B) {
			b.SetBytes(64 * benchSize)
			b.ReportAllocs()
			w, n := newBenchWriter(io.Discard), 0
			use.frames(b, w)
			for b.Loop() {
				use.frames(b, w)
				commitTo(b, w)
				n++
			}
			b.ReportMetric(float64(w.Stored())/float64((n+1)*64), "stored-B/page")
		})
	}
}

// BenchmarkDecode reads segments of 40 such commits.
func BenchmarkDecode(b *testing.B) {
	for _, use := range uses(64) {
		b.Run(use.name, func(b *testing.B) {
			whole := encoded(b, use, 40)
			b.SetBytes(40 * 64 * benchSize)
			b.ReportAllocs()
			for b.Loop() {
				r, err := segment.NewReader(bytes.NewReader(whole), int64(len(whole)))
				for err == nil {
					_, err = r.Next()
				}
				if err != io.EOF { //nolint:errorlint // bare by contract
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSegment makes whole segments of one commit, as they come with a short
// sync interval, and reads them.
func BenchmarkSegment(b *testing.B) {
	for _, frames := range []int{1, 10, 100} {
		one := use{"delta", newWorkload(frames).delta}
		b.Run(fmt.Sprintf("frames=%d/encode", frames), func(b *testing.B) {
			b.SetBytes(int64(frames) * benchSize)
			b.ReportAllocs()
			for b.Loop() {
				encoded(b, one, 1)
			}
		})
		b.Run(fmt.Sprintf("frames=%d/decode", frames), func(b *testing.B) {
			whole := encoded(b, one, 1)
			b.SetBytes(int64(frames) * benchSize)
			b.ReportAllocs()
			for b.Loop() {
				r, err := segment.NewReader(bytes.NewReader(whole), int64(len(whole)))
				for err == nil {
					_, err = r.Next()
				}
				if err != io.EOF { //nolint:errorlint // bare by contract
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkXOR is the part of Writer.Delta that makes the difference of two images,
// and what a restore does to undo it.
func BenchmarkXOR(b *testing.B) {
	for _, size := range []int{512, 4096, 65536} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			image, prev, dst := make([]byte, size), make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				subtle.XORBytes(dst, image, prev)
			}
		})
	}
}
