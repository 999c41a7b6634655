// Package corpus makes damaged databases for tests: real ones, which SQLite wrote,
// with known damage, and says what must come back from each. It is imported by tests
// only.
//
// # The oracle
//
// [Write] plays a trading engine: sessions, orders with an index, fills, ticks with
// overflow pages, positions in a WITHOUT ROWID table. It commits some hundred
// transactions over several generations of the WAL, leaves one transaction open, and
// copies the files as a crash would leave them. Besides, it keeps a [Ledger]: which
// rows each commit wrote and removed, computed before SQLite is told of them; and which
// frames of the WAL each commit has.
//
// Every version of every row has a tag of its own, as "~o17.3~" is order 17, changed
// three times. So a row is known wherever it turns up, also in a table without names.
//
// # What must come back
//
// [Expect] compares the damaged files with the whole ones, byte by byte, and computes
// from that alone, not from what any tool says:
//   - which frames can still be proven: by the rules in the comment of package
//     tidemark/wal/scan, applied to the knowledge of which bytes were hit;
//   - so which commits are proven, and which are probable;
//   - which pages, with these commits applied to the database file, are byte by byte what
//     they were in the state to be reached;
//   - which rows lie on such pages alone. These must come back, be their b-tree whole
//     or not. If all pages are such, the content must be exactly that of the state.
//
// A row that no committed state had, also one of the open transaction, must never come
// back as if it were committed.
package corpus
