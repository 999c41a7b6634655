package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameNew moves temp to target unless target exists.
func renameNew(temp, target string) error {
	if err := unix.RenamexNp(temp, target, unix.RENAME_EXCL); err != nil {
		return &os.LinkError{Op: "renamex_np", Old: temp, New: target, Err: err}
	}
	return nil
}
