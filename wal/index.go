package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// IndexSize is how many bytes at the beginning of a wal-index (the -shm file)
// ParseIndex needs: two copies of the header.
const IndexSize = 2 * indexHeader

// indexHeader is the length of one copy, indexSummed that of what its checksum
// covers.
const (
	indexHeader = 48
	indexSummed = 40
)

// ErrIndex says that bytes are not the header of a wal-index that is in use. One
// that SQLite is just writing can look so for a moment.
var ErrIndex = errors.New("not a valid wal-index header")

// Index is the header of a wal-index: what SQLite's connections tell each other
// about the WAL. See "walformat", section 2.1, and struct WalIndexHdr in wal.c.
type Index struct {
	// Changes counts transactions, modulo 2^32: each commit adds 1, in every
	// generation of the WAL. It begins anew when SQLite recovers the wal-index,
	// as it does after a crash of the application and when nobody had the
	// database open.
	Changes uint32
	// Frames is the number of frames of the WAL that count: those up to the last
	// commit.
	Frames uint32
	// Pages is the length of the database at that commit.
	Pages uint32
	// Salts name the WAL's generation. They change before the WAL file does: a
	// generation without frames is yet to be written.
	Salts Salts
}

// ParseIndex decodes the first IndexSize bytes of a wal-index, which is in the
// byte order of the machine that uses it. Every error wraps ErrIndex.
func ParseIndex(b []byte) (Index, error) {
	if len(b) < IndexSize {
		return Index{}, fmt.Errorf("%w: %d bytes, want %d", ErrIndex, len(b), IndexSize)
	}
	first, second := b[:indexHeader], b[indexHeader:IndexSize]
	if string(first) != string(second) {
		return Index{}, fmt.Errorf("%w: its two copies differ", ErrIndex)
	}
	order := LittleEndian
	var native binary.ByteOrder = binary.LittleEndian
	if native.Uint32(first) != version {
		order, native = BigEndian, binary.BigEndian
	}
	if v := native.Uint32(first); v != version {
		return Index{}, fmt.Errorf("%w: version %d", ErrIndex, v)
	}
	if first[12] == 0 {
		return Index{}, fmt.Errorf("%w: it is not in use", ErrIndex)
	}
	got, want := (Checksum{}).Extend(order, first[:indexSummed]), Checksum{native.Uint32(first[indexSummed:]), native.Uint32(first[indexSummed+4:])}
	if got != want {
		return Index{}, fmt.Errorf("%w: checksum %v, stored %v", ErrIndex, got, want)
	}
	return Index{
		Changes: native.Uint32(first[8:]),
		Frames:  native.Uint32(first[16:]),
		Pages:   native.Uint32(first[20:]),
		// These are copied from the WAL's header as they are.
		Salts: Salts{binary.BigEndian.Uint32(first[32:]), binary.BigEndian.Uint32(first[36:])},
	}, nil
}

// CopiedAt and AttemptedAt are where a wal-index tells, in 4 bytes each, how many
// frames of the WAL's generation are in the database file, and how many somebody
// has begun to copy there. Both are 0 when the WAL restarts; when SQLite recovers
// the wal-index it takes all frames for begun. See struct WalCkptInfo in wal.c;
// versions before 3.16 leave the second at 0. Locks lie between the two, so that
// they can't be read together everywhere.
const (
	CopiedAt    = IndexSize
	AttemptedAt = IndexSize + 32
)
