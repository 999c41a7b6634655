package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameNew moves temp to target unless target exists.
func renameNew(temp, target string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, target, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: temp, New: target, Err: err}
	}
	return nil
}
