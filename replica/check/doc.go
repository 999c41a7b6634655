// Package check looks whether a SQLite database, and the replica that it is
// shipped to, can be relied on: the gate before a session starts. It gives items,
// each with a level and one line on what to do, and knows no output.
//
// # It alters nothing
//
// No lock is taken, no connection to the database's files is made, nothing is
// written beside them. SQLite's own way to look would do all three: a connection
// makes the -wal and -shm files, and the last one to close checkpoints the WAL and
// deletes it, with all that a damaged one could have told (TestLastConnection shows
// it). A read transaction blocks no writer, but a checkpoint of the application's
// that waits for readers waits for it, for as long as a check of all pages takes.
//
// So SQLite checks a file that is none: a [view], which gives it the pages of one
// committed state out of the database file and, where they are newer, the WAL. It
// is opened by a VFS that can only read.
//
//   - While nobody changes the two files, the view reads them in place. That nobody
//     did is proven afterwards: by the database file's size and times, and by the
//     WAL's header, which names its generation. What was read in the WAL stays as it
//     is within one generation.
//   - If somebody did, they are copied (see [copier]), and the view reads the copy.
//
// A descriptor that is closed drops the locks that its process holds on the file. So
// Run must not be called in a process that has the database open.
package check
