package block_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"tidemark/snapshot/block"
)

// kinds are payloads of the kinds that there are, some of each: with the same one
// again and again a processor would learn what comes. All are what page blocks are in
// length.
func kinds() map[string][][]byte {
	makers := map[string]func(*rand.Rand) []byte{
		"rows":     rows,
		"noise":    func(rng *rand.Rand) []byte { return drawn(rng, block.MaxRaw) },
		"pictures": pictures,
		"mixed": func(rng *rand.Rand) []byte {
			return slices.Concat(rows(rng)[:block.MaxRaw/2], pictures(rng)[:block.MaxRaw/2])
		},
		"deltas": deltas,
	}
	all := map[string][][]byte{}
	for name, maker := range makers {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 16 {
			all[name] = append(all[name], maker(rng))
		}
	}
	return all
}

func drawn(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// rows are pages of a table, each with some room left.
func rows(rng *rand.Rand) []byte {
	var b []byte
	for len(b) < block.MaxRaw {
		end := len(b) + 4096 - rng.IntN(300)
		for len(b) < end {
			b = fmt.Appendf(b, "%c%08x|station %d|water level %d mm|", rng.IntN(256), rng.Uint32(), rng.IntN(50), rng.IntN(5000))
		}
		b = append(b[:end], make([]byte, (4096-end%4096)%4096)...)
	}
	return b[:block.MaxRaw]
}

// pictures lie on pages of their own, the last of which is not full.
func pictures(rng *rand.Rand) []byte {
	var b []byte
	for len(b) < block.MaxRaw {
		b = append(b, drawn(rng, 30_000+rng.IntN(100_000))...)
		b = append(b, make([]byte, 4096-len(b)%4096)...)
	}
	return b[:block.MaxRaw]
}

// deltas are pages of which a few bytes have changed.
func deltas(rng *rand.Rand) []byte {
	b := make([]byte, block.MaxRaw)
	for page := range slices.Chunk(b, 4096) {
		copy(page[rng.IntN(4000):], drawn(rng, 50))
	}
	return b
}

func BenchmarkAppend(b *testing.B) {
	all := kinds()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.Run(name, func(b *testing.B) {
			dst, i, stored := make([]byte, 0, 2*block.MaxRaw), 0, 0
			b.SetBytes(block.MaxRaw)
			b.ReportAllocs()
			for b.Loop() {
				dst = block.Append(dst[:0], 1, all[name][i%16])
				i, stored = i+1, stored+len(dst)
			}
			b.ReportMetric(float64(stored)/float64(i)/block.MaxRaw, "size")
		})
	}
}

func BenchmarkCut(b *testing.B) {
	all := kinds()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.Run(name, func(b *testing.B) {
			var stored [][]byte
			for _, raw := range all[name] {
				stored = append(stored, block.Append(nil, 1, raw))
			}
			var out []byte
			b.SetBytes(block.MaxRaw)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var err error
				if _, out, _, err = block.Cut(out, stored[i%16]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCopy is what a block costs at least: a copy.
func BenchmarkCopy(b *testing.B) {
	all, dst := kinds()["noise"], make([]byte, block.MaxRaw)
	b.SetBytes(block.MaxRaw)
	for i := 0; b.Loop(); i++ {
		copy(dst, all[i%16])
	}
	if !bytes.Contains(slices.Concat(all...), dst) {
		b.Fatal("what was copied is not there")
	}
}
