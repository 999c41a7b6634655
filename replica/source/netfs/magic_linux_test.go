package netfs_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"tidemark/replica/source/netfs"
)

// The numbers are those of the kernel's headers, where these have them.
func TestMagics(t *testing.T) {
	t.Parallel()
	for magic, want := range map[uint32]netfs.Kind{
		unix.NFS_SUPER_MAGIC:   "nfs",
		unix.SMB_SUPER_MAGIC:   "smbfs",
		unix.CIFS_SUPER_MAGIC:  "cifs",
		unix.SMB2_SUPER_MAGIC:  "cifs",
		unix.V9FS_MAGIC:        "9p",
		unix.AFS_SUPER_MAGIC:   "afs",
		unix.AFS_FS_MAGIC:      "afs",
		unix.CODA_SUPER_MAGIC:  "coda",
		unix.NCP_SUPER_MAGIC:   "ncpfs",
		unix.CEPH_SUPER_MAGIC:  "ceph",
		unix.OCFS2_SUPER_MAGIC: "ocfs2",
	} {
		if got := netfs.Magics()[magic]; got != want {
			t.Errorf("%#x is %q, want %q", magic, got, want)
		}
	}
	if got := netfs.LinuxKind(unix.FUSE_SUPER_MAGIC, "fuse.x"); got != "fuse.x" {
		t.Errorf("FUSE is %q", got)
	}
}

// Devices are written as the mount table of this system writes them.
func TestMountTypeOfProc(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	device, err := netfs.Device("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if got := netfs.MountType(string(table), device); got != "proc" {
		t.Errorf("%s is of type %q, want proc", device, got)
	}
}
