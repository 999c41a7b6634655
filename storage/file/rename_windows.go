package file

import (
	"os"

	"golang.org/x/sys/windows"
)

// renameNew moves temp to target unless target exists: MoveFileEx replaces
// only if it is told to.
func renameNew(temp, target string) error {
	from, err := windows.UTF16PtrFromString(temp)
	if err != nil {
		return err
	}
	to, err := windows.UTF16PtrFromString(target)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(from, to, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "MoveFileEx", Old: temp, New: target, Err: err}
	}
	return nil
}
