package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const deletedMark = " (deleted)"

// holders looks through the open files of all processes that this user may see, and
// through the locks of all others. One in another container sees the files by other
// names: it is found by the files' numbers, if its process is seen at all.
func holders(path string) holding {
	names := map[string]os.FileInfo{}
	for _, suffix := range append([]string{""}, sidecars()...) {
		info, err := os.Stat(path + suffix)
		if err != nil {
			info = nil
		}
		names[filepath.Base(path)+suffix] = info
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return holding{}
	}
	out := holding{known: true, all: true}
	self := os.Getpid()
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == self {
			continue
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if os.IsPermission(err) {
			out.all = false
		}
		for _, fd := range fds {
			link := filepath.Join(dir, fd.Name())
			if h, ok := held(link, path, names); ok {
				h.pid, h.command = pid, command(pid)
				out.holders = append(out.holders, h)
				break
			}
		}
	}
	for _, pid := range lockers(names[filepath.Base(path)], names[filepath.Base(path)+"-shm"]) {
		seen := slices.ContainsFunc(out.holders, func(h holder) bool { return h.pid == pid })
		if pid != self && !seen {
			out.holders = append(out.holders, holder{pid: pid, command: command(pid)})
		}
	}
	return out
}

// The bytes on which SQLite's locks lie: in a database from 2^30 on (os.h, PENDING_BYTE),
// in a -shm file from 120 to 128 (walformat, section 2.3.1). On the last of these
// everybody has one who has the database open in WAL mode.
const (
	firstFileLock                 = 1 << 30
	firstIndexLock, lastIndexLock = 120, 128
)

// lockers finds who has a lock on a database or its -shm file (nil: there is none) in
// the system's list, which tells of all users:
//
//	1: POSIX  ADVISORY  READ 1234 fd:01:131586 128 128
//
// The device is not compared: some file systems tell another one than that list.
func lockers(db, shm os.FileInfo) (pids []int) {
	list, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	inode := func(info os.FileInfo) uint64 {
		if info == nil {
			return 0
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0
		}
		return st.Ino
	}
	file, index := inode(db), inode(shm)
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if len(f) != 8 || f[1] != "POSIX" {
			continue
		}
		var pid int
		var no uint64
		var first int64
		_, err := fmt.Sscan(f[4]+" "+f[5][strings.LastIndexByte(f[5], ':')+1:]+" "+f[6], &pid, &no, &first)
		if err != nil || pid <= 0 || no == 0 {
			continue
		}
		if no == file && first >= firstFileLock || no == index && first >= firstIndexLock && first <= lastIndexLock {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// held tells whether an open file of a process is one of the database's.
func held(link, path string, names map[string]os.FileInfo) (holder, bool) {
	to, err := os.Readlink(link)
	if err != nil {
		return holder{}, false
	}
	name, gone := strings.CutSuffix(to, deletedMark)
	want, ours := names[filepath.Base(name)]
	if !ours {
		return holder{}, false
	}
	if gone {
		// -shm and -journal come and go; what is in a database or its WAL counts.
		lost := name == path || name == path+"-wal"
		return holder{deleted: name}, lost && filepath.Dir(name) == filepath.Dir(path)
	}
	info, err := os.Stat(link)
	return holder{}, err == nil && want != nil && os.SameFile(info, want)
}

// command is the name of a process's program.
func command(pid int) string {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if exe, err := os.Readlink(filepath.Join(proc, "exe")); err == nil {
		return filepath.Base(strings.TrimSuffix(exe, deletedMark))
	}
	b, err := os.ReadFile(filepath.Join(proc, "comm")) // another user's
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
