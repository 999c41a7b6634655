package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
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
	// begun is the snapshot that it was begun with.
	begun archive.Snapshot
	// bad are snapshots that turned out to be damaged, and why the first is.
	bad []archive.Snapshot
	why error

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
// the target and proves it. Whether it may succeed if it is called again, again
// tells; it then goes on from where it got to, if it can.
func (j *job) attempt(ctx context.Context) error {
	bucket := &near{Bucket: j.opts.Bucket}
	a, err := archive.OpenAtOnce(ctx, bucket)
	if err != nil {
		return err
	}
	first := j.archive == nil
	if was := j.archive; was != nil && was.Meta().Replica != a.Meta().Replica {
		return fmt.Errorf("%w: while it was read, another replica took its place", archive.ErrBroken)
	}
	l := a.Listing()
	l.Snapshots = slices.DeleteFunc(slices.Clone(l.Snapshots), func(s archive.Snapshot) bool { return slices.Contains(j.bad, s) })
	j.archive = a.As(l)
	if first && !j.opts.DryRun {
		bucket.fetch(ctx, j.likely(l))
		defer bucket.end()
	}
	if j.at.TXID != 0 {
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

// likely is what the plan will probably be. For a target that is not known before
// something is read, that is all there is, if that is little.
func (j *job) likely(l archive.Listing) archive.Plan {
	t := j.opts.Target
	if t.Mark == "" && t.Time.IsZero() {
		return l.Likely(t.TXID)
	}
	for _, p := range []archive.Plan{{Snapshots: l.Snapshots, Segments: l.Segments}, l.Likely(0)} {
		if len(p.Snapshots)+len(p.Segments) <= nearAtOnce && p.Download() <= nearBytes {
			return p
		}
	}
	return archive.Plan{}
}

// again tells whether another attempt may succeed where one has failed: because
// what was to be read is gone, or because a snapshot can be done without.
func (j *job) again(err error) bool {
	var bad *snapshotError
	switch {
	case errors.Is(err, storage.ErrNotExist):
		j.opts.Logger.Info("an object is gone that was to be read; listing the replica again", slog.Any("err", err))
	case j.opts.WithoutDamaged && errors.As(err, &bad):
		j.opts.Logger.Warn("a snapshot is damaged; trying to do without it", slog.String("snapshot", bad.snapshot.Key()), slog.Any("err", err))
		j.bad = append(j.bad, bad.snapshot)
		j.res.Damaged = append(j.res.Damaged, bad.snapshot.Key())
		if j.why == nil {
			j.why = err
		}
	default:
		return false
	}
	return true
}

// verdict is the error of the last attempt, or what is to blame for it.
func (j *job) verdict(err error) error {
	without := isAny(err, archive.ErrOutOfRange, archive.ErrNoReplica, archive.ErrBroken, block.ErrCorrupt, ErrChecksum)
	if j.why != nil && without {
		return j.why // it can't be done without that snapshot
	}
	return err
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
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

// fill writes the pages that the output should have, and proves that it has them.
func (j *job) fill(ctx context.Context, plan archive.Plan) (err error) {
	if j.out.file == nil {
		if err := j.out.create(); err != nil {
			return err
		}
	}
	f, out := j.out.file, &sink{file: j.out.file}
	j.total.Store(j.done.Load() + plan.Download())
	log := j.download(ctx, plan.Segments) // its beginning, while snapshots are written
	defer log.end()
	if len(plan.Snapshots) > 0 {
		j.at = point{}
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("empty the output: %w", err)
		}
		at, err := j.writeChain(ctx, out, plan.Snapshots)
		if err != nil {
			return err
		}
		j.at, j.begun = at, plan.Snapshots[0]
	}
	if len(plan.Segments) > 0 {
		at, whole, err := j.applyLog(ctx, f, plan.Segments, log, j.at)
		if j.at = at; !whole {
			j.at = point{}
		}
		if err != nil {
			return j.doubt(err)
		}
	}
	if j.at.TXID != j.target {
		return fmt.Errorf("%w holds TXID %v: the log ends at %v", errGap, j.target, j.at.TXID)
	}
	out.writeBack(0, int64(j.at.Pages)*int64(j.at.PageSize)) // beside the proof
	j.opts.Logger.Debug("proving the state", slog.Uint64("txid", uint64(j.at.TXID)))
	return j.doubt(prove(ctx, f, j.at))
}

// doubt blames the snapshot that the output was begun with for pages that are not
// what the log says.
func (j *job) doubt(err error) error {
	if !isAny(err, errBeside, ErrChecksum) {
		return err
	}
	j.at = point{}
	return &snapshotError{j.begun, err}
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

// finish gives the output its name.
func (j *job) finish(ctx context.Context) (err error) {
	at := j.at
	if j.res.Integrity, err = checkIntegrity(ctx, j.out.file.Name(), j.opts.Integrity); err != nil {
		return err
	}
	if j.res.MovedAside, err = j.out.publish(); err != nil {
		return err
	}
	j.res.TXID, j.res.Time, j.res.Pages, j.res.Checksum = at.TXID, at.Time, at.Pages, at.Checksum
	j.res.Bytes = int64(at.Pages) * int64(at.PageSize)
	return nil
}
