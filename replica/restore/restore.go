// Package restore makes a database file of a replica, as it stood after any of
// its commits.
//
// A restore plans from the archive's listing. It downloads the newest snapshot
// before the commit and those that the snapshot adds to, newest first, in parallel
// ranges, and writes each page once, block by block as it arrives. Then it applies the
// log up to the target in order, while the next part of it is being downloaded. What
// is small is downloaded as a whole, in one round trip, before it is known what of it
// is needed. Memory does not depend on
// the size of anything, but for a bit for each page of the database. The result
// lies under a temporary name until the sum over its pages, read back from the
// file, is the state checksum that was recorded when the commit was made; only
// then it gets its name.
//
// # When objects vanish
//
// The archive is packed and pruned while a restore reads it. What is packed is
// deleted an hour later, what is old when a policy says so; a restore that takes
// longer finds objects of its plan gone. Then it lists the archive again. If it has
// come as far as the log, the file holds the state after some commit, and it goes on
// from there: to begin anew could take as long again, and meet the same end again.
// Before that, and if an object was cut off in the midst of a commit, it begins
// anew, with another plan: the pages that are there are those of a snapshot of which
// the rest can't be had.
//
// A snapshot that is damaged can be done without, if an older one and more of the
// log lead to the target, too: see [Options].
package restore

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tidemark/snapshot/state"
	"tidemark/storage"
)

// Errors that callers branch on.
var (
	// ErrExists says that the output exists.
	ErrExists = errors.New("the output exists already")
	// ErrStray says that files of another database lie beside the output's
	// name: SQLite would take a stale -wal for the restored database's.
	ErrStray = errors.New("files of another database lie beside the output")
	// ErrChecksum says that the restored pages are not those that were
	// committed.
	ErrChecksum = errors.New("the restored database does not have the state checksum that was recorded")
	// ErrIntegrity says that SQLite's own check found something. The state
	// checksum held, so the database was so when it was committed.
	ErrIntegrity = errors.New("SQLite's integrity check failed")
)

// Target is the commit to restore: by TXID, by time (the one that was current
// then), by the name of a mark, or, as the zero value, the newest.
type Target struct {
	TXID state.TXID
	Time time.Time
	Mark string
}

// Integrity is which of SQLite's checks is run on the result.
type Integrity string

// The checks: none, PRAGMA quick_check, PRAGMA integrity_check.
const (
	None  Integrity = "none"
	Quick Integrity = "quick"
	Full  Integrity = "full"
)

// Options are what Run is to do.
type Options struct {
	// Bucket holds the replica.
	Bucket storage.Bucket
	// Output is the file to be made. Its folder must exist.
	Output string
	// Target is the commit.
	Target Target
	// Force moves an existing output aside; IfNotExists leaves it and does
	// nothing. Without either it is ErrExists.
	Force, IfNotExists bool
	// DryRun only plans.
	DryRun bool
	// WithoutDamaged does without snapshots that are damaged, or that do not
	// agree with the log, if older ones and more of the log lead to the target,
	// too. Without it they are an error.
	WithoutDamaged bool
	// Integrity is the check to run; empty is None.
	Integrity Integrity
	// Logger is told of the steps. It must not be nil.
	Logger *slog.Logger
	// Progress, if not nil, is told the bytes downloaded and their total. It
	// is called from several goroutines.
	Progress func(done, total int64)
}

// Result is what Run did.
type Result struct {
	// Output is the file, as it was given.
	Output string
	// Skipped tells that it existed and was left alone.
	Skipped bool
	// MovedAside is where an existing output lies now.
	MovedAside string
	// TXID and Time are the commit's, Pages and Bytes the database's length,
	// and Checksum its state's.
	TXID     state.TXID
	Time     time.Time
	Pages    uint32
	Bytes    int64
	Checksum state.Checksum
	// Integrity is "ok" if a check ran.
	Integrity string
	// AfterLast tells that the target lies after the newest commit, which was
	// restored.
	AfterLast bool
	// Damaged are the keys of snapshots that were to be read and done without.
	Damaged []string
	// Plan is what was or would be read.
	Plan Plan
}

// Plan tells a person what a restore reads.
type Plan struct {
	// Snapshot is the key of the snapshot that it begins with.
	Snapshot string
	// Snapshots counts it and those that it adds to, Packs and Segments what is
	// read of the log, Objects all of these. Download is their bytes.
	Snapshots, Packs, Segments, Objects int
	Download                            int64
}

// tries is how many times a restore is planned before it is given up, if
// objects of its plans vanish, or snapshots are damaged.
const tries = 10

// Run restores. Errors wrap those of this package and of package archive, or
// block.ErrCorrupt with the object's key.
func Run(ctx context.Context, opts Options) (Result, error) {
	out := &output{path: opts.Output, force: opts.Force}
	res := Result{Output: opts.Output}
	switch err := out.check(); {
	case errors.Is(err, ErrExists) && opts.IfNotExists:
		res.Skipped = true
		return res, nil
	case err != nil:
		return res, err
	}
	j := &job{opts: opts, out: out, res: res}
	err := j.attempt(ctx)
	for n := 1; n < tries && j.again(err); n++ {
		err = j.attempt(ctx)
	}
	err = j.verdict(err)
	if out.file != nil {
		if err == nil {
			err = j.finish(ctx)
		}
		if err != nil {
			err = errors.Join(err, out.discard())
		}
	}
	return j.res, err
}
