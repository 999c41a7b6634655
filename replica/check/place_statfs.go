//go:build linux || darwin || freebsd

package check

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// freeSpace is what this user may still write on the disk of a folder.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // their types differ between systems
}
