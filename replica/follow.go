package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/wal"
)

const (
	// pollWatched is how often the WAL is looked at although the system would
	// tell of a change, pollBlind how often if it can't.
	pollWatched = time.Second
	pollBlind   = 50 * time.Millisecond
	// settle is how long the WAL is looked at again and again after an event
	// that brought no commit: SQLite publishes it after the write that the
	// event was for, and after a sync, with no further event.
	settle = time.Second
	// checkEvery is how often it is checked that the database is still the
	// file at its path.
	checkEvery = time.Second
	// handQuiet is how long nothing is committed before a short WAL is handed off
	// all the same: after it no checkpoint of the application has anything to wait
	// for. handLate is how long a WAL is left that grows slowly.
	handQuiet = time.Second
	handLate  = time.Minute
	// handGap is the time between two hand-offs next to a writer that is fast, unless
	// the WAL comes to handFactor times its length before: each one costs it some
	// milliseconds, whatever the WAL's length. Once in between, when the WAL has one of
	// advanceShare parts of its length, the pin is moved away from slot 0.
	handGap      = 250 * time.Millisecond
	handFactor   = 4
	advanceShare = 8
	// yieldEvery is how often it is looked whether a checkpoint of the
	// application waits for the pin, while nothing is committed.
	yieldEvery = 50 * time.Millisecond
	// An incomplete hand-off is tried again after a delay between these.
	minHandDelay = 100 * time.Millisecond
	maxHandDelay = 5 * time.Second
	// keepEvery is how often what waits for storage is made to survive a power
	// cut.
	keepEvery = 10 * time.Second
)

// A WAL that is so many times longer than it should be is told of, so often.
const (
	warnFactor = 10
	warnEvery  = time.Minute
)

// moments are the times at which the loop did things last.
type moments struct {
	handed, checked, read, yielded, kept, warned time.Time
	// alert is when something changed that brought no commit yet.
	alert time.Time
	// advanced is where the pin was moved to last.
	advanced wal.Position
}

// follow reads, hands off and seals until ctx ends. It has the database's lock but
// while it pauses.
func (e *engine) follow(ctx context.Context) (err error) {
	e.db.mu.Lock()
	defer e.db.mu.Unlock()
	// What has failed may have read a commit in part: nobody may read on for it.
	defer func() {
		if err != nil {
			e.db.unjoin(e.seat)
		}
	}()
	e.nextHand = time.Now()
	e.handDelay = minHandDelay
	e.last = moments{handed: time.Now(), checked: time.Now(), read: time.Now(), kept: time.Now(), alert: time.Now()}
	for ctx.Err() == nil {
		n, err := e.turn(ctx)
		if err == nil || !stopped(ctx, err) {
			err = e.regain(ctx, err)
		}
		if stopped(ctx, err) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case n > 0:
			e.last.alert = time.Time{}
			fallthrough
		case time.Since(e.last.alert) < settle:
			e.watch.disarm()
			e.pause(ctx, coalesce, nil)
		case ctx.Err() == nil && e.parkDue(): // a turn can end ctx: the first copy is complete
			changed, err := e.park(ctx)
			if err != nil {
				return err
			}
			if changed {
				e.last.alert = time.Now()
			}
		case e.rest(ctx):
			e.last.alert = time.Now()
		}
	}
	return nil
}

// stopped tells whether an error is that ctx has ended.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && isAny(err, ctx.Err(), context.Cause(ctx))
}

// turn does once all that is due, and tells how many commits there were.
func (e *engine) turn(ctx context.Context) (n int, err error) {
	if err := e.checkTurn(ctx); err != nil {
		return 0, err
	}
	if e.beginning && e.waiting() > e.opts.SpoolLimit {
		// Nothing can be shipped yet. What else is committed waits in the WAL.
		return 0, e.snapshotsTurn(ctx)
	}
	if n, err = e.Read(); err != nil {
		return n, err
	}
	switch {
	case e.handOffDue():
		err = e.handOff(ctx)
		e.last.handed = time.Now()
	case e.advanceDue():
		err = e.advance(ctx)
	case n == 0 && !e.resting() && time.Since(e.last.yielded) >= yieldEvery:
		err = e.yield(ctx)
	}
	if err == nil {
		err = e.snapshotsTurn(ctx)
	}
	if err != nil {
		return n, err
	}
	if err := e.Tend(); err != nil {
		return n, err
	}
	return n, e.watchSpool()
}

// checkTurn tells, once in a while, whether the database is still the one that is
// followed, and at once whether others have gone on without this one.
func (e *engine) checkTurn(ctx context.Context) error {
	if err := e.seat.lost; err != nil {
		e.seat.lost = nil
		return err
	}
	if time.Since(e.last.checked) < checkEvery {
		return nil
	}
	if err := e.db.Check(ctx); err != nil {
		return err
	}
	e.last.checked = time.Now()
	e.takeRequest()
	return nil
}

// resting tells that the WAL is handed off completely and has not moved since:
// nothing that the application does has to wait for the pin.
func (e *engine) resting() bool {
	pos := e.tail.position()
	return pos.Frame == 0 || e.handed && pos == e.tail.sealed
}

// yield lets the application's checkpoints pass. While there is one it is called
// again at once.
func (e *engine) yield(ctx context.Context) error {
	e.last.yielded = time.Now()
	if !e.db.mayYield() {
		return nil
	}
	var waited bool
	err := e.db.pass(e.seat, func(drain source.Drainer) (err error) {
		waited, err = e.db.Yield(ctx, drain)
		return err
	})
	if errors.Is(err, source.ErrBusy) {
		return nil
	}
	if waited {
		e.last.yielded, e.last.alert = time.Time{}, time.Now()
	}
	return err
}

// waiting is how many bytes wait to be uploaded.
func (e *engine) waiting() int64 {
	n := e.ship.waiting()
	if e.seg != nil {
		n += e.seg.w.Stored()
	}
	return n
}

// watchSpool keeps what waits for storage within its limit, and makes it survive
// a power cut.
func (e *engine) watchSpool() error {
	if e.waiting() > e.opts.SpoolLimit && !e.beginning && !e.once {
		return errOverflow
	}
	if !e.ship.isFailing() || time.Since(e.last.kept) < keepEvery {
		return nil
	}
	e.last.kept = time.Now()
	if e.seg == nil {
		return nil
	}
	err := errors.Join(e.seg.w.Flush(), e.appendPartSums(e.seg))
	if err == nil {
		err = e.seg.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("keep spool: %w", err)
	}
	return e.remember(local.Power)
}

// regain repairs continuity if err says that it is lost or may be, and gives all
// other errors back.
func (e *engine) regain(ctx context.Context, err error) error {
	if errors.Is(err, source.ErrTouched) {
		err = e.verifyFile(ctx, err)
	}
	switch {
	case errors.Is(err, source.ErrAside):
		e.log.Warn("commits may have passed by while a checkpoint of the application's ran, comparing all pages", slog.Any("err", err))
	case errors.Is(err, errGap):
		e.log.Error("lost track of the WAL, comparing all pages", slog.Any("err", err))
	default:
		return err
	}
	return e.reattach(ctx, err.Error())
}

// handOffDue decides whether to let the WAL restart.
func (e *engine) handOffDue() bool {
	if time.Now().Before(e.nextHand) || !e.db.mayPass(int(e.tail.position().Frame), e.opts.CheckpointPages) {
		return false
	}
	if e.snaps.plan != nil && !e.inFile() {
		return true
	}
	frames, since := int(e.tail.position().Frame), time.Since(e.last.handed)
	return !e.resting() && (frames >= e.opts.CheckpointPages && since >= handGap || frames >= handFactor*e.opts.CheckpointPages ||
		time.Since(e.last.read) >= handQuiet || since >= handLate)
}

// advanceDue decides whether to move the pin: see source.DB.Advance. It is due before an
// application that checkpoints by itself, at as many pages by default, begins to try.
func (e *engine) advanceDue() bool {
	frames := int(e.tail.position().Frame)
	return frames*advanceShare >= e.opts.CheckpointPages && e.db.AtZero() && e.last.advanced != e.tail.position() &&
		!e.cut && !e.resting() && e.db.mayPass(frames, e.opts.CheckpointPages)
}

// advance moves the pin for all that follow the database.
func (e *engine) advance(ctx context.Context) error {
	err := e.db.pass(e.seat, func(drain source.Drainer) error { return e.db.Advance(ctx, drain) })
	e.last.advanced = e.tail.position()
	if errors.Is(err, source.ErrBusy) {
		return nil
	}
	if err == nil {
		err = e.rememberFile()
	}
	return err
}

// rememberFile remembers, for all that follow the database, what its file looks like
// after a checkpoint of ours: else a start after a crash would have to compare all pages.
func (e *engine) rememberFile() error {
	for _, s := range e.db.seats {
		o := s.engine
		if o == nil || o.kept != o.tail.position() || o.keptFile == local.Stamp(e.db.Seen()) {
			continue
		}
		if err := o.remember(local.Process); err != nil {
			return err
		}
	}
	return nil
}

// inFile tells that the database file, without its WAL, is the state of the last
// commit that was read.
func (e *engine) inFile() bool { return e.handed && e.tail.position() == e.handedAt }

// handOff lets the WAL restart, for all that follow the database.
func (e *engine) handOff(ctx context.Context) error {
	var res source.HandOffResult
	err := e.db.pass(e.seat, func(drain source.Drainer) (err error) {
		res, err = e.db.HandOff(ctx, drain)
		return err
	})
	if errors.Is(err, source.ErrBusy) {
		res.Why, err = err.Error(), nil
	}
	if err != nil {
		return err
	}
	e.status.handedOff(res)
	for _, s := range e.db.seats {
		if s.engine != nil {
			s.engine.handedOff(res)
		}
	}
	e.log.Debug("handed off the WAL", slog.Bool("complete", res.Complete),
		slog.Uint64("frames", uint64(e.tail.sealed.Frame)), slog.Duration("locked", res.Locked), slog.String("why", res.Why))
	if err := e.rememberFile(); err != nil {
		return err
	}
	if res.Complete {
		if err = e.sampleFile(); errors.Is(err, ErrOverwritten) {
			e.db.leaveOthers(e.seat, fmt.Errorf("%w: %v", source.ErrTouched, err)) //nolint:errorlint // each finds out for itself
		}
		return err
	}
	e.warnOfReaders(res)
	return nil
}

// handedOff takes note of a hand-off.
func (e *engine) handedOff(res source.HandOffResult) {
	e.handed, e.handedAt = res.Complete, e.tail.position()
	e.last.handed = time.Now()
	if res.Complete {
		e.handDelay = minHandDelay
		e.status.blocks(nil)
		return
	}
	if res.Behind {
		return
	}
	e.nextHand = time.Now().Add(e.handDelay)
	e.handDelay = min(2*e.handDelay, maxHandDelay)
}

// warnOfReaders tells, once in a while, who keeps a WAL from being handed off that
// has grown far beyond its length.
func (e *engine) warnOfReaders(res source.HandOffResult) {
	frames := e.tail.position().Frame
	if int(frames) < warnFactor*e.opts.CheckpointPages || time.Since(e.last.warned) < warnEvery {
		return
	}
	e.last.warned = time.Now()
	b := Blocked{
		Time: statusNow(), Frames: frames, Bytes: int64(frames) * (int64(e.db.PageSize()) + wal.FrameHeaderSize),
		Why: res.Why, Readers: e.db.Readers(),
	}
	e.status.blocks(&b)
	attrs := []any{slog.Uint64("frames", uint64(b.Frames)), slog.Int64("bytes", b.Bytes), slog.String("why", b.Why)}
	if len(b.Readers) > 0 {
		attrs = append(attrs, slog.Any("readers", b.Readers))
	}
	e.log.Warn("the WAL grows, since it can't be checkpointed to its end; replication goes on", attrs...)
}

// sealDue decides whether the open segment is to be uploaded. While an upload
// is under way it goes on growing instead: one PUT takes it all.
func (e *engine) sealDue() bool {
	return e.seg != nil && time.Since(e.seg.began) >= e.opts.SyncInterval && e.ship.isIdle()
}

// rest returns when the system tells of a change, or something else is due. It
// tells which.
func (e *engine) rest(ctx context.Context) (changed bool) {
	change := e.watch.arm(e.db.WALPath())
	if change == nil {
		return false // just armed: look once more before relying on it
	}
	return e.pause(ctx, e.idleFor(), change)
}

// pause waits for a time, or until the WAL has changed or an upload has ended
// that the open segment waits for. Others have the database meanwhile.
func (e *engine) pause(ctx context.Context, d time.Duration, change <-chan struct{}) (changed bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	var idle <-chan struct{}
	if e.seg != nil {
		idle = e.ship.idle
	}
	ended := e.snaps.ended()
	e.db.mu.Unlock()
	defer e.db.mu.Lock()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-change:
		e.watch.disarm()
		return true
	case <-idle:
	case <-ended:
	}
	return false
}

// idleFor is how long nothing needs to be done unless the WAL changes.
func (e *engine) idleFor() time.Duration {
	d := pollWatched
	if e.watch.blind {
		d = pollBlind
	}
	if !e.resting() {
		d = min(d, yieldEvery)
	}
	if e.seg != nil {
		if due := e.opts.SyncInterval - time.Since(e.seg.began); due > 0 || e.ship.isIdle() {
			d = min(d, due)
		}
	}
	return max(d, 0)
}
