package netfs

import "strings"

// magicFUSE is the number of all FUSE file systems, and of virtiofs, which speaks
// FUSE with the host.
const magicFUSE = 0x65735546

// magics are the file systems that Linux tells apart by statfs's f_type:
// linux/magic.h, and GNU coreutils' stat for those outside the kernel's tree.
func magics() map[uint32]Kind {
	return map[uint32]Kind{
		0x6969:     "nfs",
		0x517B:     "smbfs",
		0xFF534D42: "cifs",
		0xFE534D42: "cifs", // version 2 on
		0x01021997: "9p",   // also WSL 2's drives
		0x5346414F: "afs",
		0x6B414653: "afs", // the kernel's own
		0x73757245: "coda",
		0x564C:     "ncpfs",
		0x00C36400: "ceph",
		0x01161970: "gfs2",
		0x7461636F: "ocfs2",
		0x0BD00BD0: "lustre",
		0x47504653: "gpfs",
		0x19830326: "beegfs",
		0x20030528: "orangefs",
		0xAAD7AAEA: "panfs",
		0xBEEFDEAD: "snfs",
		0x013111A8: "ibrix",
		0x61636673: "acfs",
		0x786F4256: "vboxsf",
		0xBACBACBC: "vmhgfs",
		0x7C7C6673: "prl_fs",
	}
}

// linuxKind decides by f_type and by the type in the mount table, which is ""
// if it is not known.
func linuxKind(magic uint32, mounted string) Kind {
	if k := magics()[magic]; k != Local {
		return k
	}
	if magic == magicFUSE {
		return fuseKind(mounted)
	}
	switch mounted {
	case "drvfs", // WSL 1, whose number is that of its local files too
		"fakeowner", // a host's folder in Docker Desktop
		"wekafs":
		return Kind(mounted)
	}
	return Local
}

// fuseKind decides by the type of a FUSE mount: fuse.NAME, with the name that the
// program behind it gave, or fuse alone; fuseblk if it serves a block device.
func fuseKind(mounted string) Kind {
	kind, name, _ := strings.Cut(mounted, ".")
	switch {
	case kind == "fuseblk":
		return Local
	case kind == "fuse" && localFUSE()[name]:
		return Local
	case mounted == "":
		return "fuse"
	}
	return Kind(mounted)
}

// localFUSE are the programs that serve files of this machine: drivers of disk
// formats, encryption, and unions of other folders.
func localFUSE() map[string]bool {
	return map[string]bool{
		"ntfs": true, "ntfs-3g": true, "lowntfs-3g": true, "exfat": true, "exfat-fuse": true,
		"ext2": true, "fuse2fs": true, "fuse-ext2": true, "apfs": true, "zfs": true, "lklfuse": true,
		"encfs": true, "gocryptfs": true, "cryfs": true, "securefs": true,
		"mergerfs": true, "mhddfs": true, "shfs": true, "unionfs": true, "unionfs-fuse": true,
		"fuse-overlayfs": true, "bindfs": true,
	}
}
