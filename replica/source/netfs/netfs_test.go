package netfs_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"tidemark/replica/source/netfs"
)

func TestLinux(t *testing.T) {
	t.Parallel()
	const fuse = 0x65735546
	for name, tc := range map[string]struct {
		magic   uint32
		mounted string
		want    netfs.Kind
	}{
		"NFS":                         {0x6969, "nfs4", "nfs"},
		"SMB, without a mount table":  {0xFF534D42, "", "cifs"},
		"SMB 2 and 3":                 {0xFE534D42, "cifs", "cifs"},
		"old SMB":                     {0x517B, "smbfs", "smbfs"},
		"WSL 2's C:":                  {0x01021997, "9p", "9p"},
		"AFS":                         {0x5346414F, "afs", "afs"},
		"the kernel's AFS":            {0x6B414653, "afs", "afs"},
		"Ceph":                        {0x00C36400, "ceph", "ceph"},
		"GFS2":                        {0x01161970, "gfs2", "gfs2"},
		"OCFS2":                       {0x7461636F, "ocfs2", "ocfs2"},
		"Lustre":                      {0x0BD00BD0, "lustre", "lustre"},
		"VirtualBox's shared folder":  {0x786F4256, "vboxsf", "vboxsf"},
		"virtiofs":                    {fuse, "virtiofs", "virtiofs"},
		"sshfs":                       {fuse, "fuse.sshfs", "fuse.sshfs"},
		"s3fs":                        {fuse, "fuse.s3fs", "fuse.s3fs"},
		"rclone":                      {fuse, "fuse.rclone", "fuse.rclone"},
		"gcsfuse":                     {fuse, "fuse.gcsfuse", "fuse.gcsfuse"},
		"FUSE of an unknown program":  {fuse, "fuse.thesis", "fuse.thesis"},
		"FUSE without a name":         {fuse, "fuse", "fuse"},
		"FUSE, without a mount table": {fuse, "", "fuse"},
		"WSL 1's C:":                  {0x53464846, "drvfs", "drvfs"},
		"Docker Desktop":              {0x1234, "fakeowner", "fakeowner"},

		"ntfs-3g on a disk":      {fuse, "fuseblk", netfs.Local},
		"a disk, with a name":    {fuse, "fuseblk.exfat", netfs.Local},
		"gocryptfs":              {fuse, "fuse.gocryptfs", netfs.Local},
		"mergerfs":               {fuse, "fuse.mergerfs", netfs.Local},
		"fuse-overlayfs":         {fuse, "fuse.fuse-overlayfs", netfs.Local},
		"WSL 1's own files":      {0x53464846, "lxfs", netfs.Local},
		"ext4":                   {0xEF53, "ext4", netfs.Local},
		"XFS":                    {0x58465342, "xfs", netfs.Local},
		"btrfs, not in a table":  {0x9123683E, "", netfs.Local},
		"tmpfs":                  {0x01021994, "tmpfs", netfs.Local},
		"overlay":                {0x794C7630, "overlay", netfs.Local},
		"ZFS":                    {0x2FC12FC1, "zfs", netfs.Local},
		"a number nobody knows":  {0x4D2, "", netfs.Local},
		"a type that looks like": {0xEF53, "fuse.sshfs", netfs.Local},
	} {
		if got := netfs.LinuxKind(tc.magic, tc.mounted); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

const mountinfo = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 0:40 / /mnt/a\040b rw,nosuid shared:4 - fuse.sshfs me@host:/x\040y rw,user_id=0
32 27 0:41 / /mnt/- rw master:1 propagate_from:2 - fuse - rw
33 27 0:42 /sub /mnt/bound rw - cifs //server/share rw
34 27 0:43 / /Docker/host rw,noatime - 9p drvfs rw,aname=drvfs;path=C:\Program Files\Docker,mmap
35 27 0:44 / /cut rw shared:1
36 27 0:45 / /cut rw shared:1 -
0:46
`

func TestMountType(t *testing.T) {
	t.Parallel()
	for device, want := range map[string]string{
		"254:0": "ext4",
		"0:40":  "fuse.sshfs",
		"0:41":  "fuse",
		"0:42":  "cifs",
		"0:43":  "9p",
		"0:44":  "",
		"0:45":  "",
		"0:46":  "",
		"0:4":   "",
		"27":    "",
		"":      "",
	} {
		if got := netfs.MountType(mountinfo, device); got != want {
			t.Errorf("%s: %q, want %q", device, got, want)
		}
	}
}

func FuzzMountType(f *testing.F) {
	f.Add(mountinfo, "0:40")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, table, device string) {
		if got := netfs.MountType(table, device); !strings.Contains(table, got) {
			t.Errorf("%q is not in the table", got)
		}
	})
}

func TestDarwin(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, from string
		local      bool
		want       netfs.Kind
	}{
		{"apfs", "/dev/disk3s5", true, netfs.Local},
		{"hfs", "/dev/disk4", true, netfs.Local},
		{"exfat", "/dev/disk4s1", true, netfs.Local},
		{"nfs", "host:/x", false, "nfs"},
		{"nfs", "fuse-t:/sshfs", true, "nfs"},
		{"smbfs", "//me@host/x", false, "smbfs"},
		{"afpfs", "afp_0", false, "afpfs"},
		{"webdav", "https://host/x", false, "webdav"},
		{"anything", "", false, "anything"},
		{"macfuse", "me@host:/x", false, "macfuse"},
		{"macfuse", "me@host:/x", true, "macfuse"},
		{"osxfuse", "rclone@osxfuse0", true, "osxfuse"},
		{"macfuse", "/Volumes/x", true, "macfuse"},
		{"macfuse", "/dev/disk5s1", true, netfs.Local},
		{"AppleVirtIOFS", "com.apple.virtio-fs.automount", true, "AppleVirtIOFS"},
		{"prl_fs", "Home", true, "prl_fs"},
	} {
		if got := netfs.DarwinKind(tc.name, tc.from, tc.local); got != tc.want {
			t.Errorf("%s from %s, local %v: %q, want %q", tc.name, tc.from, tc.local, got, tc.want)
		}
	}
}

func TestWindows(t *testing.T) {
	t.Parallel()
	const fixed, remote = 3, 4
	for _, tc := range []struct {
		path  string
		drive uint32
		want  netfs.Kind
	}{
		{`C:\app\app.db`, fixed, netfs.Local},
		{`Z:\app.db`, remote, "network drive"},
		{`C:\mounted\app.db`, remote, "network drive"},
		{`\\server\share\app.db`, fixed, "UNC path"},
		{`//server/share/app.db`, fixed, "UNC path"},
		{`\\wsl$\Ubuntu\home\app.db`, fixed, "UNC path"},
		{`\\?\UNC\server\share\app.db`, fixed, "UNC path"},
		{`\\.\unc\server\share\app.db`, fixed, "UNC path"},
		{`\\?\C:\app.db`, fixed, netfs.Local},
		{`\\?\Z:\app.db`, remote, "network drive"},
		{`\\.\C:\app.db`, fixed, netfs.Local},
		{`\app.db`, fixed, netfs.Local},
		{``, fixed, netfs.Local},
	} {
		if got := netfs.WindowsKind(tc.path, tc.drive); got != tc.want {
			t.Errorf("%s on a drive of type %d: %q, want %q", tc.path, tc.drive, got, tc.want)
		}
	}
}

// The machine that runs tests keeps its temporary files to itself.
func TestOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if got, err := netfs.Of(dir); err != nil || got != netfs.Local {
		t.Errorf("%s: %q, %v", dir, got, err)
	}
}

func TestOfMissing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none", "app.db")
	_, err := netfs.Of(path)
	asked := slices.Contains([]string{"linux", "darwin"}, runtime.GOOS) // elsewhere the path may be enough
	if (asked || err != nil) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
