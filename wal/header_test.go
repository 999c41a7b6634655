package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/wal"
)

// seal writes the right checksum into a header's bytes.
func seal(b []byte) []byte {
	c := naiveSum(wal.ByteOrder(b[3]&1), wal.Checksum{}, b[:24])
	binary.BigEndian.PutUint32(b[24:], c.S0)
	binary.BigEndian.PutUint32(b[28:], c.S1)
	return b
}

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		for _, size := range pageSizes() {
			t.Run(fmt.Sprintf("order=%d/size=%d", order, size), func(t *testing.T) {
				t.Parallel()
				h := wal.Header{Order: order, PageSize: size, Sequence: 9, Salts: wal.Salts{Salt1: 0xcafe, Salt2: 1<<32 - 1}}
				b := h.AppendTo([]byte("kept"))
				if string(b[:4]) != "kept" || len(b) != 4+wal.HeaderSize {
					t.Fatalf("AppendTo gave %d bytes: %x", len(b), b)
				}
				got, err := wal.ParseHeader(b[4:])
				if err != nil {
					t.Fatal(err)
				}
				want, ok := naiveHeader(b[4:])
				if !ok {
					t.Fatalf("not a header: %x", b[4:])
				}
				h.Sum = want.Sum
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("ParseHeader (-naive +got):\n%s", diff)
				}
				if diff := cmp.Diff(h, got); diff != "" {
					t.Errorf("ParseHeader (-written +got):\n%s", diff)
				}
				read, err := wal.ReadHeader(bytes.NewReader(b[4:]))
				if err != nil || read != got {
					t.Errorf("ReadHeader: %v, %v, want %v", read, err, got)
				}
			})
		}
	}
}

func TestHeaderRoundTripAny(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), wal.HeaderSize, wal.HeaderSize).Draw(t, "bytes")
		binary.BigEndian.PutUint32(b, 0x377f0682|uint32(b[3]&1))
		binary.BigEndian.PutUint32(b[4:], 3007000)
		binary.BigEndian.PutUint32(b[8:], uint32(rapid.SampledFrom(pageSizes()).Draw(t, "page size")))
		h, err := wal.ParseHeader(seal(b))
		if err != nil {
			t.Fatal(err)
		}
		if got := h.AppendTo(nil); !bytes.Equal(got, b) {
			t.Fatalf("AppendTo %x, want %x", got, b)
		}
	})
}

func TestBadHeader(t *testing.T) {
	t.Parallel()
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[at:], v)
			return seal(b)
		}
	}
	tests := map[string]func([]byte) []byte{
		"zeros":               func([]byte) []byte { return make([]byte, 32) },
		"a database file":     func([]byte) []byte { return []byte("SQLite format 3\x00, and 16 more bytes") },
		"magic of a journal":  put(0, 0xd9d505f9),
		"magic below":         put(0, 0x377f0681),
		"magic above":         put(0, 0x377f0684),
		"version 0":           put(4, 0),
		"version above":       put(4, 3007001),
		"WAL2":                put(4, 3021000),
		"page size 0":         put(8, 0),
		"page size 1":         put(8, 1), // how a database header writes 65536; a WAL does not
		"page size 256":       put(8, 256),
		"page size 513":       put(8, 513),
		"page size 4095":      put(8, 4095),
		"page size 12288":     put(8, 12288),
		"page size 131072":    put(8, 131072),
		"page size 2^31":      put(8, 1<<31),
		"salt without sum":    func(b []byte) []byte { b[16]++; return b },
		"first sum":           func(b []byte) []byte { b[27]++; return b },
		"second sum":          func(b []byte) []byte { b[28] ^= 0x80; return b },
		"other order's magic": func(b []byte) []byte { b[3] ^= 1; return b },
		"sums swapped": func(b []byte) []byte {
			return append(append(append([]byte(nil), b[:24]...), b[28:32]...), b[24:28]...)
		},
	}
	for name, spoil := range tests {
		for _, order := range orders() {
			t.Run(fmt.Sprintf("%s/order=%d", name, order), func(t *testing.T) {
				t.Parallel()
				h := wal.Header{Order: order, PageSize: 4096, Sequence: 1, Salts: wal.Salts{Salt1: 5, Salt2: 6}}
				b := spoil(h.AppendTo(nil))
				got, err := wal.ParseHeader(b)
				if !errors.Is(err, wal.ErrHeader) || got != (wal.Header{}) {
					t.Errorf("ParseHeader: %v, %v, want ErrHeader", got, err)
				}
				if _, err := wal.ReadHeader(bytes.NewReader(b)); !errors.Is(err, wal.ErrHeader) || errors.Is(err, io.EOF) {
					t.Errorf("ReadHeader: %v, want ErrHeader", err)
				}
			})
		}
	}
}

func TestEveryBitOfAHeaderCounts(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		b := wal.Header{Order: order, PageSize: 1024, Salts: wal.Salts{Salt1: 5, Salt2: 6}}.AppendTo(nil)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			if h, err := wal.ParseHeader(b); !errors.Is(err, wal.ErrHeader) {
				t.Errorf("order %d, bit %d flipped: %v, %v, want ErrHeader", order, bit, h, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestShortHeader(t *testing.T) {
	t.Parallel()
	b := wal.Header{PageSize: 512}.AppendTo(nil)
	for n := range b {
		if _, err := wal.ParseHeader(b[:n]); !errors.Is(err, wal.ErrHeader) {
			t.Errorf("ParseHeader of %d bytes: %v, want ErrHeader", n, err)
		}
		if _, err := wal.ReadHeader(bytes.NewReader(b[:n])); !errors.Is(err, io.EOF) || errors.Is(err, wal.ErrHeader) {
			t.Errorf("ReadHeader of %d bytes: %v, want io.EOF", n, err)
		}
	}
}

func TestReadHeaderErrors(t *testing.T) {
	t.Parallel()
	b := wal.Header{PageSize: 512}.AppendTo(nil)
	errDisk := errors.New("disk is gone")
	failing := source(func(p []byte, _ int64) (int, error) { return copy(p, b[:9]), errDisk })
	if _, err := wal.ReadHeader(failing); !errors.Is(err, errDisk) || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, errDisk)
	}
	// io.ReaderAt may give io.EOF along with the file's last bytes.
	whole := source(func(p []byte, _ int64) (int, error) { return copy(p, b), io.EOF })
	if _, err := wal.ReadHeader(whole); err != nil {
		t.Errorf("whole header with io.EOF: %v", err)
	}
}

func TestSaltsString(t *testing.T) {
	t.Parallel()
	if got, want := (wal.Salts{Salt1: 0x1f, Salt2: 0xdeadbeef}).String(), "0000001f-deadbeef"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := wal.ParseHeader(b)
		want, ok := naiveHeader(b)
		if ok != (err == nil) || err != nil && !errors.Is(err, wal.ErrHeader) {
			t.Fatalf("ParseHeader: %v; naive: %v", err, ok)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-naive +got):\n%s", diff)
		}
		if again := got.AppendTo(nil); !bytes.Equal(again, b[:wal.HeaderSize]) {
			t.Fatalf("AppendTo %x, want %x", again, b[:wal.HeaderSize])
		}
	})
}
