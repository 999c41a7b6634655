// Package snapshot encodes and decodes tidemark's snapshots: objects that hold
// page images of a database as of one commit. A full snapshot holds every
// page; an incremental one the pages changed since the snapshot at its base
// TXID. Both hold the page sums of the whole database, so that what is
// restored can be proven. [Write] makes a snapshot, [Open] reads one by ranges,
// [Verify] checks one from end to end.
//
// The lock-byte page (the page at offset 2^30, see [wal.PageSize.LockPage]) is
// never stored; its page sum is 0.
//
// # Format
//
// All integers are big-endian. An object is a header, blocks as described in
// package [tidemark/snapshot/block], and a trailer:
//
//	+--------+-------------+------------+-------------+---------+
//	| header | page blocks | sum blocks | index blocks| trailer |
//	+--------+-------------+------------+-------------+---------+
//
// The header says what the object is. The version is the first thing that a
// reader looks at after the magic; all else depends on it.
//
//	 0       2       4       6       8
//	+-------------------------------+
//	| magic "TIDESNAP"              |
//	+-------+-------+---------------+
//	|version| 0     | page size     |
//	+-------+-------+---------------+
//	| replica id                    |
//	|                               |
//	+-------------------------------+
//	| TXID                          |
//	+-------------------------------+
//	| base TXID, 0 for a full one   |
//	+---------------+---------------+
//	| pages of db   | 0             |
//	+---------------+---------------+
//	| commit time, unix ms (signed) |
//	+-------------------------------+
//	| xxh64 of the 64 bytes above   |
//	+-------------------------------+
//
// A page block (kind 1) holds up to 256 KiB of pages, and at least one, in
// ascending order. Its payload lists them as runs of consecutive pages; skip is
// the number of pages left out since the run before (since page 0 for the first
// run, so that it is the run's first page), and so never 0.
//
//	+--------------+--------------+----------------+- - -+-------------+- - -
//	| runs: uvarint| skip: uvarint| length: uvarint| ... | page images | ...
//	+--------------+--------------+----------------+- - -+-------------+- - -
//
// A sum block (kind 2) holds the [state.Sum] of 16384 pages, 8 bytes each, of
// fewer only at the end. An index block (kind 3) describes 8192 page blocks, of
// fewer only at the end. Page blocks follow each other from the header on, so
// their lengths (with the block header) give their offsets:
//
//	 0       2       4       6       8       10      12
//	+---------------+---------------+---------------+
//	| block length  | first page    | pages         |
//	+---------------+---------------+---------------+
//
// The trailer is read first by who reads ranges:
//
//	 0       2       4       6       8
//	+-------------------------------+
//	| offset of the sum blocks      |
//	+-------------------------------+
//	| offset of the index blocks    |
//	+---------------+---------------+
//	| page blocks   | 0             |
//	+---------------+---------------+
//	| state checksum                |
//	+-------------------------------+
//	| xxh64 of all bytes above      |
//	+-------------------------------+
//	| xxh64 of the 40 bytes above   |
//	+-------------------------------+
//	| magic "SNAPTIDE"              |
//	+-------------------------------+
//
// # Example
//
// A full snapshot of a database of two pages of 512 bytes:
//
//	00000000  54 49 44 45 53 4e 41 50  00 01 00 00 00 00 02 00  |TIDESNAP........|
//	00000010  74 69 64 65 6d 61 72 6b  20 65 78 61 6d 70 6c 65  |tidemark example|
//	00000020  00 00 00 00 00 00 01 02  00 00 00 00 00 00 00 00  |................|
//	00000030  00 00 00 02 00 00 00 00  00 00 01 8b cf e5 68 7b  |..............h{|
//	00000040  fe 64 dd 88 ed 0b df 51  01 01 00 00 00 00 04 03  |.d.....Q........|
//	00000050  00 00 00 39 00 00 00 00  96 26 21 b8 30 72 32 96  |...9.....&!.0r2.|
//	00000060  ff 06 01 01 02 54 68 69  73 20 69 73 20 70 61 67  |.....This is pag|
//	00000070  65 20 6f 6e 65 2e 00 01  00 ff dc 09 00 02 4f 74  |e one.........Ot|
//	00000080  77 6f 2e fe 01 ff ca 00  02 00 00 02 00 b0 00 00  |wo..............|
//	00000090  00 00 00 00 00 00 00 00  00 02 00 00 00 00 00 00  |................|
//	000000a0  10 00 00 00 10 00 00 00  00 13 8e 2e a7 7b 8f 4c  |.............{.L|
//	000000b0  0f 28 ec 84 32 ce 70 07  42 3c 78 bc 47 af cc b4  |.(..2.p.B<x.G...|
//	000000c0  e8 03 00 00 00 00 00 00  0c 00 00 00 0c 00 00 00  |................|
//	000000d0  00 c1 2f 86 22 94 b8 c9  52 00 00 00 51 00 00 00  |../."...R...Q...|
//	000000e0  01 00 00 00 02 00 00 00  00 00 00 00 99 00 00 00  |................|
//	000000f0  00 00 00 00 c1 00 00 00  01 00 00 00 00 65 65 40  |.............ee@|
//	00000100  7a 7e 3c bc 2a ee 62 75  29 a5 5c 05 25 63 5f c7  |z~<.*.bu).\.%c_.|
//	00000110  1b 49 6b 3d 54 53 4e 41  50 54 49 44 45           |.Ik=TSNAPTIDE|
//
// The page block begins at 0x48 (its list of runs is 01 01 02: one run, from
// page 1, of two pages), the sum block at 0x99, the index block at 0xc1, the
// trailer at 0xe5.
package snapshot

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	// HeaderSize is the length in bytes of the header that an object begins
	// with; [ReadHeader] needs as many.
	HeaderSize = 72
	// Version is the format version that this package writes.
	Version = 1

	magic       = "TIDESNAP"
	endMagic    = "SNAPTIDE"
	trailerSize = 56
	headSummed  = HeaderSize - 8
	tailSummed  = trailerSize - 16 // what the trailer's own sum covers

	// maxPages is the longest database that SQLite allows (fileformat2,
	// section 1.3), with which page numbers plus one don't overflow.
	maxPages = 1<<32 - 2
)

// The kinds of block in a snapshot.
const (
	kindPages block.Kind = 1
	kindSums  block.Kind = 2
	kindIndex block.Kind = 3
)

// Header says what a snapshot is of.
type Header struct {
	// PageSize is the database's page size.
	PageSize wal.PageSize
	// Replica is the id of the replica that the snapshot belongs to.
	Replica [16]byte
	// TXID is the commit that the pages are as of, at least 1.
	TXID state.TXID
	// Base is 0 for a full snapshot; for an incremental one it is the TXID,
	// less than TXID, of the snapshot that it adds to.
	Base state.TXID
	// Pages is the database's length in pages as of TXID.
	Pages uint32
	// Time is the commit time of TXID in Unix milliseconds.
	Time int64
}

func (h Header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(h.PageSize))
	b = append(b, h.Replica[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.TXID))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Base))
	b = binary.BigEndian.AppendUint32(b, h.Pages)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Time))
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// ReadHeader reads the header at the beginning of b, which should hold the
// first [HeaderSize] bytes of an object. Errors are block.ErrVersion for a
// version that is not known and block.ErrCorrupt for anything else.
func ReadHeader(b []byte) (Header, error) {
	if len(b) < len(magic)+2 || string(b[:len(magic)]) != magic {
		return Header{}, fmt.Errorf("%w: not a snapshot", block.ErrCorrupt)
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != Version {
		return Header{}, fmt.Errorf("%w: snapshot version %d, this build knows %d", block.ErrVersion, v, Version)
	}
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes for a snapshot header", block.ErrCorrupt, len(b))
	}
	if xxhash.Sum64(b[:headSummed]) != binary.BigEndian.Uint64(b[headSummed:]) {
		return Header{}, fmt.Errorf("%w: snapshot header's checksum does not match", block.ErrCorrupt)
	}
	h := Header{
		PageSize: wal.PageSize(binary.BigEndian.Uint32(b[12:])),
		Replica:  [16]byte(b[16:]),
		TXID:     state.TXID(binary.BigEndian.Uint64(b[32:])),
		Base:     state.TXID(binary.BigEndian.Uint64(b[40:])),
		Pages:    binary.BigEndian.Uint32(b[48:]),
		Time:     int64(binary.BigEndian.Uint64(b[56:])),
	}
	if binary.BigEndian.Uint16(b[10:]) != 0 || binary.BigEndian.Uint32(b[52:]) != 0 {
		return Header{}, fmt.Errorf("%w: reserved bytes of a snapshot header are not zero", block.ErrCorrupt)
	}
	if err := h.check(); err != nil {
		return Header{}, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	return h, nil
}

// check holds of everything that is written and read.
func (h Header) check() error {
	switch {
	case !h.PageSize.Valid():
		return fmt.Errorf("snapshot with a page size of %d", h.PageSize)
	case h.TXID == 0 || h.Base >= h.TXID:
		return fmt.Errorf("snapshot of TXID %v with base %v", h.TXID, h.Base)
	case h.Pages > maxPages:
		return fmt.Errorf("snapshot of %d pages, SQLite allows %d", h.Pages, uint32(maxPages))
	}
	return nil
}

// trailer is what an object ends with.
type trailer struct {
	sums, index int64  // offsets of the two sections
	blocks      uint32 // number of page blocks
	checksum    state.Checksum
	object      uint64 // xxh64 of all that stands before it
}

// appendFields appends the part of the trailer that the object's sum covers.
func (t trailer) appendFields(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.sums))
	b = binary.BigEndian.AppendUint64(b, uint64(t.index))
	b = binary.BigEndian.AppendUint32(b, t.blocks)
	b = binary.BigEndian.AppendUint32(b, 0)
	return binary.BigEndian.AppendUint64(b, uint64(t.checksum))
}

func (t trailer) append(b []byte) []byte {
	start := len(b)
	b = t.appendFields(b)
	b = binary.BigEndian.AppendUint64(b, t.object)
	b = binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
	return append(b, endMagic...)
}

// parseTrailer reads the trailer b of an object of h that has size bytes. It
// accepts only sections in order that are long enough for what the header and
// the trailer say they hold.
func parseTrailer(b []byte, h Header, size int64) (trailer, error) {
	if string(b[trailerSize-len(endMagic):]) != endMagic {
		return trailer{}, fmt.Errorf("%w: no snapshot trailer", block.ErrCorrupt)
	}
	if xxhash.Sum64(b[:tailSummed]) != binary.BigEndian.Uint64(b[tailSummed:]) {
		return trailer{}, fmt.Errorf("%w: snapshot trailer's checksum does not match", block.ErrCorrupt)
	}
	t := trailer{
		sums:     int64(binary.BigEndian.Uint64(b)),
		index:    int64(binary.BigEndian.Uint64(b[8:])),
		blocks:   binary.BigEndian.Uint32(b[16:]),
		checksum: state.Checksum(binary.BigEndian.Uint64(b[24:])),
		object:   binary.BigEndian.Uint64(b[32:]),
	}
	end := size - trailerSize
	ordered := t.sums >= HeaderSize && t.index >= t.sums && t.index <= end
	if !ordered || binary.BigEndian.Uint32(b[20:]) != 0 {
		return trailer{}, fmt.Errorf("%w: snapshot sections at %d and %d of %d", block.ErrCorrupt, t.sums, t.index, size)
	}
	if !fits(t.index-t.sums, int64(h.Pages)*sumSize) || !fits(end-t.index, int64(t.blocks)*entrySize) {
		return trailer{}, fmt.Errorf("%w: %d pages and %d blocks in sections of %d and %d bytes",
			block.ErrCorrupt, h.Pages, t.blocks, t.index-t.sums, end-t.index)
	}
	return t, nil
}

// fits reports whether raw bytes can have been compressed to stored: LZ4 can't
// do better than 255 to 1.
func fits(stored, raw int64) bool { return stored >= raw/255 }
