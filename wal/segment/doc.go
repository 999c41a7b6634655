// Package segment is tidemark's format for a run of consecutive commits: the
// objects under log/ (and pack/) of a replica.
//
// A segment holds every commit whole and in order, so that a reader can stop
// after any of them. It is written in one pass, in bounded memory however long
// a transaction is, and can be cut off anywhere: up to the last commit that
// reached its end, what precedes the cut can still be read. All integers are
// big-endian; uv is an unsigned varint as in encoding/binary.
//
//	+--------+---------+---------+-----+---------+-----+---------+---------+
//	| header | records | records | ... | commits | ... | pages   | trailer |
//	|        | block   | block   |     | block   |     | block   |         |
//	+--------+---------+---------+-----+---------+-----+---------+---------+
//	                                   ^ index: commits, blocks, pages
//
// The header is HeaderSize bytes:
//
//	0        8     10    12       16         32       40         48
//	| magic  | ver | 0   | page   | replica  | first  | checksum |
//	|TIDESEG\n     |     | size   | id       | TXID   | before   |
//	48       52    56             64                   120        128
//	| pages  | 0   | time of the  | writer's name,     | xxh64 of |
//	| before |     | first commit | UTF-8, zero-padded | 0..120   |
//
// Blocks are framed, checksummed and compressed by package block. Their kinds
// are 0x10 for records and 0x11, 0x12 and 0x13 for the index's commits, blocks
// and pages. Records never span blocks:
//
//	full image   | 1 | uv page | page image             |
//	delta        | 2 | uv page | image XOR previous one |
//	commit       | 3 | flags u8 | time i64 ms | pages u32 | checksum after u64 |
//
// A delta's base is the page's image just before the frame, wherever in the
// history that was written; its first appearance in a database is never a
// delta. Frames precede the commit record that ends their transaction. Flags are
// 1 for a resync, 2 for a complete commit, or both.
//
// The index has three sections, each as many blocks as it needs:
//
//	commits  | uv time, ms since the commit before | flags u8 | uv pages |
//	         | uv frames | uv raw bytes of its records |          per commit
//	blocks   | uv stored length with header | uv raw length |     per records block
//	pages    | uv page - previous page | sum u64 |     per page touched, ascending
//
// The pages section lists each page that the segment wrote and that is part of
// the database after it, with the page's sum then, so that a table of page sums
// can be rolled forward without decoding the records. The trailer is
// TrailerSize bytes:
//
//	0        8         16       24         32        40      44
//	| index  | commits | last   | checksum | time of | pages | low half of    |
//	| offset |         | TXID   | after    | last    | after | xxh64 of 0..44 |
//	48              56         64
//	| xxh64 of all  | magic    |
//	| bytes before  | TIDEEND\n|
//
// It has a checksum of its own for those who read the index only.
//
// # Example
//
// This is testdata/v1.seg. Page 1 begins with "SQLite format 3", page 2 with
// "low tide" and then "high tide", page 3 with "mark"; all else in them is
// zeros.
//
//	0000  54 49 44 45 53 45 47 0a                          magic
//	0008  00 01 00 00                                      version 1
//	000c  00 00 02 00                                      page size 512
//	0010  a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af  replica id
//	0020  00 00 00 00 00 00 00 01                          first TXID 1
//	0028  00 00 00 00 00 00 00 00                          checksum before: no pages
//	0030  00 00 00 00 00 00 00 00                          pages before 0
//	0038  00 00 01 9b 7c a9 8f 2e                          2026-01-02T03:04:05.678Z
//	0040  67 61 75 67 65 2d 37 20 70 69 64 20 34 32 34 32  writer "gauge-7 pid 4242"
//	0050  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//	0060  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//	0070  00 00 00 00 00 00 00 00
//	0078  6d 5e 7c 44 a2 d6 e3 9d                          xxh64 of the header
//	0080  10 01 00 00 00 00 08 4a                          records block, LZ4, raw length 2122
//	0088  00 00 00 8a 00 00 00 00                          stored length 138
//	0090  2f 52 6d 16 e8 0d 76 be                          its xxh64
//	0098  ff 03 01 01 53 51 4c 69 74 65 20 66 6f 72 6d 61  LZ4 of: 1, page 1, image; 1, page 2, image;
//	00a8  74 20 33 00 01 00 ff de af 01 02 6c 6f 77 20 74    3, complete, time, 2 pages, checksum;
//	00b8  69 64 65 fa 01 ff de 04 02 00 ff 11 03 02 00 00    2, page 2, "low tide" XOR "high tide";
//	00c8  01 9b 7c a9 8f 2e 00 00 00 02 05 35 1b 2a 8b 07    3, no flags, time, 2 pages, checksum;
//	00d8  68 e2 02 02 04 06 10 48 54 1d 0d 01 19 02 ff e6    1, page 3, image;
//	00e8  23 03 00 18 02 ff 05 38 00 00 00 02 98 21 49 ee    3, resync, time, 3 pages, checksum
//	00f8  66 b9 25 3a 01 03 6d 61 72 6b 00 14 02 ff e5 60
//	0108  00 00 00 00 03 01 18 02 f0 01 7c a9 93 16 00 00
//	0118  00 03 22 ae 10 f2 a6 a9 6c 20
//	0122  11 00 00 00 00 00 00 13                          commits block, stored, raw length 19
//	012a  00 00 00 13 00 00 00 00                          stored length 19
//	0132  b9 64 a6 19 1e ed d8 97                          its xxh64
//	013a  00 02 02 02 9a 08                                +0 ms, complete, 2 pages, 2 frames, 1050 bytes
//	0140  0a 00 02 01 98 04                                +10 ms, 2 pages, 1 frame, 536 bytes
//	0146  de 07 01 03 01 98 04                             +990 ms, resync, 3 pages, 1 frame, 536 bytes
//	014d  12 00 00 00 00 00 00 04                          blocks block, stored, raw length 4
//	0155  00 00 00 04 00 00 00 00                          stored length 4
//	015d  ed dd 73 00 f3 29 11 6f                          its xxh64
//	0165  a2 01 ca 10                                      stored 162 with header, raw 2122
//	0169  13 00 00 00 00 00 00 1b                          pages block, stored, raw length 27
//	0171  00 00 00 1b 00 00 00 00                          stored length 27
//	0179  a7 fa 9f d1 07 cb bd aa                          its xxh64
//	0181  01 ac 85 3f 7d f9 31 da 44                       page 1, its sum
//	018a  01 eb 9c 0a 70 6d 87 4a f6                       page 2, its sum
//	0193  01 8a 8c c7 04 3f f0 46 e6                       page 3, its sum
//	019c  00 00 00 00 00 00 01 22                          index offset 0x122
//	01a4  00 00 00 00 00 00 00 03                          3 commits
//	01ac  00 00 00 00 00 00 00 03                          last TXID 3
//	01b4  22 ae 10 f2 a6 a9 6c 20                          checksum after
//	01bc  00 00 01 9b 7c a9 93 16                          2026-01-02T03:04:06.678Z
//	01c4  00 00 00 03                                      pages after 3
//	01c8  10 ff 11 fa                                      xxh64 of the trailer so far, low half
//	01cc  3d d8 b1 e2 53 c2 ef 5b                          xxh64 of all so far
//	01d4  54 49 44 45 45 4e 44 0a                          magic
package segment
