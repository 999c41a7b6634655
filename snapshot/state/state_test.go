package state_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

func TestTXID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		id           state.TXID
		hex, decimal string
	}{
		{0, "0000000000000000", "0"},
		{1, "0000000000000001", "1"},
		{77409, "0000000000012e61", "77409"},
		{1<<64 - 1, "ffffffffffffffff", "18446744073709551615"},
	}
	for _, tt := range tests {
		if diff := cmp.Diff([]string{tt.hex, tt.decimal}, []string{tt.id.Hex(), tt.id.String()}); diff != "" {
			t.Errorf("TXID %d (-want +got):\n%s", uint64(tt.id), diff)
		}
		if got, err := state.ParseHex(tt.hex); err != nil || got != tt.id {
			t.Errorf("ParseHex(%q) = %v, %v", tt.hex, got, err)
		}
	}
}

func TestParseHexRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "1", "000000000000001", "00000000000000001", "000000000000000g", "00000000000000AB",
		"+000000000000001", "-000000000000001", "0x00000000000001", "00000000000000_1", " 00000000000000a",
		"10000000000000000", "000000000000001 ",
	} {
		if id, err := state.ParseHex(s); err == nil {
			t.Errorf("ParseHex(%q) = %v, want an error", s, id)
		}
	}
}

func FuzzParseHex(f *testing.F) {
	f.Add("0000000000012e61")
	f.Add("00000000000000AB")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := state.ParseHex(s); err == nil && id.Hex() != s {
			t.Errorf("ParseHex(%q) = %v, which is %q", s, id, id.Hex())
		}
	})
}

func TestSumPage(t *testing.T) {
	t.Parallel()
	page := make([]byte, 512)
	if state.SumPage(1, page) == state.SumPage(2, page) {
		t.Error("equal pages at two places have one sum")
	}
	d := xxhash.NewWithSeed(7)
	_, _ = d.Write(page)
	if got := state.SumPage(7, page); got != state.Sum(d.Sum64()) {
		t.Errorf("sum %x is not xxh64 with the page number as seed", got)
	}
}

// AllocsPerRun counts the whole process, so this test is not parallel.
func TestSumPageDoesNotAllocate(t *testing.T) {
	page := make([]byte, 4096)
	var sum state.Sum
	if n := testing.AllocsPerRun(100, func() { sum += state.SumPage(9, page) }); n != 0 {
		t.Errorf("SumPage allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { state.SumPages(512, 1, page) }); n != 0 {
		t.Errorf("SumPages allocates %v times for 8 pages", n)
	}
}

func TestChecksumString(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff("000000000000beef", state.Checksum(0xbeef).String()); diff != "" {
		t.Error(diff)
	}
}

const size = wal.MinPageSize

// page is a page with one of 256 contents; 0 is a page of zeros.
func page(fill byte) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = fill
	}
	return b
}

// compare checks everything that a table says against the pages it stands for.
func compare(t *rapid.T, table *state.Table, pages [][]byte) {
	t.Helper()
	var want state.Checksum
	var wire []byte
	for i, p := range pages {
		no := wal.PageNo(i + 1)
		sum := state.SumPage(no, p)
		if got := table.At(no); got != sum {
			t.Fatalf("page %v has sum %x, want %x", no, got, sum)
		}
		want += state.Checksum(sum)
		wire = binary.BigEndian.AppendUint64(wire, uint64(sum))
	}
	if table.Len() != uint32(len(pages)) || table.Checksum() != want || table.PageSize() != size {
		t.Fatalf("%d pages with checksum %v, want %d with %v", table.Len(), table.Checksum(), len(pages), want)
	}
	if table.At(0) != 0 || table.At(wal.PageNo(len(pages)+1)) != 0 {
		t.Fatal("a page that is not there has a sum")
	}
	if diff := cmp.Diff(wire, table.AppendBinary(nil, 0, table.Len())); diff != "" {
		t.Fatalf("binary form (-want +got):\n%s", diff)
	}
}

// TestTableModel drives a table and a plain slice of pages side by side.
func TestTableModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := state.NewTable(size)
		var pages [][]byte
		resize := func(n int) {
			for len(pages) < n {
				pages = append(pages, page(0))
			}
			pages = pages[:n:n]
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { compare(t, table, pages) },
			"set": func(t *rapid.T) {
				no := rapid.IntRange(1, 40).Draw(t, "page")
				p := page(rapid.Byte().Draw(t, "fill"))
				table.Set(wal.PageNo(no), state.SumPage(wal.PageNo(no), p))
				resize(max(no, len(pages)))
				pages[no-1] = p
			},
			"set no page": func(*rapid.T) { table.Set(0, 99) },
			"resize": func(t *rapid.T) {
				n := rapid.IntRange(0, 40).Draw(t, "pages")
				table.Resize(uint32(n))
				resize(n)
			},
			"replace by clone": func(*rapid.T) {
				old := table
				table = old.Clone()
				old.Set(45, 1)
				old.Set(1, 2)
			},
			"through binary": func(*rapid.T) {
				b := table.AppendBinary(nil, 0, table.Len())
				sums := make([]state.Sum, table.Len())
				for i := range sums {
					sums[i] = state.Sum(binary.BigEndian.Uint64(b[8*i:]))
				}
				table = state.TableOf(size, sums)
			},
		})
	})
}

// TestCloneAfterShrink looks for a clone that shares the room past its end.
func TestCloneAfterShrink(t *testing.T) {
	t.Parallel()
	table := state.NewTable(size)
	table.Set(5, 55)
	table.Resize(2)
	clone := table.Clone()
	table.Set(3, 33)
	clone.Set(3, 44)
	if diff := cmp.Diff([]state.Sum{33, 44}, []state.Sum{table.At(3), clone.At(3)}); diff != "" {
		t.Errorf("(-table +clone):\n%s", diff)
	}
}

func TestChecksumReplace(t *testing.T) {
	t.Parallel()
	table := state.NewTable(size)
	table.Set(1, 10)
	table.Set(2, 20)
	sum := state.Checksum(0).Replace(0, 10).Replace(0, 7).Replace(7, 20)
	if sum != table.Checksum() {
		t.Errorf("checksum %v by Replace, %v by Table", sum, table.Checksum())
	}
	if sum.Replace(10, 0).Replace(20, 0) != 0 {
		t.Error("what is left without pages is not 0")
	}
}

// TestLockPage takes the largest page size, where the lock-byte page has the
// smallest number.
func TestLockPage(t *testing.T) {
	t.Parallel()
	const large = wal.MaxPageSize
	lock := large.LockPage()
	zero := make([]byte, large)

	table := state.NewTable(large)
	table.Resize(uint32(lock) + 1)
	before := table.Checksum()
	table.Set(lock, 4711)
	if table.At(lock) != 0 || table.Checksum() != before {
		t.Errorf("lock-byte page has sum %x", table.At(lock))
	}
	if got := table.At(lock - 1); got != state.SumPage(lock-1, zero) {
		t.Errorf("the page before has sum %x", got)
	}
	if got := table.At(lock + 1); got != state.SumPage(lock+1, zero) {
		t.Errorf("the page after has sum %x", got)
	}
	table.Resize(uint32(lock))
	table.Resize(uint32(lock) - 1)
	table.Set(lock, 4711)
	if table.Len() != uint32(lock) || table.At(lock) != 0 {
		t.Errorf("growing by the lock-byte page: %d pages, sum %x", table.Len(), table.At(lock))
	}
}

func BenchmarkSumPage(b *testing.B) {
	for _, size := range []int{512, 4096, 65536} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var sum state.Sum
			for b.Loop() {
				sum += state.SumPage(9, p)
			}
		})
	}
}

func BenchmarkSumPages(b *testing.B) {
	for _, size := range []wal.PageSize{512, 4096, 65536} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			pages := make([]byte, 1<<20)
			b.SetBytes(int64(len(pages)))
			b.ReportAllocs()
			var sum state.Checksum
			for b.Loop() {
				sum += state.SumPages(size, 1, pages)
			}
		})
	}
}
