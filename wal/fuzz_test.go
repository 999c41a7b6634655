package wal_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
)

// FuzzReader reads any bytes as a WAL that arrives in two parts. With sealed,
// the bytes are first made a WAL whose checksums hold, so that the fuzzer gets
// past them.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, sealed bool, cut uint) {
		if sealed {
			b = sealAll(b)
		}
		d := &wire{b: b}
		h, err := wal.ReadHeader(d)
		if want, ok := naiveHeader(b); ok != (err == nil) || ok && h != want {
			t.Fatalf("ReadHeader: %v, %v; naive: %v, %v", h, err, want, ok)
		}
		if err != nil {
			return
		}
		r := wal.NewReader(d, h, h.Start())
		d.b = b[:cut%uint(len(b)+1)]
		got := drain(t, r)
		if diff := cmp.Diff(naiveAll(d.b, h, h.Start()), got); diff != "" {
			t.Fatalf("first %d bytes (-naive +got):\n%s", len(d.b), diff)
		}
		d.b = b
		got = append(got, drain(t, r)...)
		if diff := cmp.Diff(naiveAll(b, h, h.Start()), got); diff != "" {
			t.Fatalf("(-naive +got):\n%s", diff)
		}
		for i, c := range got {
			if rest := drain(t, wal.NewReader(d, h, c.End)); len(rest) != len(got)-i-1 {
				t.Fatalf("resumed after %d of %d: %d more", i+1, len(got), len(rest))
			}
		}
	})
}

// sealAll gives b a valid header, and valid salts and checksums to its frames
// but for those whose stored checksum begins with an odd byte.
func sealAll(b []byte) []byte {
	be := binary.BigEndian
	b = overlay(slices.Clone(b), 0, be.AppendUint32(nil, 0x377f0682|uint32(len(b)&1)))
	b = overlay(b, 4, be.AppendUint32(nil, 3007000))
	if len(b) < 32 {
		b = append(b, make([]byte, 32-len(b))...)
	}
	if size := wal.PageSize(be.Uint32(b[8:])); !slices.Contains(pageSizes(), size) {
		be.PutUint32(b[8:], 512)
	}
	h, _ := naiveHeader(seal(b))
	sum, size := h.Sum, 24+int(h.PageSize)
	for off := 32; off+size <= len(b); off += size {
		f := b[off : off+size]
		if f[16]&1 != 0 {
			continue
		}
		copy(f[8:16], b[16:24])
		sum = naiveSum(h.Order, naiveSum(h.Order, sum, f[:8]), f[24:])
		be.PutUint32(f[16:], sum.S0)
		be.PutUint32(f[20:], sum.S1)
	}
	return b
}
