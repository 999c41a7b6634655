package replica

import (
	"context"
	"errors"
	"log/slog"
	"time"
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
	// handIdle is how long a short WAL may lie around before it is handed off
	// all the same.
	handIdle = time.Minute
	// An incomplete hand-off is tried again after a delay between these.
	minHandDelay = 100 * time.Millisecond
	maxHandDelay = 5 * time.Second
)

// follow reads, hands off and seals until ctx ends.
func (e *engine) follow(ctx context.Context) error {
	e.nextHand = time.Now()
	e.handDelay = minHandDelay
	lastHand, checked, alert := time.Now(), time.Now(), time.Time{}
	for ctx.Err() == nil {
		if time.Since(checked) >= checkEvery {
			if err := e.db.Check(); err != nil {
				return err
			}
			checked = time.Now()
		}
		n, err := e.read()
		if err := e.regain(ctx, err); err != nil {
			return err
		}
		if e.handOffDue(lastHand) {
			err := e.handOff(ctx)
			if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				return nil // told to stop
			}
			if err := e.regain(ctx, err); err != nil {
				return err
			}
			lastHand = time.Now()
		}
		if e.sealDue() {
			if err := e.seal(); err != nil {
				return err
			}
		}
		if n > 0 {
			alert = time.Time{}
		}
		if n > 0 || time.Since(alert) < settle {
			e.watch.disarm()
			e.pause(ctx, coalesce, nil)
		} else if e.rest(ctx) {
			alert = time.Now()
		}
	}
	return nil
}

// regain repairs continuity if err says that it is lost, and gives all other
// errors back.
func (e *engine) regain(ctx context.Context, err error) error {
	if !errors.Is(err, errGap) {
		return err
	}
	e.log.Error("lost track of the WAL, comparing all pages", slog.Any("err", err))
	return e.reattach(ctx)
}

// handOffDue decides whether to let the WAL restart.
func (e *engine) handOffDue(last time.Time) bool {
	pos := e.tail.position()
	if e.handed && pos == e.tail.sealed || pos.Frame == 0 || time.Now().Before(e.nextHand) {
		return false
	}
	return int(pos.Frame) >= e.opts.CheckpointPages || time.Since(last) >= handIdle
}

func (e *engine) handOff(ctx context.Context) error {
	res, err := e.db.HandOff(ctx, e)
	if err != nil {
		return err
	}
	e.handed = res.Complete
	if res.Complete {
		e.handDelay = minHandDelay
	} else {
		e.nextHand = time.Now().Add(e.handDelay)
		e.handDelay = min(2*e.handDelay, maxHandDelay)
	}
	e.log.Debug("handed off the WAL", slog.Bool("complete", res.Complete),
		slog.Uint64("frames", uint64(e.tail.sealed.Frame)), slog.Duration("locked", res.Locked), slog.String("why", res.Why))
	return nil
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
// that the open segment waits for.
func (e *engine) pause(ctx context.Context, d time.Duration, change <-chan struct{}) (changed bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	var idle <-chan struct{}
	if e.seg != nil {
		idle = e.ship.idle
	}
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-change:
		e.watch.disarm()
		return true
	case <-idle:
	}
	return false
}

// idleFor is how long nothing needs to be done unless the WAL changes.
func (e *engine) idleFor() time.Duration {
	d := pollWatched
	if e.watch.blind {
		d = pollBlind
	}
	if e.seg != nil {
		if due := e.opts.SyncInterval - time.Since(e.seg.began); due > 0 || e.ship.isIdle() {
			d = min(d, due)
		}
	}
	return max(d, 0)
}
