// Package wal reads SQLite's write-ahead log: its header, its frames, their
// checksums, and the commits that they make up. It takes bytes and gives
// values; it opens no files and holds no locks.
//
// The format is that of https://sqlite.org/fileformat2.html#walformat. A WAL
// is one header and any number of frames; all integers are big-endian.
//
//	        0       4       8       12      16      20      24      28      32
//	header  | magic |version| page  | ckpt  | salt1 | salt2 | sum1  | sum2  |
//	        |       |       | size  | seq   |       |       |       |       |
//
//	        0       4       8       12      16      20      24        24+page size
//	frame   | page  | commit| salt1 | salt2 | sum1  | sum2  | page image ... |
//	        | number| size  |       |       |       |       |                |
//
// The magic's lowest bit gives the byte order in which checksums read their
// input: 0x377f0682 little-endian, 0x377f0683 big-endian. A frame's checksum
// continues the one before it (the header's for the first frame), over the
// first 8 bytes of the frame and the page image, so that the checksums form a
// chain. A commit size other than zero marks a commit and is the database's
// length in pages after it.
//
// A frame counts only if its salts are the header's and the chain holds, and
// only if a frame that commits follows: SQLite rewrites frames of a transaction
// that is still open, and leaves those of one that was rolled back. [Reader]
// follows a live WAL under these rules.
package wal
