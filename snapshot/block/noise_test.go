package block_test

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark/snapshot/block"
)

// codec encodes raw, decodes it again, and tells how it was stored.
func codec(tb rapid.TB, raw []byte) block.Header {
	tb.Helper()
	h, back, rest, err := block.Cut(nil, block.Append(nil, 1, raw))
	if err != nil || len(rest) > 0 || !bytes.Equal(back, raw) {
		tb.Fatalf("%d bytes came back as %d and %d, error %v", len(raw), len(back), len(rest), err)
	}
	return h
}

// TestNoiseIsStored has what LZ4 would save little on, and what it must not be kept
// from.
func TestNoiseIsStored(t *testing.T) {
	t.Parallel()
	const all = block.MaxRaw
	rng := rand.New(rand.NewPCG(3, 4))
	shifted := func(unit []byte) []byte {
		// Rows in between, so that no copy lies at the place in a page of another.
		var b []byte
		for len(b) < all {
			b = append(append(b, drawn(rng, rng.IntN(200))...), unit...)
		}
		return b[:all]
	}
	tests := []struct {
		name string
		raw  []byte
		want block.Codec
	}{
		{"noise", drawn(rng, all), block.Stored},
		{"a hundredth zeros", append(drawn(rng, all-all/100), make([]byte, all/100)...), block.Stored},
		{"a short one with zeros", append(drawn(rng, 16<<10-200), make([]byte, 200)...), block.Stored},
		{"too short for a look", append(drawn(rng, 8<<10-200), make([]byte, 200)...), block.LZ4},
		{"a tenth zeros", append(drawn(rng, all-all/10), make([]byte, all/10)...), block.LZ4},
		{"zeros in each page", zeroed(drawn(rng, all), 400), block.LZ4},
		{"rows", rows(rng), block.LZ4},
		{"deltas", deltas(rng), block.LZ4},
		{"half rows", slices.Concat(rows(rng)[:all/2], drawn(rng, all/2)), block.LZ4},
		{"base64 in pages", zeroed([]byte(base64.StdEncoding.EncodeToString(drawn(rng, all)))[:all], 200), block.LZ4},
		{"one page again and again", bytes.Repeat(drawn(rng, 4096), all/4096), block.LZ4},
		{"one picture of 6,000 bytes again and again", shifted(drawn(rng, 6000)), block.LZ4},
		{"one picture of 30,000 bytes again and again", shifted(drawn(rng, 30_000)), block.LZ4},
		{"64 KiB of noise twice", bytes.Repeat(drawn(rng, 60_000), 2), block.LZ4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if h := codec(t, tt.raw); h.Codec != tt.want {
				t.Errorf("%d bytes are stored as %d with %v, want %v", h.Raw, h.Stored, h.Codec, tt.want)
			}
		})
	}
}

// zeroed clears the end of each page.
func zeroed(b []byte, n int) []byte {
	for page := range slices.Chunk(b, 4096) {
		clear(page[max(0, len(page)-n):])
	}
	return b
}

// TestMixedStaysSmall alternates blocks of rows and of pictures: rows must be
// stored as small as if there were no pictures, and pictures cost next to nothing.
func TestMixedStaysSmall(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 20 {
		if h := codec(t, rows(rng)); h.Codec != block.LZ4 || h.Stored > h.Raw/2 {
			t.Errorf("block %d, of rows: %+v", i, h)
		}
		if h := codec(t, pictures(rng)); h.Stored > h.Raw || h.Stored < h.Raw-h.Raw/20 {
			t.Errorf("block %d, of pictures: %+v", i, h)
		}
	}
}

// TestRepeatedNoise repeats a piece of noise, with any gap. It is no longer than
// what LZ4 is sure to see: in noise it takes longer and longer steps.
func TestRepeatedNoise(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		unit := drawn(rng, rapid.IntRange(1000, 8000).Draw(t, "unit"))
		gap := rapid.IntRange(0, 100).Draw(t, "gap")
		n := rapid.IntRange(4*len(unit)+16<<10, block.MaxRaw).Draw(t, "length")
		var b []byte
		for len(b) < n {
			b = append(append(b, unit...), drawn(rng, gap)...)
		}
		if h := codec(t, b[:n]); h.Codec != block.LZ4 {
			t.Fatalf("stored: %+v", h)
		}
	})
}

// TestAnyLengthComesBack is for lengths around which the look at a payload begins.
func TestAnyLengthComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		b := drawn(rng, rapid.IntRange(16<<10-100, 20<<10).Draw(t, "length"))
		from := rapid.IntRange(0, len(b)).Draw(t, "from")
		clear(b[from:rapid.IntRange(from, len(b)).Draw(t, "to")])
		codec(t, b)
	})
}

// FuzzAppend repeats what it is given until it is long enough for a look, and adds
// noise to it.
func FuzzAppend(f *testing.F) {
	f.Add([]byte("low tide"), 0, uint64(1))
	f.Add([]byte{0}, 16<<10, uint64(2))
	f.Add(make([]byte, 100), 100_000, uint64(3))
	f.Fuzz(func(t *testing.T, unit []byte, n int, seed uint64) {
		raw := bytes.Repeat(unit, 20<<10/(len(unit)+1))
		codec(t, append(raw, drawn(rand.New(rand.NewPCG(seed, 0)), n&(1<<18-1))...))
	})
}
