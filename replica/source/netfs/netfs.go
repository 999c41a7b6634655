// Package netfs tells whether a path lies on a network file system.
//
// In WAL mode SQLite needs two things of all who have a database open: that they
// see each other's locks, and that the -shm file, mapped into memory, is one
// memory for all of them (sqlite.org/wal.html: "WAL does not work over a network
// filesystem"). Only one kernel can give both. So what counts here as a network
// file system is one whose files another kernel may have open at the same time,
// with a wire between them or not:
//
//   - network file systems proper: NFS, SMB, AFS, Ceph and their like;
//   - cluster file systems (GFS2, OCFS2, GPFS, Lustre): their locks reach other
//     machines, but mapped memory is the same there only page by page, if at all,
//     and no memory barrier reaches across;
//   - folders that a virtual machine or a container shares with its host (9p,
//     virtiofs, vboxsf, WSL's drives): the host's kernel has the same files open
//     and knows nothing of the guest's locks or memory;
//   - FUSE, unless the program behind it is known to serve local files: the kernel
//     can't tell where they come from.
//
// Where it is in doubt, the answer is yes: to be wrong so costs the user a flag, to
// be wrong otherwise costs a database. A block device that lies on a network
// (iSCSI, NBD) is local, since one kernel owns the file system on it. The lower
// layers of an overlay are not looked at.
package netfs

// Kind names a kind of network file system as people know it from the output of
// mount, such as nfs or fuse.sshfs.
type Kind string

// Local is the Kind of every file system that is none.
const Local Kind = ""
