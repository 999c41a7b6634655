// Package salvage makes a clean database of what is left of one: a database file,
// its WAL, or both, in any state, with or without a replica.
//
// The originals are evidence. They are opened for reading only, never with SQLite,
// no lock is taken on them, and nothing is written beside them: they are copied into
// a private folder first, and all else is done there. What cannot be read, as on a
// disk with bad sectors, is zeros in the copy.
//
// # Candidates
//
// A WAL in which something is lost can be read in more than one way. Each way is a
// candidate: a base, and over it the page images of frames, of each page the last one. See
// [Kind] for the ways. Of each candidate it is said which commits it has, what SQLite's
// integrity_check finds, and how many rows each table has.
//
//	base         | 1 | 2 | 3 | 4 | 5 | 6 |     the database, or a state of the replica
//	WAL              | 2 | 3 |   | 2 |           frames that hold, one lost between
//	-----------------------------------------
//	proven       | 1 | 2 | 3 | 4 | 5 | 6 |     the commits before what is lost
//	intact       | 1 | 2'| 3 | 4 | 5 | 6 |     the whole commits behind it, too
//
// A lost image can often be found elsewhere, and proven: in a broken frame's place an image from the
// database or the replica is the right one if the checksum that the frame stores follows from
// it. The database has it if a checkpoint came after it. Where the database or the
// replica stands in the WAL is seen by comparing pages; see alignment.
//
// # The best one
//
// A candidate that is [Proven] goes before one that is [Probable], and that before one
// that is [Damaged]; for a candidate counts as proven or probable only if SQLite's
// own check finds nothing in it, and as proven only if all that it is made of is
// proven to be a state that was committed. Of two that are proven or probable, the one
// with more of the commits goes first, since a row can have been deleted; then one of which
// nothing is lost, one in which what is lost seems not to show, one that has no pages of earlier generations and no
// part of a transaction, and the one with more rows. Of two that are damaged the one with more
// readable rows goes first, since rows are all that is taken from either: they are written into a
// new database by package rebuild. Orphans without a rowid don't count there, for most are entries
// of an index, whose rows are counted where their table is. If nothing of this tells two apart, the one that comes
// first in the order of [Kind] is taken.
//
// # What can't be told
//
// Commits that are cut off from the end of a WAL between two of them leave no trace, unless a
// wal-index (-shm) lies beside it that counts them. A database file has no checksums: bytes of a row
// that changed in it are not seen. A WAL that as a whole is older than the database, as a
// share's server can leave it, is seen if its first page or the database's length shows it, and
// else not. The same is true of a WAL beside an older copy of its database.
//
// # Cost
//
// On disk: a copy of the database and of the WAL, one candidate at a time and, with a replica, its
// newest state, in the temporary folder; then the output. In memory: what package scan
// says of a WAL's frames and commits; 8 bytes more for each frame; for each page of the database 20
// bytes, 8 more with a replica; and some 100 for each page that the WAL writes. If a candidate is
// damaged, what package btree needs. Page images are read and written one at a time.
package salvage

import (
	"context"
	"errors"
	"log/slog"

	"tidemark/storage"
	"tidemark/wal"
)

// Errors that callers branch on. An output that is in the way is restore.ErrExists
// or restore.ErrStray.
var (
	// ErrNothing says that there is nothing to salvage: no input holds a page that can
	// be told from noise.
	ErrNothing = errors.New("nothing can be salvaged")
	// ErrInput says that the inputs can't be what they are given as, such as a WAL
	// that is missing.
	ErrInput = errors.New("can't be salvaged")
)

// Options are what Run is to do.
type Options struct {
	// Path is a database or a WAL: a WAL if its name ends in -wal or its content
	// looks like one and not like a database.
	Path string
	// WAL is the WAL that belongs to the database Path; empty: the file beside it
	// that SQLite would take, if there is one. DB is the database that belongs to
	// the WAL Path; empty: the file that SQLite would take it for, if there is one.
	WAL, DB string
	// PageSize is the database's; 0: as the files tell. It decides only where they
	// don't.
	PageSize wal.PageSize
	// Output is the database to be made. It must not exist, its folder must.
	Output string
	// All is a folder for the candidates that are not the best; empty: they are
	// not kept. It is made if it does not exist, and must be empty.
	All string
	// Temp is the folder in which the private folder is made. Empty: the output's
	// folder, or the system's folder for temporary files if one of the originals lies
	// there.
	Temp string
	// Take is the kind of the candidate to be written as the output; empty: the best.
	Take Kind
	// Replica, if not nil, holds a replica of the database.
	Replica storage.Bucket
	// Logger is told of the steps. It must not be nil.
	Logger *slog.Logger
	// Progress, if not nil, is told the bytes done and their total, which can grow. It
	// can be called from several goroutines.
	Progress func(done, total int64)
}

// Run salvages. The report is not nil if anything was found, also beside an error.
// ErrNothing, ErrInput, restore.ErrExists and restore.ErrStray are told apart; none
// of these has written anything. That something is lost is no error:
// [Report.Verdict] tells.
func Run(ctx context.Context, opts Options) (*Report, error) {
	return run(ctx, opts)
}
