package source

import (
	"context"
	"errors"
	"sync"
)

// LongWAL is the length of a WAL, in frames, beyond which no sync is waited for.
const LongWAL = longWAL

// Aside has something happen in a moment without a pin, after all was read.
func (d *DB) Aside(ctx context.Context, drain Drainer, happen func()) error {
	index, ok, err := d.readTo(drain)
	if err != nil || !ok {
		return errors.Join(err, errors.New("something was committed"))
	}
	d.unpin(ctx)
	happen()
	return d.standAgain(ctx, drain, index)
}

// SyncForEver has the sync of the database file that is under way not end until end is
// called.
func (d *DB) SyncForEver() (end func()) {
	d.flushing = &flush{done: make(chan struct{})}
	return sync.OnceFunc(func() { close(d.flushing.done) })
}

// Claim and Unclaim are what they are called.
func (d *DB) Claim() bool { d.claim(); return d.claimed }

// Unclaim gives the claim back.
func (d *DB) Unclaim() { d.unclaim() }

// Flushing tells whether the database file is being synced.
func (d *DB) Flushing() bool { return d.flushing != nil }
