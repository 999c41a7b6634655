package replica

import (
	"time"

	"tidemark/replica/disk"
	"tidemark/replica/upkeep"
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
