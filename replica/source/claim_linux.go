package source

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockCheckpoint is where a checkpoint has its lock in the -shm file
	// (WAL_CKPT_LOCK in wal.c, UNIX_SHM_BASE in os_unix.c).
	lockCheckpoint = 121
	// claimPatience is how long it is tried for: beside a busy application it is free
	// for most of the time.
	claimPatience = 5 * time.Millisecond
)

// claim keeps other processes from checkpointing until the next checkpoint of ours has
// ended. If somebody is at it for long, it does nothing.
//
// It takes the very lock that SQLite takes for our checkpoint, and gives back after it:
// such locks (F_SETLK, fcntl(2)) belong to the process, so SQLite finds it free. It must
// not be held for longer, since others don't wait for it: to them the database is being
// checkpointed.
func (d *DB) claim() {
	if _, err := d.index(); err != nil || !d.indexInPlace() { // this opens the -shm file
		return
	}
	// An application has it for microseconds after each commit, to look what it could copy.
	for start := time.Now(); time.Since(start) < claimPatience; {
		err := d.setClaim(unix.F_WRLCK)
		if d.claimed = err == nil; d.claimed || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return
		}
	}
}

// unclaim gives back what no checkpoint has.
func (d *DB) unclaim() {
	if d.claimed {
		d.claimed = d.setClaim(unix.F_UNLCK) != nil
	}
}

func (d *DB) setClaim(how int16) error {
	l := unix.Flock_t{Type: how, Whence: io.SeekStart, Start: lockCheckpoint, Len: 1}
	return fileLock(d.shm, unix.F_SETLK, &l)
}
