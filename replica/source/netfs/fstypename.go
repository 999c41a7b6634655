package netfs

import "strings"

// darwinKind decides by what macOS's statfs says: f_fstypename, f_mntfromname,
// and the flag MNT_LOCAL. The flag alone is not enough: it is whatever the one who
// mounts a FUSE file system says, and "-o local" is a common advice, for the
// Finder's sake. So those must come from a disk. And a virtual machine's shared
// folders may have it.
func darwinKind(name, from string, local bool) Kind {
	lower := strings.ToLower(name)
	switch {
	case !local:
		return Kind(name)
	case strings.Contains(lower, "fuse"): // macfuse, osxfuse, fusefs, fuse-t
		if !strings.HasPrefix(from, "/dev/") {
			return Kind(name)
		}
	case strings.Contains(lower, "virtio"), lower == "prl_fs", lower == "vmhgfs", lower == "nfs":
		return Kind(name)
	}
	return Local
}
