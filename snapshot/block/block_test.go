package block_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot/block"
)

// noise gives n bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestAppendChoosesCodec(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		raw   []byte
		codec block.Codec
	}{
		{"empty", nil, block.Stored},
		{"one byte", []byte{7}, block.Stored},
		{"short", []byte("tide"), block.Stored},
		{"noise", noise(5000), block.Stored},
		{"zeros", make([]byte, 5000), block.LZ4},
		{"aim, zeros", make([]byte, block.MaxRaw), block.LZ4},
		{"limit, noise", noise(block.Limit), block.Stored},
		{"half noise", append(noise(3000), make([]byte, 3000)...), block.LZ4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := block.Append([]byte("before"), 3, tt.raw)
			if string(b[:6]) != "before" {
				t.Fatal("what stood before was overwritten")
			}
			h, raw, rest, err := block.Cut(nil, b[6:])
			if err != nil {
				t.Fatal(err)
			}
			if h.Kind != 3 || h.Codec != tt.codec || int(h.Raw) != len(tt.raw) || len(rest) != 0 {
				t.Errorf("header %+v with %d bytes left", h, len(rest))
			}
			if !bytes.Equal(raw, tt.raw) {
				t.Error("raw bytes differ")
			}
		})
	}
}

func TestAppendPanicsOverLimit(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	block.Append(nil, 1, make([]byte, block.Limit+1))
}

// TestEveryBitIsChecked flips each bit of small blocks in both codecs.
func TestEveryBitIsChecked(t *testing.T) {
	t.Parallel()
	for _, raw := range [][]byte{noise(40), make([]byte, 400)} {
		good := block.Append(nil, 1, raw)
		for i := range len(good) * 8 {
			bad := bytes.Clone(good)
			bad[i/8] ^= 1 << (i % 8)
			if _, _, _, err := block.Cut(nil, bad); !errors.Is(err, block.ErrCorrupt) {
				t.Errorf("bit %d of byte %d: error %v", i%8, i/8, err)
			}
			if _, _, err := block.NewReader(bytes.NewReader(bad), 0).Next(); !errors.Is(err, block.ErrCorrupt) {
				t.Errorf("bit %d of byte %d: reader's error %v", i%8, i/8, err)
			}
		}
	}
}

// craft makes a block whose sum is right whatever its fields say.
func craft(codec block.Codec, reserved byte, raw, stored uint32, payload []byte) []byte {
	b := make([]byte, block.HeaderSize)
	b[0], b[1], b[3] = 1, byte(codec), reserved
	binary.BigEndian.PutUint32(b[4:], raw)
	binary.BigEndian.PutUint32(b[8:], stored)
	sum := xxhash.Sum64(append(bytes.Clone(b[:16]), payload...))
	binary.BigEndian.PutUint64(b[16:], sum)
	return append(b, payload...)
}

func TestCorruptWithRightSum(t *testing.T) {
	t.Parallel()
	lz4 := []byte{0x1f, 0, 1, 0, 10, 0x50, 0, 0, 0, 0, 0} // 1 literal, a match of 29, 5 literals: 35 bytes
	if _, raw, _, err := block.Cut(nil, craft(block.LZ4, 0, 35, 11, lz4)); err != nil || len(raw) != 35 {
		t.Fatalf("%d bytes, error %v from the block that the cases below damage", len(raw), err)
	}
	tests := []struct {
		name string
		b    []byte
	}{
		{"empty", nil},
		{"header cut", craft(block.Stored, 0, 0, 0, nil)[:23]},
		{"reserved", craft(block.Stored, 1, 4, 4, []byte("tide"))},
		{"codec unknown", craft(2, 0, 4, 4, []byte("tide"))},
		{"stored lengths differ", craft(block.Stored, 0, 5, 4, []byte("tide"))},
		{"raw over limit", craft(block.LZ4, 0, block.Limit+1, 11, lz4)},
		{"both over limit", craft(block.Stored, 0, block.Limit+1, block.Limit+1, noise(block.Limit+1))},
		{"lengths of 4 GiB", craft(block.Stored, 0, 1<<32-1, 1<<32-1, nil)},
		{"lz4 empty", craft(block.LZ4, 0, 35, 0, nil)},
		{"lz4 not shorter", craft(block.LZ4, 0, 11, 11, lz4)},
		{"lz4 raw too long", craft(block.LZ4, 0, 36, 11, lz4)},
		{"lz4 raw too short", craft(block.LZ4, 0, 34, 11, lz4)},
		{"lz4 garbage", craft(block.LZ4, 0, 100, 11, bytes.Repeat([]byte{0xff}, 11))},
		{"payload cut", craft(block.Stored, 0, 4, 4, []byte("tide"))[:27]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, _, _, err := block.Cut(nil, tt.b); !errors.Is(err, block.ErrCorrupt) {
				t.Errorf("error %v, want ErrCorrupt", err)
			}
			_, _, err := block.NewReader(bytes.NewReader(tt.b), 100).Next()
			var place *block.Error
			if !errors.Is(err, block.ErrCorrupt) || !errors.As(err, &place) || place.Offset != 100 {
				t.Errorf("reader's error %v, want ErrCorrupt at offset 100", err)
			}
		})
	}
}

func TestDecodeChecksLengths(t *testing.T) {
	t.Parallel()
	b := block.Append(nil, 1, noise(64))
	h, err := block.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	hb, stored := b[:block.HeaderSize], b[block.HeaderSize:]
	huge := h
	huge.Raw, huge.Codec = 1<<31, block.LZ4
	for name, try := range map[string]func() ([]byte, error){
		"short header":   func() ([]byte, error) { return block.Decode(nil, h, hb[:8], stored) },
		"short payload":  func() ([]byte, error) { return block.Decode(nil, h, hb, stored[1:]) },
		"unparsed limit": func() ([]byte, error) { return block.Decode(nil, huge, hb, stored) },
	} {
		if raw, err := try(); !errors.Is(err, block.ErrCorrupt) || raw != nil {
			t.Errorf("%s: %d bytes, error %v", name, len(raw), err)
		}
	}
}

func TestDecodeUsesCapacity(t *testing.T) {
	t.Parallel()
	b := block.Append(nil, 1, noise(64))
	room := make([]byte, 3, 64)
	_, raw, _, err := block.Cut(room, b)
	if err != nil || &raw[0] != &room[0] {
		t.Errorf("result is not in dst's memory (error %v)", err)
	}
	_, raw, _, err = block.Cut(room[:3:63], b)
	if err != nil || &raw[0] == &room[0] {
		t.Errorf("result is in memory that is too small (error %v)", err)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		run := rapid.Custom(func(t *rapid.T) []byte {
			seed := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "seed")
			return bytes.Repeat(seed, rapid.IntRange(0, 100).Draw(t, "times"))
		})
		payloads := rapid.SliceOfN(run, 0, 8).Draw(t, "payloads")
		offset := rapid.Int64Range(0, 1<<40).Draw(t, "offset")

		var object []byte
		for i, raw := range payloads {
			object = block.Append(object, block.Kind(i), raw)
		}
		rest := object
		r := block.NewReader(bytes.NewReader(object), offset)
		for i, want := range payloads {
			before := r.Offset()
			h, raw, err := r.Next()
			if err != nil || h.Kind != block.Kind(i) || !bytes.Equal(raw, want) {
				t.Fatalf("block %d: header %+v, error %v", i, h, err)
			}
			if r.Offset() != before+h.Size() {
				t.Fatalf("block %d: offset went from %d to %d by a block of %d", i, before, r.Offset(), h.Size())
			}
			var h2 block.Header
			h2, raw, rest, err = block.Cut(raw, rest)
			if err != nil || !bytes.Equal(raw, want) || cmp.Diff(h, h2) != "" {
				t.Fatalf("block %d: cut %+v, error %v", i, h2, err)
			}
		}
		if _, _, err := r.NextOrEOF(); !isEOF(err) || len(rest) != 0 {
			t.Fatalf("after the last block: %v and %d bytes", err, len(rest))
		}
	})
}

func TestAppendIsDeterministic(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat(noise(300), 40)
	block.Append(nil, 1, noise(9000))
	first := block.Append(nil, 1, raw)
	if !bytes.Equal(first, block.Append(make([]byte, 0, 1<<20), 1, raw)) {
		t.Error("a block depends on the one before it")
	}
}

// AllocsPerRun counts the whole process, so this test is not parallel.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	if raced {
		t.Skip("the race detector empties pools now and then")
	}
	raw := append(noise(50_000), make([]byte, 50_000)...)
	dst := block.Append(nil, 1, raw)
	if n := testing.AllocsPerRun(20, func() { dst = block.Append(dst[:0], 1, raw) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	var out []byte
	decode := func() {
		var err error
		if _, out, _, err = block.Cut(out, dst); err != nil {
			t.Fatal(err)
		}
	}
	decode()
	if n := testing.AllocsPerRun(20, decode); n != 0 {
		t.Errorf("Cut allocates %v times", n)
	}
	src := bytes.NewReader(bytes.Repeat(dst, 30))
	r := block.NewReader(src, 0)
	next := func() {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	next()
	if n := testing.AllocsPerRun(20, next); n != 0 {
		t.Errorf("Next allocates %v times", n)
	}
}
