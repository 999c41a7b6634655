// Package scan reads a SQLite WAL in any state: whole, cut off, partly zeroed,
// mixed with an older one, without a header. It says of each frame what is known
// about it, and of each commit how far it can be trusted. Like package wal it
// takes bytes and gives values; it opens no files and alters none.
//
// # What proves a frame
//
// A frame stores the checksum of the chain up to and with itself. With the sum S
// that the frame before it stores, a frame holds if extending S over its page
// number, commit size and page image gives the sum that it stores. So a check
// needs two frames, and says that all these bytes are what was written together:
//
//	| .. salts S1 | page 1 |  | .. salts S2 | page 2 |  | .. salts S3 | page 3 |
//	           \______________________/  \______________________/
//	             frame 2 holds: S1 -> S2     frame 3 holds: S2 -> S3
//
// From this follows what damage costs:
//   - A damaged page, page number or commit size costs that frame. The sum that
//     it stores still proves the next one.
//   - Damaged salts, or a damaged stored sum, cost nothing: the sum that the frame
//     should store is computed, and if the next frame follows from it, both
//     hold. The frame is called Healed.
//   - If a frame's contents and its stored sum are both lost, then the next frame
//     has nothing to follow from. It is an orphan: nothing proves it, nothing
//     speaks against it. The one after it holds again.
//
// The chain begins with the header's sum. If the header is damaged, the sum that
// the first frame needs is computed backwards: it must be that of a header with these
// salts and this page size. If the header's stored sum or its sequence has survived, or
// if the sequence comes out as 0, as in every new WAL, then that confirms both with
// 64 bits. Else the sequence is unknown, only 32 bits are left, and the first frame
// stays an orphan, [Likely] to be right.
//
// # What is proven
//
// A commit is [Proven] if the chain runs from a header, found or rebuilt, through
// every frame up to its last. It is what SQLite's own recovery would give if it
// could see past the damaged salts and sums. It is [Intact] if all its own frames
// hold and the frame before them holds, too, and is a commit, but an earlier
// frame is lost. Intact is a statement about its bytes and its limits, not about
// the history: SQLite leaves behind what it wrote and then rolled back, or gave
// up after a crash, and the next commits overwrite only the beginning of it.
// Pages that only a lost commit wrote are missing under an intact one.
//
// The residual risk: a check compares 64 bits, so damage at random passes one with
// a probability of 2^-64, at most nine times that where healing tries several sums.
// Damage within 8 bytes is always seen. But the checksum is linear, and no CRC: two
// flips of the highest bits of words that lie 24 bytes apart, or a multiple of it,
// cancel out, as they do for SQLite itself. Nor is it a defence against intent. Salts
// are in no frame's checksum; a frame counts to a generation by its salts or by the chain.
// Where nothing is left of a header, a sequence that comes out as 0 is believed; for that
// to be wrong, the first frame must be damaged, too, and in just such a way.
//
// A page that was written to a wrong place is seen as a frame that does not hold, and
// a commit that is there twice counts once. If only the misplaced copy is left, then
// it counts where it lies.
//
// # Cost
//
// A whole WAL is read once. A damaged one is read a few times; but for a constant, time
// is in proportion to its length, whatever it holds. A frame takes 32 bytes in memory and
// a commit 40, and 50 more while copies are looked for in a damaged file; a file can be
// made to show two frames in the space of one. In a file of 4096-byte pages this is some
// 1 % of its length and at most 6 %, with 512-byte pages some 10 % and at most half of
// it. Besides there are a window of 1 MiB and at most 1024 generations.
package scan
