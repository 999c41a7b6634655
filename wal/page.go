package wal

import (
	"encoding/binary"
	"strconv"
)

// PageNo is the number of a database page, counted from 1. 0 is no page.
type PageNo uint32

// String gives the decimal form.
func (n PageNo) String() string { return strconv.FormatUint(uint64(n), 10) }

// PageSize is the size of a database's pages in bytes: a power of two from 512
// to 65536.
type PageSize uint32

// The smallest and the largest page size.
const (
	MinPageSize PageSize = 512
	MaxPageSize PageSize = 65536
)

// StatedPageSize is the page size that a database's header states (fileformat2, section
// 1.3.2), which need not be Valid. The header must have 18 bytes at least.
func StatedPageSize(header []byte) PageSize {
	size := PageSize(binary.BigEndian.Uint16(header[16:]))
	if size == 1 { // what does not fit into two bytes
		return MaxPageSize
	}
	return size
}

// Valid reports whether SQLite allows the size.
func (s PageSize) Valid() bool {
	return s >= MinPageSize && s <= MaxPageSize && s&(s-1) == 0
}

// lockByte is the offset of the lock-byte page (fileformat2, section 1.3).
const lockByte = 1 << 30

// LockPage is the number of the page at offset 2^30. SQLite never stores
// anything there: byte-range locks use its offsets on some systems.
func (s PageSize) LockPage() PageNo { return PageNo(lockByte/uint32(s)) + 1 }

// Offset is the place of a page in the database file.
func (s PageSize) Offset(no PageNo) int64 { return int64(no-1) * int64(s) }
