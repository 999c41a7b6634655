package netfs

import (
	"slices"
	"strings"
)

// mountType finds the type of the file system with a device number ("8:1") in a
// mount table as in /proc/self/mountinfo, or "". The device number is surer than
// the path: a path's longest mount point need not be the one that is visible. All
// mounts of one device are of one type. A line is (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	ID parent device root mount-point options [optional...] - type source options
func mountType(mountinfo, device string) string {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[2] != device {
			continue
		}
		rest := fields[6:]
		if dash := slices.Index(rest, "-"); dash >= 0 && dash+1 < len(rest) {
			return rest[dash+1]
		}
	}
	return ""
}
