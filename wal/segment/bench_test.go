package segment_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"tidemark/wal"
	"tidemark/wal/segment"
)

// workload is pages that look like a table's: short records of few words, and
// the same pages with 50 bytes changed.
type workload struct {
	before, after [][]byte
}

const benchSize = 4096

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

func commitTo(tb testing.TB, s *segment.Writer) {
	tb.Helper()
	if _, err := s.Commit(segment.Commit{Pages: 64}); err != nil {
		tb.Fatal(err)
	}
}

func newBenchWriter(w io.Writer) *segment.Writer {
	return segment.NewWriter(w, segment.Header{PageSize: benchSize, First: 1})
}

// TestFramesDoNotAllocate covers more than a block in each run, so that blocks
// count as well. AllocsPerRun counts the whole process: not parallel.
func TestFramesDoNotAllocate(t *testing.T) {
	load := newWorkload(80)
	for name, use := range map[string]func(testing.TB, *segment.Writer){"full": load.full, "delta": load.delta} {
		w := newBenchWriter(io.Discard)
		use(t, w)
		if n := testing.AllocsPerRun(10, func() { use(t, w) }); n != 0 {
			t.Errorf("80 calls of Writer, %s, allocate %v times", name, n)
		}

		var b bytes.Buffer
		w = newBenchWriter(&b)
		for range 25 {
			use(t, w)
		}
		commitTo(t, w)
		if _, err := w.Close(noSums); err != nil {
			t.Fatal(err)
		}
		r, err := segment.NewReader(&b, int64(b.Len()))
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
		if n := testing.AllocsPerRun(20, next); n != 0 {
			t.Errorf("80 calls of Reader.Next, %s, allocate %v times", name, n)
		}
	}
}

func benchEncode(b *testing.B, frames int, encode func(testing.TB, *segment.Writer)) {
	b.Helper()
	b.SetBytes(int64(frames) * benchSize)
	b.ReportAllocs()
	w, n := newBenchWriter(io.Discard), 0
	encode(b, w)
	for b.Loop() {
		encode(b, w)
		commitTo(b, w)
		n++
	}
	b.ReportMetric(float64(w.Stored())/float64((n+1)*frames), "stored-B/page")
}

func BenchmarkEncodeFull(b *testing.B) { benchEncode(b, 64, newWorkload(64).full) }

func BenchmarkEncodeDelta(b *testing.B) { benchEncode(b, 64, newWorkload(64).delta) }

func BenchmarkDecode(b *testing.B) {
	load := newWorkload(64)
	for name, use := range map[string]func(testing.TB, *segment.Writer){"full": load.full, "delta": load.delta} {
		b.Run(name, func(b *testing.B) {
			var buf bytes.Buffer
			w := newBenchWriter(&buf)
			for range 40 {
				use(b, w)
				commitTo(b, w)
			}
			if _, err := w.Close(noSums); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(40 * 64 * benchSize)
			b.ReportAllocs()
			for b.Loop() {
				r, err := segment.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
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
