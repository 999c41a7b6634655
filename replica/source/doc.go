// Package source is tidemark's side of a live SQLite database: it keeps the
// WAL readable while the application goes on, and lets it restart without a
// gap.
//
// The package holds one read transaction, the pin, open at all times. While it
// is held, every frame written after it stays in the WAL file:
//
//   - A WAL restarts only when a writer finds it completely backfilled and gets
//     exclusive locks on read slots 1 to 4. A pin in such a slot rules that out.
//   - A read transaction that begins when the WAL is completely backfilled takes
//     slot 0. While it is held, nobody can copy a frame into the database file,
//     so a WAL that restarts once holds frames that are not backfilled and can't
//     restart again.
//
// [DB.HandOff] exchanges the pin under a short write lock, at a moment when
// every frame has been read, so that the WAL may restart at exactly the place
// where the reader stands. It follows that a reader that finds new salts in the
// WAL's header, and stands where the last hand-off or attach left it, has missed
// nothing.
//
// tidemark writes nothing into the database: its write locks end in ROLLBACK.
//
// A database in which nothing happens can be parked: then, on Linux, no connection to
// it is open at all, and there are locks in the pin's place that tell other processes
// the same, see [DB.Park].
//
// POSIX drops all locks that a process holds on a file when any descriptor of
// the file is closed. So the package opens one descriptor of the database file,
// before the first connection, and closes it after the last. One of the -shm file
// is opened if it is needed, to prove that nothing was missed in a moment without
// a pin, or to hold locks while the database is parked. It is closed after the last
// connection, too.
package source
