package restore

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve makes sure that there is space on the disk for a file's first n bytes.
func reserve(f *os.File, n int64) error {
	return control(f, func(fd int) error { return unix.Fallocate(fd, 0, 0, n) })
}

// startWriteback has the system begin to write n bytes of a file to the disk. It
// proves nothing, only a sync does.
func startWriteback(f *os.File, off, n int64) {
	_ = control(f, func(fd int) error { return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE) })
}

// control calls fn with a file's descriptor, again if a signal interrupts it.
func control(f *os.File, fn func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		for failed = fn(int(fd)); failed == unix.EINTR; failed = fn(int(fd)) { //nolint:errorlint // bare from the system
		}
	})
	if err == nil {
		err = failed
	}
	return err
}
