// Package fleet runs the replications of a set of databases that changes: those
// that are listed, and those that are found in folders, for as long as they are
// there. It knows nothing of what a replication does.
//
// A listed database is replicated once. Whatever ends that is told, and that is
// it, unless it is said that the failure may pass. A found one is begun when it is seen, and again after a failure, with growing
// pauses, and at once when its file changes. When its file is gone, it is forgotten.
// No failure of one stops another.
//
// # What is a database
//
// A regular file that matches the folder's pattern and begins with SQLite's header
// (fileformat2, section 1.3). Never one that ends in -wal, -shm or -journal. Folders
// whose name begins with a dot are not entered, so tidemark's own state directories
// are not, and symbolic links are not followed, so there are no loops. One that is
// shorter than its header says is being copied, and a new one that changes is being
// created: both are waited for, for some seconds.
//
// # No file that is followed is ever opened
//
// POSIX drops all locks that a process holds on a file when it closes any descriptor
// of it, and so SQLite's under a replication of this process. So to look at a header
// is allowed only where no replication has the file open, or is about to:
//
//   - One goroutine looks at headers and starts replications. It never does the one
//     while the other is under way for the same file.
//   - A replication counts from before it begins until its Run has returned.
//   - Files are known by device and inode, too. What an active path leads to, at the
//     start and whenever it is looked at later, counts: a file that is renamed while
//     its replication has yet to notice is not looked at under its new name.
//   - Should a file be exchanged for one that is followed between the look at its
//     facts and its opening, the descriptor shows it, and stays open until that
//     replication has ended.
//
// # How changes are noticed
//
// One watcher of the system's tells of changes in the folders; files are not
// watched. Where it can't, as on some file systems, or misses something, all is
// looked at again every now and then. That asks for the facts of files only: a
// file that was found to be no database is opened again when they have changed.
package fleet
