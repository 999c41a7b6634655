package netfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Of gives the kind of network file system that a path, which must exist, lies
// on, or Local. Without /proc it goes by the file system's number alone.
func Of(path string) (Kind, error) {
	device, err := device(path)
	if err != nil {
		return Local, err
	}
	var sfs unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(path, &sfs) }); err != nil {
		return Local, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		mounts = nil // then FUSE counts as not known to be local
	}
	return linuxKind(uint32(sfs.Type), mountType(string(mounts), device)), nil
}

// device gives the number of the device that a path lies on, as the mount table
// writes it.
func device(path string) (string, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Stat(path, &st) }); err != nil {
		return "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)), nil
}

// retry calls again what a signal cut off, as a FUSE mount lets it.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
