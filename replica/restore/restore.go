// Package restore makes a database file of a replica, as it stood after any of
// its commits.
//
// A restore plans from the archive's listing, downloads a full snapshot in
// parallel ranges and writes its pages, and then applies the segments up to the
// target in order, while the next ones are being downloaded. Memory does not
// depend on the size of anything. The result lies under a temporary name until
// the sum over its pages, read back from the file, is the state checksum that
// was recorded when the commit was made; only then it gets its name.
package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"tidemark/replica/archive"
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

// Target is the commit to restore: by TXID, by time (the newest commit not
// after it), or, as the zero value, the newest.
type Target struct {
	TXID state.TXID
	Time time.Time
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
	// Plan is what was or would be read.
	Plan Plan
}

// Plan tells a person what a restore reads.
type Plan struct {
	// Snapshot is the key of the snapshot that it begins with.
	Snapshot string
	// Segments and Objects count what is read, Download its bytes.
	Segments, Objects int
	Download          int64
}

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
	a, err := archive.Open(ctx, opts.Bucket)
	if err != nil {
		return res, err
	}
	plan, after, err := resolve(ctx, a, opts.Target)
	if err != nil {
		return res, err
	}
	res.AfterLast = after
	res.Plan = Plan{
		Snapshot: plan.Snapshot.Key(), Segments: len(plan.Segments),
		Objects: 1 + len(plan.Segments), Download: plan.Download(),
	}
	if opts.DryRun {
		return dryRun(ctx, a, plan, res)
	}
	j := &job{archive: a, plan: plan, total: plan.Download(), progress: opts.Progress, log: opts.Logger}
	return j.run(ctx, out, opts, res)
}

// resolve turns a target into a plan.
func resolve(ctx context.Context, a *archive.Archive, t Target) (archive.Plan, bool, error) {
	if t.Time.IsZero() {
		return a.Plan(ctx, t.TXID)
	}
	id, after, err := a.At(ctx, t.Time)
	if err != nil {
		return archive.Plan{}, false, err
	}
	plan, _, err := a.Plan(ctx, id)
	return plan, after, err
}

// dryRun fills in what a restore would give, as far as one object's index tells.
func dryRun(ctx context.Context, a *archive.Archive, plan archive.Plan, res Result) (Result, error) {
	res.TXID = plan.Target
	if len(plan.Segments) == 0 {
		h, err := a.SnapshotHeader(ctx, plan.Snapshot)
		res.Time = time.UnixMilli(h.Time).UTC()
		return res, err
	}
	last := plan.Segments[len(plan.Segments)-1]
	_, x, err := a.Index(ctx, last)
	if err != nil {
		return res, err
	}
	commits, err := x.Commits()
	if err != nil {
		return res, fmt.Errorf("read index of %s: %w", last.Key(), err)
	}
	for _, c := range commits {
		if c.TXID == plan.Target {
			res.Time = c.Time
		}
	}
	return res, nil
}

// job is one restore under way.
type job struct {
	archive  *archive.Archive
	plan     archive.Plan
	total    int64
	done     atomic.Int64
	progress func(done, total int64)
	log      *slog.Logger
}

// downloaded counts bytes that have come.
func (j *job) downloaded(n int) {
	done := j.done.Add(int64(n))
	if j.progress != nil {
		j.progress(done, j.total)
	}
}

func (j *job) run(ctx context.Context, out *output, opts Options, res Result) (_ Result, err error) {
	f, err := out.create()
	if err != nil {
		return res, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.discard())
		}
	}()
	at, err := j.writePages(ctx, f)
	if err != nil {
		return res, err
	}
	j.log.Debug("proving the state", slog.Uint64("txid", uint64(at.TXID)))
	if err := prove(ctx, f, at); err != nil {
		return res, err
	}
	if res.Integrity, err = checkIntegrity(ctx, f.Name(), opts.Integrity); err != nil {
		return res, err
	}
	if res.MovedAside, err = out.publish(); err != nil {
		return res, err
	}
	res.TXID, res.Time, res.Pages, res.Checksum = at.TXID, at.Time, at.Pages, at.Checksum
	res.Bytes = int64(at.Pages) * int64(at.PageSize)
	return res, nil
}

// writePages fills the file and gives the state that it should have.
func (j *job) writePages(ctx context.Context, f *os.File) (point, error) {
	at, err := j.writeSnapshot(ctx, f)
	if err != nil {
		return at, err
	}
	if len(j.plan.Segments) > 0 {
		if at, err = j.applySegments(ctx, f, at); err != nil {
			return at, err
		}
	}
	if at.TXID != j.plan.Target {
		return at, fmt.Errorf("%w: it ends at TXID %v, before %v", archive.ErrBroken, at.TXID, j.plan.Target)
	}
	return at, nil
}
