package netfs

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Of gives the kind of network file system that a path, which must exist, lies
// on, or Local.
func Of(path string) (Kind, error) {
	var sfs unix.Statfs_t
	if err := unix.Statfs(path, &sfs); err != nil {
		return Local, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	name := unix.ByteSliceToString(sfs.Fstypename[:])
	from := unix.ByteSliceToString(sfs.Mntfromname[:])
	return darwinKind(name, from, sfs.Flags&unix.MNT_LOCAL != 0), nil
}
