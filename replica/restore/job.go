package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// job is one restore under way.
type job struct {
	opts Options
	out  *output
	res  Result

	archive *archive.Archive
	// target is the commit, once it is known: it stays the same if the archive
	// is listed again.
	target state.TXID
	// at is the state that the output holds; the zero value if it holds none as
	// a whole.
	at point

	done, total atomic.Int64 // bytes downloaded, and to be
}

// downloaded counts bytes that have come.
func (j *job) downloaded(n int) {
	done := j.done.Add(int64(n))
	if j.opts.Progress != nil {
		j.opts.Progress(done, j.total.Load())
	}
}

// attempt lists the archive and, unless the run is dry, fills the output up to
// the target. An error that wraps storage.ErrNotExist may be over if it is called
// again; it then goes on from where it got to, if it can.
func (j *job) attempt(ctx context.Context) error {
	a, err := archive.Open(ctx, j.opts.Bucket)
	if err != nil {
		return err
	}
	if was := j.archive; was != nil && was.Meta().Replica != a.Meta().Replica {
		return fmt.Errorf("%w: while it was read, another replica took its place", archive.ErrBroken)
	}
	j.archive = a
	if l := a.Listing(); j.at.TXID != 0 {
		if log, ok := l.After(j.at.TXID, j.target); ok {
			j.opts.Logger.Debug("going on", slog.Uint64("txid", uint64(j.at.TXID)))
			if err := j.fill(ctx, archive.Plan{Target: j.target, Segments: log}); !errors.Is(err, errGap) {
				return err
			}
		}
	}
	plan, err := j.plan(ctx)
	if err != nil {
		return err
	}
	if j.opts.DryRun {
		return j.dryRun(ctx, plan)
	}
	return j.unreachable(ctx, j.fill(ctx, plan))
}

// plan turns the target into a plan.
func (j *job) plan(ctx context.Context) (archive.Plan, error) {
	id, after, err := j.commit(ctx)
	if err != nil {
		return archive.Plan{}, err
	}
	plan, afterLast, err := j.archive.Plan(ctx, id)
	if mark := j.opts.Target.Mark; mark != "" && err == nil && afterLast {
		err = j.archive.Check(ctx, id) // nothing else will do
	}
	if err != nil {
		return plan, j.marked(err)
	}
	j.target, j.res.AfterLast = plan.Target, after || afterLast
	j.res.Plan = Plan{
		Snapshot: plan.Snapshots[0].Key(), Snapshots: len(plan.Snapshots),
		Packs: plan.Packs(), Segments: len(plan.Segments) - plan.Packs(),
		Objects: len(plan.Snapshots) + len(plan.Segments), Download: plan.Download(),
	}
	return plan, nil
}

// commit finds the commit that is to be restored. Once it is known it stays the
// same, if the archive is listed again. 0 is the newest.
func (j *job) commit(ctx context.Context) (id state.TXID, after bool, err error) {
	switch t := j.opts.Target; {
	case j.target != 0:
		return j.target, j.res.AfterLast, nil
	case t.Mark != "":
		m, err := j.archive.Mark(ctx, t.Mark)
		return m.TXID, false, err
	case !t.Time.IsZero():
		return j.archive.At(ctx, t.Time)
	default:
		return t.TXID, false, nil
	}
}

// marked names the mark in an error about its commit.
func (j *job) marked(err error) error {
	if mark := j.opts.Target.Mark; mark != "" && errors.Is(err, archive.ErrOutOfRange) {
		return fmt.Errorf("mark %s: %w", mark, err)
	}
	return err
}

// unreachable looks, if the log turned out to have a gap, for what can be
// restored instead.
func (j *job) unreachable(ctx context.Context, err error) error {
	if errors.Is(err, errGap) {
		if why := j.check(ctx); why != nil {
			return why
		}
	}
	return err
}

// check reads whether the target can be restored, and says so as it was asked
// for.
func (j *job) check(ctx context.Context) error {
	err := j.archive.Check(ctx, j.target)
	var r *archive.RangeError
	if errors.As(err, &r) {
		switch t := j.opts.Target; {
		case !t.Time.IsZero():
			r.Asked += fmt.Sprintf(", current at %s,", t.Time.UTC().Format(time.RFC3339Nano))
		case t == Target{}:
			r.Asked = "the newest commit, " + r.Asked + ","
		}
	}
	return j.marked(err)
}

// fill writes the pages that the output should have.
func (j *job) fill(ctx context.Context, plan archive.Plan) (err error) {
	if j.out.file == nil {
		if err := j.out.create(); err != nil {
			return err
		}
	}
	j.total.Store(j.done.Load() + plan.Download())
	if len(plan.Snapshots) > 0 {
		j.at = point{}
		if err := j.out.file.Truncate(0); err != nil {
			return fmt.Errorf("empty the output: %w", err)
		}
		at, err := j.writeChain(ctx, j.out.file, plan.Snapshots)
		if err != nil {
			return err
		}
		j.at = at
	}
	if len(plan.Segments) > 0 {
		at, whole, err := j.applyLog(ctx, j.out.file, plan.Segments, j.at)
		if j.at = at; !whole {
			j.at = point{}
		}
		if err != nil {
			return err
		}
	}
	if j.at.TXID != j.target {
		return fmt.Errorf("%w holds TXID %v: the log ends at %v", errGap, j.target, j.at.TXID)
	}
	return nil
}

// dryRun fills in what a restore would give, as far as indexes tell.
func (j *job) dryRun(ctx context.Context, plan archive.Plan) error {
	if err := j.check(ctx); err != nil {
		return err
	}
	j.res.TXID = plan.Target
	if len(plan.Segments) == 0 {
		h, err := j.archive.SnapshotHeader(ctx, plan.Snapshots[0])
		j.res.Time = time.UnixMilli(h.Time).UTC()
		return err
	}
	last := plan.Segments[len(plan.Segments)-1]
	_, x, err := j.archive.Index(ctx, last)
	if err != nil {
		return err
	}
	err = x.Each(func(c segment.Commit) {
		if c.TXID == plan.Target {
			j.res.Time = c.Time
		}
	})
	if err != nil {
		return fmt.Errorf("read index of %s: %w", last.Key(), err)
	}
	return nil
}

// finish proves the output and gives it its name.
func (j *job) finish(ctx context.Context) (err error) {
	f, at := j.out.file, j.at
	j.opts.Logger.Debug("proving the state", slog.Uint64("txid", uint64(at.TXID)))
	if err := prove(ctx, f, at); err != nil {
		return err
	}
	if j.res.Integrity, err = checkIntegrity(ctx, f.Name(), j.opts.Integrity); err != nil {
		return err
	}
	if j.res.MovedAside, err = j.out.publish(); err != nil {
		return err
	}
	j.res.TXID, j.res.Time, j.res.Pages, j.res.Checksum = at.TXID, at.Time, at.Pages, at.Checksum
	j.res.Bytes = int64(at.Pages) * int64(at.PageSize)
	return nil
}
