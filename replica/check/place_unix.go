//go:build unix

package check

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// mayWriteIn tells whether files can be made in a folder.
func mayWriteIn(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

// sameOwner compares the user and the group of two files.
func sameOwner(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, also := b.Sys().(*syscall.Stat_t)
	return !ok || !also || x.Uid == y.Uid && x.Gid == y.Gid
}
