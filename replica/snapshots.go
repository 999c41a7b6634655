package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	// snapshotRetry is how long after a snapshot that failed the next is tried.
	snapshotRetry = time.Minute
	// snapshotLook is how often it is looked whether the log has been uploaded
	// up to the commit of a snapshot.
	snapshotLook = 50 * time.Millisecond
)

// A snapshot is made in three steps. First its kind and its base are chosen, for
// which something may have to be read from the archive. Then, right after a
// complete hand-off, when the database file is the state of the last commit and
// the pin keeps it so, that state is frozen. Then the pages are read and uploaded,
// while hand-offs go on: see frozen. The first and the last step have goroutines
// of their own.

// snapshots is the engine's part of it.
type snapshots struct {
	shelf *shelf
	// next is when to try again after a failure; forced asks for one at once,
	// full for a full one.
	next         time.Time
	forced, full bool
	// late tells that what is not begun by now is not going to be.
	late atomic.Bool

	planning chan planned
	plan     *snapshotPlan
	job      *snapshotJob
	// begun is called when the first of a replica is complete, settled when there
	// is none to be made any more.
	begun, settled func()
}

type planned struct {
	plan *snapshotPlan
	err  error
}

// snapshotJob is a snapshot under way.
type snapshotJob struct {
	header  snapshot.Header
	frozen  *frozen
	changes changes
	cancel  context.CancelCauseFunc
	// done is closed when the upload has ended, with what came of it.
	done chan struct{}
	sum  snapshot.Summary
	err  error
}

// takeRequest takes up that somebody asks for a snapshot at once.
func (e *engine) takeRequest() {
	if full, ok := e.dir.TakeRequest(); ok {
		s := &e.snaps
		s.forced, s.full, s.next = true, s.full || full, time.Time{}
	}
}

// busy tells whether there is something to go on with.
func (s *snapshots) busy() bool { return s.job != nil || s.plan != nil || s.planning != nil }

// ended is closed when the snapshot under way has ended; nil without one.
func (s *snapshots) ended() <-chan struct{} {
	if s.job == nil {
		return nil
	}
	return s.job.done
}

// snapshotsTurn goes on with a snapshot, and tells when none is left to be made. It does so
// in the turn that ends the last one: the next turn can be long after, since nothing keeps
// the database from being parked any more.
func (e *engine) snapshotsTurn(ctx context.Context) error {
	if err := e.snapshotStep(ctx); err != nil {
		return err
	}
	if s := &e.snaps; s.settled != nil && !s.busy() && !e.snapshotDue() {
		s.settled()
	}
	return nil
}

// snapshotStep goes on with a snapshot, as far as there is something to do.
func (e *engine) snapshotStep(ctx context.Context) error {
	s := &e.snaps
	switch {
	case s.job != nil:
		select {
		case <-s.job.done:
			return e.snapshotDone()
		default:
		}
	case s.plan != nil:
		if e.inFile() {
			return e.beginSnapshot(ctx, *s.plan)
		}
		if s.late.Load() {
			s.plan = nil
			e.snapshotFailed(errors.New("a reader, or the application, kept the WAL from being checkpointed"))
		}
	case s.planning != nil:
		select {
		case p := <-s.planning:
			s.planning, s.plan = nil, p.plan
			if p.err != nil {
				e.snapshotFailed(p.err)
			}
		default:
		}
	case e.snapshotDue():
		e.planSnapshot(ctx)
	}
	return nil
}

// snapshotOnce makes a snapshot if one is due, for a run that does not follow the
// database. It gives up one that can't be begun for too long, as when a reader
// keeps the WAL from being handed off.
func (e *engine) snapshotOnce(ctx context.Context) error {
	due := false
	err := e.db.with(func() error {
		if s := e.snaps.shelf; e.snaps.begun != nil && s.all[len(s.all)-1].TXID == e.head.TXID {
			return nil // the first one is what is asked for
		}
		if e.snaps.forced = e.opts.Snapshot != NoSnapshot; e.opts.Snapshot == FullSnapshot {
			e.snaps.full = true
		}
		if due = e.snapshotDue(); !due {
			return nil
		}
		return e.seal()
	})
	if err != nil || !due {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	e.snaps.settled = func() { end(errSettled) }
	late := time.AfterFunc(e.opts.StopPatience, func() { e.snaps.late.Store(true) })
	defer late.Stop()
	return e.followWhileShipping(ctx)
}

// errSettled says that no snapshot is left to be made.
var errSettled = errors.New("no snapshot is due")

// snapshotDue tells whether the next snapshot is to be planned.
func (e *engine) snapshotDue() bool {
	s := &e.snaps
	if s.shelf == nil {
		s.shelf = e.newShelf()
	}
	if e.beginning || e.ship.isFailing() || time.Now().Before(s.next) {
		return false
	}
	newest, ok := s.shelf.newest()
	if ok && newest.TXID >= e.head.TXID && (!s.full || newest.Base == 0) {
		if s.forced {
			s.forced, s.full = false, false
			e.status.snapshots(StatusSnapshot{StatusCommit: StatusCommit{TXID: newest.TXID}, Base: newest.Base, Bytes: newest.Size})
		}
		return false
	}
	if s.forced || !ok {
		return true
	}
	at, known := s.shelf.times[newest.TXID]
	return e.opts.SnapshotInterval > 0 && (!known || s.shelf.age(at, e.opts.Now()) >= e.opts.SnapshotInterval)
}

// planSnapshot begins to choose what the next snapshot adds to.
func (e *engine) planSnapshot(ctx context.Context) {
	plan := make(chan planned, 1)
	e.snaps.planning = plan
	shelf, now, full := e.snaps.shelf, e.opts.Now(), e.snaps.full
	interval := e.opts.SnapshotInterval
	if e.snaps.forced {
		interval = 0
	}
	go func() {
		p, err := shelf.plan(ctx, now, interval, full)
		plan <- planned{p, err}
	}()
}

// beginSnapshot freezes the state of the last commit, which must be what the
// database file holds, and begins to upload it.
func (e *engine) beginSnapshot(ctx context.Context, plan snapshotPlan) error {
	e.snaps.plan = nil
	if err := e.seal(); err != nil { // so that a segment ends where the snapshot is
		return err
	}
	h := snapshot.Header{PageSize: e.db.PageSize(), TXID: e.head.TXID, Base: plan.base, Pages: e.table.Len(), Time: e.head.Time.UnixMilli()}
	opts := snapshot.WriteOptions{}
	table := e.table.Clone()
	runs := snapshot.Diff(state.NewTable(h.PageSize), table)
	if base := plan.table; base != nil {
		runs = snapshot.Diff(base, table)
		opts.Changes = &snapshot.Changes{Base: base, Runs: runs}
	}
	f, err := newFrozen(e.db.DB, table, runs, e.dir.Path())
	if err != nil {
		e.snapshotFailed(err)
		return nil
	}
	ship, report := e.ship, &e.report
	e.write(ctx, h, f, opts, func(ctx context.Context) error { return awaitShipped(ctx, ship, report, h.TXID) })
	return nil
}

// write begins to upload a snapshot of a state, after what must come before it.
func (e *engine) write(ctx context.Context, h snapshot.Header, f *frozen, opts snapshot.WriteOptions, before func(context.Context) error) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	pace := e.opts.Process.reading
	f.slow = func(n int) error { return pace.wait(ctx, n, nil) }
	job := &snapshotJob{
		header: h, frozen: f, cancel: cancel, done: make(chan struct{}),
		changes: changes{pages: map[wal.PageNo]struct{}{}, length: h.Pages},
	}
	e.snaps.job = job
	e.log.Debug("writing a snapshot", slog.Uint64("txid", uint64(h.TXID)), slog.Uint64("base", uint64(h.Base)))
	arch := e.arch
	go func() {
		defer close(job.done)
		if job.err = before(ctx); job.err != nil {
			return
		}
		job.sum, job.err = arch.PutSnapshot(ctx, h, f, opts)
		if job.err != nil {
			return
		}
		if want := f.checksum(); job.sum.Checksum != want {
			job.err = fmt.Errorf("snapshot of TXID %v has state %v, it was %v", h.TXID, job.sum.Checksum, want)
		}
	}()
}

// awaitShipped waits until the archive has the log up to a commit: a snapshot must
// never be ahead of it.
func awaitShipped(ctx context.Context, ship *shipper, report *tally, id state.TXID) error {
	tick := time.NewTicker(snapshotLook)
	defer tick.Stop()
	for report.get().TXID < id {
		select {
		case <-tick.C:
		case <-ship.done:
			return errShipped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if ship.isFailing() {
			return errors.New("the log before it can't be uploaded")
		}
	}
	return nil
}

// snapshotDone takes note of one that has ended.
func (e *engine) snapshotDone() error {
	job := e.snaps.job
	e.snaps.job = nil
	job.cancel(nil)
	if err := job.frozen.close(); err != nil {
		e.log.Warn("what a snapshot needed on disk stays there", slog.Any("err", err))
	}
	if job.err != nil {
		if e.beginning || errors.Is(job.err, archive.ErrFenced) {
			return job.err
		}
		e.snapshotFailed(job.err)
		return nil
	}
	h := job.header
	if e.snaps.shelf == nil {
		e.snaps.shelf = e.newShelf()
	}
	e.snaps.forced, e.snaps.full = false, false
	if e.beginning {
		if err := e.beginHistory(job); err != nil {
			return err
		}
	} else {
		e.report.addBytes(job.sum.Stored)
	}
	snap, at := archive.Snapshot{TXID: h.TXID, Base: h.Base, Size: job.sum.Stored}, time.UnixMilli(h.Time).UTC()
	e.snaps.shelf.put(snap, at)
	e.ship.snapshotted(snap, at)
	if err := e.dir.SaveBase(e.arch.Meta().Replica, h.TXID, job.frozen.table); err != nil {
		e.log.Warn("the next snapshot reads page sums from the archive", slog.Any("err", err))
	}
	e.status.snapshots(StatusSnapshot{
		StatusCommit: StatusCommit{TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC()}, Base: h.Base, Pages: job.sum.Pages, Bytes: job.sum.Stored,
	})
	e.log.Info("wrote a snapshot", slog.Uint64("txid", uint64(h.TXID)), slog.Uint64("base", uint64(h.Base)),
		slog.Int("pages", job.sum.Pages), slog.Int64("bytes", job.sum.Stored))
	return nil
}

// snapshotFailed tells why there is no snapshot, and has it tried again.
func (e *engine) snapshotFailed(err error) {
	e.snaps.next = time.Now().Add(snapshotRetry)
	e.status.snapshots(StatusSnapshot{StatusCommit: StatusCommit{TXID: e.head.TXID, Time: e.head.Time}, Error: err.Error()})
	e.log.Warn("no snapshot could be written; the log goes on without it, and it is tried again",
		slog.Any("err", err), slog.Duration("in", snapshotRetry))
}

// dropSnapshot gives up the one that is under way, if there is one, since the file
// may change now without notice, or nobody is left to wait for it.
func (e *engine) dropSnapshot(why error) {
	job := e.snaps.job
	e.snaps.plan = nil
	if job == nil {
		return
	}
	job.cancel(why)
	<-job.done
	e.snaps.job = nil
	if job.err == nil { // it was just in time, and is found in the listing
		job.err = why
	}
	if err := job.frozen.close(); err != nil {
		e.log.Warn("what a snapshot needed on disk stays there", slog.Any("err", err))
	}
}

// savePages saves what the commits since the last time have changed of the state
// that a snapshot is being made of, unless they cut off more than so many pages. A
// pin may end only after it.
func (e *engine) savePages(most uint32) {
	job := e.snaps.job
	if job == nil {
		return
	}
	if err := job.changes.flush(job.frozen, most); err != nil {
		job.cancel(err)
	}
}
