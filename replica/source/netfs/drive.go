package netfs

import "strings"

// driveRemote is DRIVE_REMOTE, an answer of Windows' GetDriveType.
const driveRemote = 4

// windowsKind decides by an absolute path and the type of the drive that its
// volume is on. A UNC path names another machine, or a WSL distribution, which is
// another kernel, whatever the drive's type is said to be.
func windowsKind(path string, driveType uint32) Kind {
	switch {
	case isUNC(path):
		return "UNC path"
	case driveType == driveRemote:
		return "network drive"
	}
	return Local
}

// isUNC tells \\server\share and \\?\UNC\server\share from local paths, among them
// \\?\C:\folder and \\.\device.
func isUNC(path string) bool {
	path = strings.ToUpper(strings.ReplaceAll(path, "/", `\`))
	rest, ok := strings.CutPrefix(path, `\\`)
	if !ok {
		return false
	}
	for _, prefix := range []string{`?\`, `.\`} {
		if device, ok := strings.CutPrefix(rest, prefix); ok {
			return strings.HasPrefix(device, `UNC\`)
		}
	}
	return true
}
