//go:build !linux && !darwin && !windows

package file

import (
	"errors"
	"os"
)

// renameNew has no way to move without replacing on this system.
func renameNew(temp, target string) error {
	return &os.LinkError{Op: "rename", Old: temp, New: target, Err: errors.ErrUnsupported}
}
