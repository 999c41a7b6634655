// Package replica follows a live SQLite database and ships every commit of it
// to a bucket.
//
// The engine is one goroutine that reads the WAL, commit by commit, into a
// segment file in the spool, and one that uploads sealed segments in order.
// Between them there are only files: a segment is written once, sealed when the
// sync interval is over and the uploader is idle, uploaded, and removed.
//
// An engine lives until it is told to stop or something fails. What may pass, as a
// full disk does, ends the engine and not the run: the pin stays, and another
// engine begins with what the local state says, as after a crash.
//
// What makes this safe:
//
//   - The pin (package source) keeps every frame readable until the engine has
//     read it. The WAL restarts only at a hand-off, under the write lock, after
//     everything was read and written to the spool.
//   - What the engine remembers (package local) is a position of which all
//     commits before are in the archive or in the spool. It only carries on from
//     a position that the WAL proves, by salts and running checksum. Everything
//     else is a resync: the database's pages are compared with the page sums of
//     the last state in the history, and those that differ become one commit,
//     marked as such.
//   - Each commit's state checksum is computed from the page sums and stored with
//     it. A restore must reproduce it.
//   - Segments are put under keys that depend only on their first TXID, if absent
//     (package archive): of two writers one stops. What is being put is noted
//     before, so that it is recognised if nothing is noted after.
//   - That a WAL goes on as remembered does not tell that the database file is
//     the one that it belongs to. It is compared with the page sums unless it
//     looks as it did.
package replica
