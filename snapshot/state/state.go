// Package state names a database's state and proves it: [TXID] numbers the
// commits of a replica's history, and [Checksum] is a 64-bit sum over every
// page of the database as it stood after one of them.
//
// The checksum of a state is the sum, modulo 2^64, of the [Sum] of every page
// except the lock-byte page. A sum can be updated when a commit replaces a
// page (subtract the old page's sum, add the new one's), needs no order, and
// so lets a restore be proven against what was committed without keeping any
// page around. [Table] holds the sums of all pages of one state.
package state

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"tidemark/wal"
)

// TXID is the number of a commit in a replica's history. The first state that
// a replica holds is 1 and there are no gaps; 0 means none. Object keys hold
// it as 16 hex digits ([TXID.Hex]), people see plain decimal ([TXID.String]).
type TXID uint64

// String gives the decimal form.
func (t TXID) String() string { return strconv.FormatUint(uint64(t), 10) }

// Hex gives the 16 lower-case hex digits that object keys hold; they sort as
// the numbers do.
func (t TXID) Hex() string { return fmt.Sprintf("%016x", uint64(t)) }

// ParseHex reads what [TXID.Hex] writes; nothing else is accepted.
func ParseHex(s string) (TXID, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || TXID(v).Hex() != s {
		return 0, fmt.Errorf("parse TXID %q: want 16 lower-case hex digits", s)
	}
	return TXID(v), nil
}

// Sum is the checksum of one page at its place: xxh64 over the page's bytes
// with the page number as seed, so that equal bytes at two places differ.
type Sum uint64

// SumPage computes the [Sum] of a page. It does not allocate.
func SumPage(no wal.PageNo, page []byte) Sum {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(no))
	_, _ = d.Write(page) // never fails
	return Sum(d.Sum64())
}

// SumPages adds up the sums of consecutive pages from first on, as they lie in a
// database file; the lock-byte page counts for nothing. It does not allocate.
func SumPages(size wal.PageSize, first wal.PageNo, pages []byte) (sum Checksum) {
	for no := first; len(pages) > 0; no, pages = no+1, pages[size:] {
		if no != size.LockPage() {
			sum = sum.Replace(0, SumPage(no, pages[:size]))
		}
	}
	return sum
}

// Checksum is the checksum of a whole state: the sum of its pages' Sums modulo
// 2^64. The zero value is that of a database without pages.
type Checksum uint64

// String gives 16 hex digits.
func (c Checksum) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// Replace gives the checksum after a page whose sum was old became now. A page
// that was not there before has an old sum of 0, one that goes a new sum of 0.
func (c Checksum) Replace(old, now Sum) Checksum { return c - Checksum(old) + Checksum(now) }

// Table holds the page sums of one state: entry i is the sum of page i+1, and
// 0 for the lock-byte page. It is not safe for concurrent use.
type Table struct {
	size wal.PageSize
	sums []Sum
	sum  Checksum
}

// zeros is a page that was never written. It is only read.
//
//nolint:gochecknoglobals // there are thousands of tables
var zeros [wal.MaxPageSize]byte

// NewTable gives the table of an empty database with the page size.
func NewTable(size wal.PageSize) *Table {
	return &Table{size: size}
}

// TableOf gives the table whose entries are sums, of which it takes ownership.
func TableOf(size wal.PageSize, sums []Sum) *Table {
	t := NewTable(size)
	t.sums = sums
	for _, s := range sums {
		t.sum += Checksum(s)
	}
	return t
}

// PageSize is the database's page size.
func (t *Table) PageSize() wal.PageSize { return t.size }

// Len is the number of pages.
func (t *Table) Len() uint32 { return uint32(len(t.sums)) }

// Checksum is that of the whole state.
func (t *Table) Checksum() Checksum { return t.sum }

// At is the sum of a page, or 0 for one past the end.
func (t *Table) At(no wal.PageNo) Sum {
	if no == 0 || uint32(no) > t.Len() {
		return 0
	}
	return t.sums[no-1]
}

// Set replaces the sum of a page. A page past the end makes the table grow;
// pages between the old end and it are taken to be zeros, as a file's hole is.
// A sum for the lock-byte page is ignored.
func (t *Table) Set(no wal.PageNo, sum Sum) {
	if no == 0 {
		return
	}
	if no == t.size.LockPage() {
		t.grow(uint32(no))
		return
	}
	if uint32(no) > t.Len() {
		t.grow(uint32(no) - 1)
		t.sums = append(t.sums, 0)
	}
	t.sum = t.sum.Replace(t.sums[no-1], sum)
	t.sums[no-1] = sum
}

// Resize makes the database n pages long: pages past n are forgotten, new ones
// are zeros.
func (t *Table) Resize(n uint32) {
	if n > t.Len() {
		t.grow(n)
		return
	}
	for _, s := range t.sums[n:] {
		t.sum -= Checksum(s)
	}
	t.sums = t.sums[:n]
}

func (t *Table) grow(n uint32) {
	lock := t.size.LockPage()
	for no := wal.PageNo(t.Len() + 1); uint32(no) <= n; no++ {
		if no == lock {
			t.sums = append(t.sums, 0)
			continue
		}
		s := SumPage(no, zeros[:t.size])
		t.sums = append(t.sums, s)
		t.sum += Checksum(s)
	}
}

// Clone gives an independent copy.
func (t *Table) Clone() *Table {
	c := *t
	c.sums = append([]Sum(nil), t.sums...)
	return &c
}

// AppendBinary appends the sums, 8 bytes each, big-endian, in page order, for
// pages [from, to) counted from 0.
func (t *Table) AppendBinary(b []byte, from, to uint32) []byte {
	for _, s := range t.sums[from:to] {
		b = binary.BigEndian.AppendUint64(b, uint64(s))
	}
	return b
}
