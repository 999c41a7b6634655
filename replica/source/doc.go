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
// POSIX drops all locks that a process holds on a file when any descriptor of
// the file is closed. So the package opens one descriptor of the database file,
// before the first connection, and closes it after the last. One of the -shm file
// is opened if it is needed, to prove that nothing was missed in a moment without
// a pin, to claim a checkpoint, or to hold locks while the database is parked. It is
// closed after the last connection, too. A claim is a lock of the process's:
// an application in the same process is not kept from checkpointing by it, and should
// not checkpoint if there are others in other processes.
//
// # Parking
//
// A database in which nothing happens can be parked, see [DB.Park]: then, on Linux, no
// connection to it is open at all. To other processes a read transaction is three
// locks, each held shared, and nothing else: on the database file SQLite's SHARED lock,
// on the -shm file the byte that says that someone has it open, and a read slot. SQLite's
// own locks belong to the process, and go when it closes its descriptors. Linux has
// others, of the open file (F_OFD_SETLK): they stay, they disturb none of the
// process's own, and they go with the process, however it ends. They are taken while
// the pin is held, by descriptors that are there anyway; then the connections are closed.
//
// It is slot 0 that is locked, whichever the pin is in. While it is held nobody copies a
// frame into the database file. A WAL restarts only when the file has all of it, so:
//
//   - If the file lacks something when the slot is locked, the WAL can't restart at all.
//   - If it has all, the WAL can restart once, with the next writer; the frames of the
//     new generation are not copied, and it can't restart again. A generation without
//     frames can, but holds nothing.
//
// So all that matters is that everything was read at a moment after the slot was locked.
// For that the wal-index is read then, without SQLite: its header (two copies,
// checksummed) must count exactly the frames up to which all who read the WAL have read,
// in the same generation, or none. Where the file lacks something the locks would be
// good, too, but a checkpoint of the application's would wait for slot 0, and not for a
// pin in another slot. So the connection stays then, and on all doubts: a slot that is
// not free, an index that can't be read or is not the file at its path, a network file
// system, a system or a file system without such locks.
//
// On waking up a new pin is taken before the locks are dropped. In another slot than 0 it
// keeps the WAL from restarting. It is in slot 0 only if the file has all of the WAL; and
// since nobody could copy, that WAL is the one of which all was read, or empty. So
// nothing has to be read between the two. The WAL and the -shm file must still be those
// that were there: SQLite does not delete them while the locks are held, and with others
// in their place, made by hand, the application and tidemark would not know of each
// other's locks. Then it is [ErrReplaced].
//
// A process that is stopped for a while keeps the locks, one that is killed leaves
// nothing. An application in the same process sees them as another process's. At the end,
// a database that nobody else has open is opened once more, so that SQLite deletes its
// WAL as ever.
package source
