//nolint:testpackage // what applies the log is nobody else's business
package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

const (
	benchSize    = 4096
	benchPages   = 16384 // of the database: more than pages holds at once
	benchCommits = 64
	benchFrames  = 64 // a commit
)

// benchLog is a segment of commits that change pages of the first spread ones, as
// deltas or as images of rows or of noise.
func benchLog(tb testing.TB, kind string, spread int) []byte {
	tb.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	rows := func(b []byte) []byte {
		for len(b) < benchSize {
			b = fmt.Appendf(b, "%08x|station %d|water level %d mm|", rng.Uint32(), rng.IntN(50), rng.IntN(5000))
		}
		return b[:benchSize]
	}
	noise := func(b []byte, n int) []byte {
		for range n {
			b = append(b, byte(rng.Uint32()))
		}
		return b
	}
	zeros, buf := make([]byte, benchSize), make([]byte, 0, 2*benchSize)
	var log bytes.Buffer
	w := segment.NewWriter(&log, segment.Header{PageSize: benchSize, First: 1, PagesBefore: benchPages})
	for range benchCommits {
		for range benchFrames {
			no, err := wal.PageNo(1+rng.IntN(spread)), error(nil)
			switch kind {
			case "full":
				err = w.Full(no, rows(buf[:0]))
			case "noise":
				err = w.Full(no, noise(buf[:0], benchSize))
			case "delta": // 50 bytes somewhere
				b := append(noise(append(buf[:0], zeros[:rng.IntN(benchSize-50)]...), 50), zeros...)
				err = w.Delta(no, b[:benchSize], zeros)
			}
			if err != nil {
				tb.Fatal(err)
			}
		}
		if _, err := w.Commit(segment.Commit{Pages: benchPages}); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := w.Close(func(wal.PageNo) state.Sum { return 0 }); err != nil {
		tb.Fatal(err)
	}
	return log.Bytes()
}

// benchTarget is a file of zeros to apply to.
func benchTarget(tb testing.TB) *pages {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "output.db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(benchPages * benchSize); err != nil {
		tb.Fatal(err)
	}
	return &pages{f: f, size: benchSize, held: map[wal.PageNo][]byte{}, length: benchPages}
}

// applyAll applies a whole log and writes what is held.
func (p *pages) applyAll(log []byte) error {
	r, err := segment.NewReader(bytes.NewReader(log), int64(len(log)))
	for err == nil {
		var rec segment.Record
		if rec, err = r.Next(); err != nil {
			break
		}
		if c := rec.Commit; c.TXID != 0 {
			err = p.commit(c.Pages)
		} else {
			err = p.apply(rec)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return p.flush()
}

// BenchmarkApply decodes a log and applies it to a file, as a restore does: updates
// all over the database, and in a part of it that is held in memory.
func BenchmarkApply(b *testing.B) {
	for _, kind := range []string{"full", "delta", "noise"} {
		for _, spread := range []int{100, benchPages} {
			b.Run(fmt.Sprintf("%s/pages=%d", kind, spread), func(b *testing.B) {
				log, p := benchLog(b, kind, spread), benchTarget(b)
				b.SetBytes(benchCommits * benchFrames * benchSize)
				b.ReportAllocs()
				for b.Loop() {
					if err := p.applyAll(log); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestApplyDoesNotAllocate: what a log and a flush take is there already, but for a
// few things of the log's. AllocsPerRun counts the whole process: not parallel.
func TestApplyDoesNotAllocate(t *testing.T) {
	for _, kind := range []string{"full", "delta"} {
		log, p := benchLog(t, kind, 1000), benchTarget(t)
		run := func() {
			if err := p.applyAll(log); err != nil {
				t.Fatal(err)
			}
		}
		run()
		run()
		if n := testing.AllocsPerRun(3, run); n > 50 {
			t.Errorf("%d frames, %s: %v allocations", benchCommits*benchFrames, kind, n)
		}
	}
}
