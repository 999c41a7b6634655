package source

import (
	"context"
	"errors"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// openPatience is how long opening waits for other processes' locks.
	openPatience = 10 * time.Second
	// lockPatience bounds the attempts of a hand-off at the write lock.
	// Measured next to a writer that commits without a pause: 0.5 s at worst.
	// lockTurn is how long it tries between two looks at the WAL.
	lockPatience = 2 * time.Second
	lockTurn     = 10 * time.Millisecond
	// freePatience and lockedPatience bound the wait for a checkpoint of the
	// application's to end, without and under the write lock.
	freePatience   = 200 * time.Millisecond
	lockedPatience = 20 * time.Millisecond
	// spins is how often a lock is tried before the first sleep. A sleep can
	// take far longer than asked, and a busy writer leaves the lock free for
	// microseconds only.
	spins = 300
	// pause is the sleep between later attempts.
	pause = 50 * time.Microsecond
)

// ErrBusy says that a lock was not to be had in time.
var ErrBusy = errors.New("database is locked by others")

// retryBusy runs op until it no longer fails for a lock, for at most the given
// time.
func retryBusy(ctx context.Context, patience time.Duration, op func() error) error {
	deadline := time.Now().Add(patience)
	for n := 0; ; n++ {
		err := op()
		if !isBusy(err) {
			return err
		}
		if time.Now().After(deadline) {
			return errors.Join(ErrBusy, err)
		}
		if n < spins && ctx.Err() == nil {
			continue
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sleep waits, or gives the reason for which ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func isBusy(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}
