package wal_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tidemark/wal"
)

func TestExtendIsTheReference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.SampledFrom(orders()).Draw(t, "order")
		from := wal.Checksum{S0: rapid.Uint32().Draw(t, "s0"), S1: rapid.Uint32().Draw(t, "s1")}
		b := rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "bytes")
		want := naiveSum(order, from, b)
		if got := from.Extend(order, b); got != want {
			t.Fatalf("%d bytes: %v, want %v", len(b), got, want)
		}
		cut := 8 * rapid.IntRange(0, len(b)/8).Draw(t, "cut")
		if got := from.Extend(order, b[:cut]).Extend(order, b[cut:]); got != want {
			t.Fatalf("%d bytes cut at %d: %v, want %v", len(b), cut, got, want)
		}
	})
}

// Lengths around the unrolled loop, and the rest that does not count.
func TestExtendEveryLength(t *testing.T) {
	t.Parallel()
	b := make([]byte, 200)
	for i := range b {
		b[i] = byte(251 * (i + 1))
	}
	for _, order := range orders() {
		for n := range b {
			from := wal.Checksum{S0: 3, S1: 0xfffffff0}
			if got, want := from.Extend(order, b[:n]), naiveSum(order, from, b[:n]); got != want {
				t.Errorf("order %d, %d bytes: %v, want %v", order, n, got, want)
			}
		}
	}
}

func TestExtendByHand(t *testing.T) {
	t.Parallel()
	b := []byte{0, 0, 0, 1, 0, 0, 0, 2}
	tests := map[wal.ByteOrder]wal.Checksum{
		wal.BigEndian:    {S0: 31, S1: 53},                 // 1+10+20, 2+20+31
		wal.LittleEndian: {S0: 0x0100001e, S1: 0x03000032}, // the same with 1<<24 and 2<<24
	}
	for order, want := range tests {
		if got := (wal.Checksum{S0: 10, S1: 20}).Extend(order, b); got != want {
			t.Errorf("order %d: %v, want %v", order, got, want)
		}
	}
}

func TestChecksumString(t *testing.T) {
	t.Parallel()
	if got, want := (wal.Checksum{S0: 0xab, S1: 1}).String(), "000000ab00000001"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Not parallel: AllocsPerRun counts the whole process.
func TestExtendDoesNotAllocate(t *testing.T) {
	b := make([]byte, 4096)
	for _, order := range orders() {
		var c wal.Checksum
		if n := testing.AllocsPerRun(100, func() { c = c.Extend(order, b) }); n != 0 {
			t.Errorf("order %d: %v allocations", order, n)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	for order, name := range map[wal.ByteOrder]string{wal.LittleEndian: "little", wal.BigEndian: "big"} {
		for _, size := range []int{512, 4096, 65536} {
			b.Run(fmt.Sprintf("order=%s/size=%d", name, size), func(b *testing.B) {
				buf := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				var c wal.Checksum
				for b.Loop() {
					c = c.Extend(order, buf)
				}
			})
		}
	}
}
