package replica

import (
	"context"
	"errors"
	"time"
)

// A database in which nothing happens is parked: all connections are closed, where the
// system has locks to take the pin's place, else all but the pin's. It is only asked of
// the system, once in a while, whether the database and its WAL are as they were.
const (
	// defaultParkAfter is how long nothing must have been committed; of a database in
	// which nothing has been since the start, it is settle.
	defaultParkAfter = 5 * time.Second
	// A parked database is looked at every parkLook, and after parkLong every
	// parkLookLong: the system tells of changes anyway.
	parkLook     = time.Second
	parkLong     = 10 * time.Second
	parkLookLong = 5 * time.Second
)

// parkDue tells whether the database is to be parked: all is read, handed off and
// uploaded, and nothing is to be done.
func (e *engine) parkDue() bool {
	quiet := (!e.stirred || time.Since(e.last.read) >= e.opts.parkAfter) && time.Since(e.last.alert) >= min(settle, e.opts.parkAfter)
	return quiet && e.resting() && e.seg == nil && e.watch.armed != "" &&
		e.ship.isIdle() && !e.ship.isFailing() && !e.snaps.busy() && !e.snapshotDue()
}

// park does nothing until there is something to do. If an error keeps connections
// from being opened again, the next engine tries.
func (e *engine) park(ctx context.Context) (changed bool, err error) {
	if err := e.db.park(ctx, e.seat); err != nil {
		return false, err
	}
	if e.opts.Process.images.scarce() {
		e.cache.drop()
	}
	e.prev.forget()
	e.seat.attached = nil
	if e.tail.reader != nil {
		e.tail.reader.Release()
	}
	if e.opts.parked != nil {
		e.opts.parked()
	}
	for began := time.Now(); ctx.Err() == nil && err == nil && !changed; {
		e.status.parks(true)
		look := parkLook
		if now := time.Now(); now.Sub(began) > parkLong {
			// All of a process at the same time: to wake it up costs more than to look.
			look = now.Truncate(parkLookLong).Add(parkLookLong).Sub(now)
		}
		if changed = e.pause(ctx, look, e.watch.changed); !changed {
			changed, err = e.disturbed()
		}
		if e.takeRequest(); e.snapshotDue() {
			break
		}
	}
	e.status.parks(false)
	if ctx.Err() != nil && err == nil && e.db.Parked() && e.db.Resting() {
		return false, nil // there is nothing to be read at the end
	}
	return changed, errors.Join(err, e.db.unpark(context.WithoutCancel(ctx), e.seat))
}

// disturbed tells whether anything has happened while this engine did nothing.
func (e *engine) disturbed() (bool, error) {
	switch {
	case e.seg != nil || e.seat.lost != nil: // others have read, too
		return true, nil //nolint:nilerr // it is told later
	case e.db.Parked():
		return !e.db.Resting(), nil
	}
	n, err := e.Read() // others have something to do
	return n > 0, err
}
