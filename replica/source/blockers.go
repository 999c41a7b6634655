package source

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Reader is another process that has a read transaction open on the database.
// While it lasts, checkpoints end at what it reads, and the WAL grows.
type Reader struct {
	PID int
	// Command is the process's name, empty if the system does not tell.
	Command string
}

// String names the process for a person.
func (r Reader) String() string {
	if r.Command == "" {
		return fmt.Sprintf("process %d", r.PID)
	}
	return fmt.Sprintf("%s (process %d)", r.Command, r.PID)
}

// The bytes of the -shm file on which SQLite's locks lie (walformat, section 2.3.1,
// and WALINDEX_LOCK_OFFSET in wal.c): write, checkpoint, recover, and five read
// slots of which each is held, shared, by those who read with its mark.
const (
	lockWrite     = 120
	lockFirstRead = 123
	lockLastRead  = 127
)

// heldLock is a line of /proc/locks, which proc_locks(5) describes:
//
//	1: POSIX  ADVISORY  READ 1234 fd:01:131586 123 127
type heldLock struct {
	pid int
	// file is the device and the inode as the kernel writes them.
	device      string
	inode       uint64
	first, last int64
}

// parseLocks reads the byte-range locks of one inode. Lines that it does not
// understand are left out: those of processes that wait ("->"), of other kinds of
// locks, and of formats to come.
func parseLocks(r io.Reader, inode uint64) []heldLock {
	var locks []heldLock
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) != 8 || f[1] != "POSIX" {
			continue
		}
		l := heldLock{last: 1<<63 - 1} // "EOF"
		at := strings.LastIndexByte(f[5], ':')
		if at < 0 {
			continue
		}
		l.device = f[5][:at]
		_, err := fmt.Sscan(f[4]+" "+f[5][at+1:]+" "+f[6], &l.pid, &l.inode, &l.first)
		if err != nil || l.inode != inode {
			continue
		}
		if _, err := fmt.Sscan(f[7], &l.last); err != nil && f[7] != "EOF" {
			continue
		}
		locks = append(locks, l)
	}
	return locks
}

// readersAmong picks the processes that hold a read slot of the file on a device,
// each once, without our own. Some file systems (btrfs, overlayfs) tell another
// device than the kernel's list: then a lock of ours shows which one is meant.
func readersAmong(locks []heldLock, device string, self int) []int {
	for _, l := range locks {
		if l.pid == self && l.first >= lockWrite && l.last <= lockLastRead+1 {
			device = l.device
		}
	}
	var pids []int
	seen := map[int]bool{self: true}
	for _, l := range locks {
		if l.device == device && l.first <= lockLastRead && l.last >= lockFirstRead && l.pid > 0 && !seen[l.pid] {
			seen[l.pid] = true
			pids = append(pids, l.pid)
		}
	}
	return pids
}
