package scan

import (
	"testing"

	"pgregory.net/rapid"

	"tidemark/wal"
)

func drawSum(t *rapid.T, name string) wal.Checksum {
	return wal.Checksum{S0: rapid.Uint32().Draw(t, name+"0"), S1: rapid.Uint32().Draw(t, name+"1")}
}

// Whatever lies between, a leap gives what reading it would.
func TestLeap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]wal.PageSize{512, 1024, 2048}).Draw(t, "size")
		order := rapid.SampledFrom([]wal.ByteOrder{wal.LittleEndian, wal.BigEndian}).Draw(t, "order")
		frame := make([]byte, wal.FrameHeaderSize+int(size))
		copy(frame, rapid.SliceOfN(rapid.Byte(), 0, len(frame)).Draw(t, "bytes"))
		a, b := drawSum(t, "a"), drawSum(t, "b")
		l := newLeap(size)
		endA, endB := extend(a, order, frame), extend(b, order, frame)
		if got := l.from(b, a, endA); got != endB {
			t.Fatalf("forward: %v, want %v", got, endB)
		}
		if got := l.to(endB, a, endA); got != b {
			t.Fatalf("back: %v, want %v", got, b)
		}
	})
}

func TestSolve(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := wal.Header{
			Order:    rapid.SampledFrom([]wal.ByteOrder{wal.LittleEndian, wal.BigEndian}).Draw(t, "order"),
			PageSize: rapid.SampledFrom([]wal.PageSize{512, 1024, 4096, 8192, 65536}).Draw(t, "size"),
			Sequence: rapid.Uint32().Draw(t, "sequence"),
			Salts:    wal.Salts{Salt1: rapid.Uint32().Draw(t, "salt1"), Salt2: rapid.Uint32().Draw(t, "salt2")},
		}
		h, err := wal.ParseHeader(h.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		want := h.Sequence
		h.Sequence = 0
		if got, ok := solve(h, h.Sum); !ok || got != want {
			t.Fatalf("sequence %d, %v, want %d", got, ok, want)
		}
		h.PageSize = wal.PageSize(uint32(h.PageSize) ^ 3<<9)
		if _, ok := solve(h, h.Sum); ok {
			t.Fatal("another page size passes")
		}
	})
}

// What the package comment says of the checksum: damage within 8 bytes is seen, two
// of the highest bits 24 bytes apart are not.
func TestBlindSpot(t *testing.T) {
	t.Parallel()
	frame := make([]byte, wal.FrameHeaderSize+512)
	want := extend(wal.Checksum{}, wal.BigEndian, frame)
	for at := 24; at < len(frame); at++ {
		for bit := range 8 {
			frame[at] ^= 1 << bit
			if extend(wal.Checksum{}, wal.BigEndian, frame) == want {
				t.Fatalf("bit %d of byte %d is not seen", bit, at)
			}
			frame[at] ^= 1 << bit
		}
	}
	frame[32] ^= 0x80
	frame[32+24] ^= 0x80
	if extend(wal.Checksum{}, wal.BigEndian, frame) != want {
		t.Error("the checksum is better than the package comment says")
	}
}
