package netfs

import (
	"io/fs"

	"golang.org/x/sys/windows"
)

// Of gives the kind of network file system that a path, which must be absolute,
// lies on, or Local.
func Of(path string) (Kind, error) {
	if isUNC(path) {
		return windowsKind(path, driveRemote), nil
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Local, &fs.PathError{Op: "GetVolumePathName", Path: path, Err: err}
	}
	// A drive may be mounted in a folder of another: not the letter counts.
	root := make([]uint16, windows.MAX_LONG_PATH)
	if err := windows.GetVolumePathName(name, &root[0], uint32(len(root))); err != nil {
		return Local, &fs.PathError{Op: "GetVolumePathName", Path: path, Err: err}
	}
	return windowsKind(path, windows.GetDriveType(&root[0])), nil
}
