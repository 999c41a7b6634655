// Package btree reads SQLite's database file format
// (https://www.sqlite.org/fileformat2.html) from pages of which any may be lost or
// damaged. It takes pages and gives values; it opens no files and runs no SQL. A
// page of a tree:
//
//	 0 (100 on page 1)                                       usable size   page size
//	+------+------+-------+---------+------+-----+.......+-------------+----------+
//	| kind | free | cells | content | frag | (R) | P P P |  ...cells   | reserved |
//	| 1    | 2    | 2     | 2       | 1    | 4   | 2 each|             |          |
//	+------+------+-------+---------+------+-----+.......+-------------+----------+
//
// R, the rightmost child, is there on interior pages only. P are the offsets of the
// cells, in the order of their keys:
//
//	leaf of a table        payload size | rowid   | payload | (overflow page)
//	interior of a table    child page   | rowid
//	leaf of an index       payload size | payload | (overflow page)
//	interior of an index   child page   | payload size | payload | (overflow page)
//
// The sizes, rowids and serial types are varints; page numbers have 4 bytes, the
// highest first. A payload is a record: the size of its header, a serial type for each
// field, then the fields. A table WITHOUT ROWID is stored as an index.
//
// # What is believed
//
// Nothing that the pages do not bear out. A length is held against the page or the
// file before anything of that size is made or read. A cell that is damaged costs that
// cell, a page its rows, an interior page the way to what lies below: those pages are
// then found again as orphans. A page is taken into one tree at most. If two parents
// claim a page, then it goes to the one whose range of keys holds it, and a page that
// the schema calls a root is nobody's child. Two interior pages that are the same, byte
// for byte, are both refused, as one was written to a wrong place. So what a damaged
// page says cannot take sound pages from the tree that they belong to.
//
// A row is sound if its record fits together: the header ends where it says, the
// fields fill the payload exactly, every overflow page is there, and the chain ends
// with the payload. What nobody can see: damage inside a value, as SQLite keeps no
// checksum, also in the schema's SQL; a blob whose last overflow page was zeroed (a
// text's is seen); a page that was copied over one of a table or index whose rows look
// the same, if nothing is left where it was.
//
// # Order of use
//
// [Open] looks at each page once. [File.Schema] comes next: it tells which pages are
// roots. Then each root is walked with [File.Walk], and what nobody has claimed is read
// with [File.Orphans]. A [File] is not safe for concurrent use.
//
// # Cost
//
// Every page is read once by Open, once by a walk, and up to twice again among the
// orphans. An overflow page is followed for four rows at most, so damage cannot make
// rows go round in circles. Memory: eleven bytes a page, the schema, and one row.
package btree
