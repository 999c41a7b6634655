package replica

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"tidemark/replica/disk"
	"tidemark/replica/source"
	"tidemark/replica/upkeep"
	"tidemark/wal"
)

// On gives options that keep local state on a file system, nil: the operating
// system's, and try again soon after a failure.
func (o Options) On(fs disk.FS) Options {
	o.fs, o.retryAfter = fs, 5*time.Millisecond
	return o
}

// Parking gives options that park a database almost at once, and tell of it.
func (o Options) Parking(parked func()) Options {
	o.parkAfter, o.parked = time.Millisecond, parked
	return o
}

// Packed gives options that pack in another way.
func (o Options) Packed(p upkeep.Packing) Options {
	o.packing = p
	return o
}

// Seats are those that follow a database in a process, in the order in which they came.
type Seats struct{ d *database }

// Locked calls fn with the lock of a database that is followed: nobody does anything
// meanwhile but what fn has done.
func (p *Process) Locked(path string, fn func(Seats)) {
	path, _ = filepath.EvalSymlinks(path)
	p.mu.Lock()
	d := p.databases[path]
	p.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(Seats{d})
}

// Read reads for all, as a seat's.
func (s Seats) Read(lead int) error {
	return s.d.pass(s.d.seats[lead], func(drain source.Drainer) error { _, err := drain.Read(); return err })
}

// HandOff does as a seat.
func (s Seats) HandOff(lead int) (res source.HandOffResult, err error) {
	err = s.d.pass(s.d.seats[lead], func(drain source.Drainer) (err error) {
		res, err = s.d.HandOff(context.Background(), drain)
		return err
	})
	return res, err
}

// Aside gives the pin up for a while, as a seat to which the source then says that
// something may have been missed.
func (s Seats) Aside(lead int, during func()) error {
	seat := s.d.seats[lead]
	err := s.d.pass(seat, func(drain source.Drainer) error {
		if _, err := drain.Keep(wal.Salts{}); err != nil {
			return err
		}
		s.d.Release(context.Background())
		during()
		return errors.Join(s.d.Hold(context.Background()), source.ErrAside)
	})
	s.d.leaveOut(seat, source.ErrAside) // instead of giving it the error
	return err
}

// Image counts one that is being read, or is no more.
func (s Seats) Image(n int) {
	s.d.images += n
	s.d.still.Broadcast()
}
