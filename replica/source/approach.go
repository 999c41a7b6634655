package source

import (
	"context"
	"errors"
	"time"
)

const (
	// farBehind is how long a reader reads at once that is far from the WAL's end.
	farBehind = 15 * time.Millisecond
	// slowPatience is how long the write lock is tried for, to slow writers down.
	slowPatience = 200 * time.Millisecond
	// letInPatience is how long a writer may take to notice that it is free again:
	// SQLite's busy handler sleeps 100 ms at most.
	letInPatience = 120 * time.Millisecond
	// sliceShare is for how many frames of the WAL it is read for one more slice
	// under one lock, a slice being a call of Drainer.Secure; maxSlices is the most,
	// lastSlices how many it may be when the end is near.
	sliceShare = 4000
	maxSlices  = 10
	lastSlices = 2
)

// approach brings a reader to the WAL's end that is far from it, which shows by how
// long it reads. Beside writers that are faster it would never get there: while it
// reads some frames, more than these are written, and each time it has further to
// go. So the writers are slowed down. The WAL is read under the write lock; then that
// is free until something was committed, and so on.
//
// The longer the WAL is, the longer the lock is held at once: 0.1 s at first, 1 s for a
// WAL of 36,000 frames. A reader that gets no further with that is slower than the
// writers by so much that they would have to be stopped altogether. Where nobody
// writes, the lock is left alone.
func (d *DB) approach(ctx context.Context, drain Drainer, until time.Time, res *HandOffResult) (there bool, err error) {
	for ctx.Err() == nil {
		before := d.length(ctx)
		start := time.Now()
		if _, err := drain.Read(); err != nil || time.Since(start) < farBehind {
			return err == nil, err
		}
		if d.length(ctx) == before && time.Now().Before(until) {
			continue
		}
		for grown := true; grown; grown = d.letIn(ctx) {
			if time.Now().After(until) {
				res.Behind, res.Why = true, "the application writes faster than the WAL is read"
				return false, nil
			}
			if there, err := d.readUnderLock(ctx, drain, res); there || err != nil {
				return there, err
			}
		}
	}
	return false, context.Cause(ctx)
}

// length is how many frames the WAL has, -1 if that can't be told now.
func (d *DB) length(ctx context.Context) int {
	frames, _, err := d.walIndex(ctx, 0)
	if err != nil {
		return -1
	}
	return int(frames)
}

// readUnderLock reads under the write lock, if that is to be had, and tells whether
// it has come to the WAL's end.
func (d *DB) readUnderLock(ctx context.Context, drain Drainer, res *HandOffResult) (there bool, err error) {
	slices := min(1+d.length(ctx)/sliceShare, maxSlices)
	err = d.lock(ctx, slowPatience)
	if err == nil {
		err = d.locked(ctx, res, func() error {
			_, err := secure(drain, slices)
			return err
		})
		there = err == nil
	}
	if errors.Is(err, ErrBehind) || errors.Is(err, ErrBusy) {
		err = nil
	}
	return there, err
}

// secure has the WAL read under the write lock, in so many slices at most.
func secure(drain Drainer, slices int) (frames uint32, err error) {
	for range slices {
		if frames, err = drain.Secure(); !errors.Is(err, ErrBehind) {
			break
		}
	}
	return frames, err
}

// letIn leaves the write lock to others until the WAL has grown, and tells whether
// it has.
func (d *DB) letIn(ctx context.Context) (grown bool) {
	before := d.length(ctx)
	for until := time.Now().Add(letInPatience); time.Now().Before(until); {
		if d.length(ctx) != before {
			return true
		}
		if sleep(ctx, pause) != nil {
			return false
		}
	}
	return false
}
