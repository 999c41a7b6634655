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
	// lockPatience bounds one attempt at the write lock. Measured next to a
	// writer that commits without a pause: 0.5 s at worst.
	lockPatience = 2 * time.Second
	// spins is how often a lock is tried before the first sleep. A sleep can
	// take far longer than asked, and a busy writer leaves the lock free for
	// microseconds only.
	spins = 300
	// pause is the sleep between later attempts.
	pause = 50 * time.Microsecond
)

// errBusy says that a lock was not to be had in time.
var errBusy = errors.New("database is locked by others")

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
			return errors.Join(errBusy, err)
		}
		if n < spins {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
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
