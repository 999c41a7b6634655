package archive_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// BenchmarkJoin joins 64 segments of updates at random places of a table, and
// tells the time for each MB of them; and what the pack has of their size.
func BenchmarkJoin(b *testing.B) {
	for _, commits := range []int{1, 20, 2000} {
		b.Run(fmt.Sprintf("%d commits each", commits), func(b *testing.B) { benchmarkJoin(b, commits) })
	}
}

func benchmarkJoin(b *testing.B, commits int) {
	b.Helper()
	const size, pages, segments = 4096, 2000, 64
	bucket := mem.New()
	a, err := archive.Create(b.Context(), bucket, size, time.UnixMilli(0))
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	db := make([][]byte, pages)
	for i := range db {
		for len(db[i]) < size {
			db[i] = fmt.Appendf(db[i], "%08x|station %d|water level %d mm|", rng.Uint32(), rng.IntN(50), rng.IntN(5000))
		}
		db[i] = db[i][:size]
	}
	local := map[state.TXID][]byte{}
	var run []archive.Segment
	var total int64
	first := state.TXID(1)
	for range segments {
		var out bytes.Buffer
		w := segment.NewWriter(&out, segment.Header{PageSize: size, Replica: a.Meta().Replica, First: first, PagesBefore: pages})
		for range commits {
			for range 2 {
				no := rng.IntN(pages)
				was := bytes.Clone(db[no])
				for at, i := rng.IntN(size-50), 0; i < 50; i++ {
					db[no][at+i] = byte(rng.Uint32())
				}
				if err := w.Delta(wal.PageNo(no+1), db[no], was); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := w.Commit(segment.Commit{Pages: pages}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Close(func(wal.PageNo) state.Sum { return state.Sum(rng.Uint64()) }); err != nil {
			b.Fatal(err)
		}
		run = append(run, archive.Segment{First: first, Size: int64(out.Len())})
		local[first] = out.Bytes()
		total += int64(out.Len())
		first = w.Last() + 1
	}
	opts := archive.JoinOptions{Writer: "bench", Local: func(s archive.Segment) io.ReadCloser { return io.NopCloser(bytes.NewReader(local[s.First])) }}
	b.SetBytes(total)
	var pack archive.Segment
	for b.Loop() {
		if pack, err = a.Join(b.Context(), run, first-1, opts); err != nil {
			b.Fatal(err)
		}
		if err := bucket.Delete(b.Context(), pack.Key()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/(float64(total)/1e6), "ms/MB")
	b.ReportMetric(float64(pack.Size)/float64(total), "size")
	b.ReportMetric(float64(total)/segments, "B/segment")
}
