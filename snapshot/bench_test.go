package snapshot_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"tidemark/snapshot"
	"tidemark/wal"
)

// benchmarked are databases of 16 MiB: of rows, of blobs that don't compress, and
// of both, 60 pages of each in turn.
func benchmarked() []struct {
	name string
	*database
} {
	rng := rand.New(rand.NewPCG(11, 12))
	make16 := func(page func(no wal.PageNo) []byte) *database {
		d := newDatabase(4096, 4096)
		for no := wal.PageNo(1); uint32(no) <= d.header.Pages; no++ {
			d.pages[no] = page(no)
		}
		return d
	}
	rows := func(wal.PageNo) []byte {
		b := make([]byte, 0, 4096)
		for len(b) < 3800 {
			b = fmt.Appendf(b, "%c%08x|station %d|water level %d mm|", rng.IntN(256), rng.Uint32(), rng.IntN(50), rng.IntN(5000))
		}
		return b[:4096]
	}
	noise := func(wal.PageNo) []byte {
		b := make([]byte, 4096)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	mixed := func(no wal.PageNo) []byte {
		if no/60%2 == 0 {
			return rows(no)
		}
		return noise(no)
	}
	return []struct {
		name string
		*database
	}{{"rows", make16(rows)}, {"noise", make16(noise)}, {"mixed", make16(mixed)}}
}

func BenchmarkWrite(b *testing.B) {
	for _, d := range benchmarked() {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", d.name, workers), func(b *testing.B) {
				b.SetBytes(int64(d.header.Pages) * int64(d.header.PageSize))
				b.ReportAllocs()
				var sum snapshot.Summary
				for b.Loop() {
					d.asked = 0
					var err error
					if sum, err = snapshot.Write(b.Context(), io.Discard, d.header, d, snapshot.WriteOptions{Workers: workers}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(sum.Stored)/float64(d.header.Pages)/float64(d.header.PageSize), "size")
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	object := newDatabase(4096, 8192).fill().write(b, snapshot.WriteOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snapshot.Open(bytes.NewReader(object), int64(len(object))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeBlocks decodes all pages, in ranges of 16 blocks: one after
// another, and several at once.
func BenchmarkDecodeBlocks(b *testing.B) {
	for _, d := range benchmarked() {
		object := d.write(b, snapshot.WriteOptions{})
		r, err := snapshot.Open(bytes.NewReader(object), int64(len(object)))
		if err != nil {
			b.Fatal(err)
		}
		decode := func() {
			if err := decodeRanges(r, object, 16, func(wal.PageNo, []byte) error { return nil }); err != nil {
				b.Error(err)
			}
		}
		b.Run(d.name+"/serial", func(b *testing.B) {
			b.SetBytes(int64(d.header.Pages) * int64(d.header.PageSize))
			b.ReportAllocs()
			for b.Loop() {
				decode()
			}
		})
		b.Run(d.name+"/parallel", func(b *testing.B) {
			b.SetBytes(int64(d.header.Pages) * int64(d.header.PageSize))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					decode()
				}
			})
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, d := range benchmarked() {
		b.Run(d.name, func(b *testing.B) {
			object := d.write(b, snapshot.WriteOptions{})
			b.SetBytes(int64(d.header.Pages) * int64(d.header.PageSize))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := snapshot.Verify(bytes.NewReader(object)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
