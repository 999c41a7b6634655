package replica

import (
	"time"

	"tidemark/replica/disk"
)

// On gives options that keep local state on a file system, nil: the operating
// system's, and try again soon after a failure.
func (o Options) On(fs disk.FS) Options {
	o.fs, o.retryAfter = fs, 5*time.Millisecond
	return o
}
