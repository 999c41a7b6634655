package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Readers tells which other processes have a read transaction open now, as far as
// the system tells: on Linux, not those of other containers; elsewhere none. A
// process that only begins one next to a checkpoint can be among them, so this is
// for messages. It may be called beside anything.
//
// It asks for the -shm file's inode and never opens it: closing it would drop
// SQLite's locks. See the package comment.
func (d *DB) Readers() []Reader {
	info, err := os.Stat(d.path + "-shm")
	if err != nil {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // only read
	var readers []Reader
	for _, pid := range readersAmong(parseLocks(f, st.Ino), device(st.Dev), os.Getpid()) {
		readers = append(readers, Reader{PID: pid, Command: command(pid)})
	}
	return readers
}

// device writes a device number as /proc/locks does: gnu_dev_major and
// gnu_dev_minor in hex digits.
func device(dev uint64) string {
	major := dev>>8&0xfff | dev>>32&^0xfff
	minor := dev&0xff | dev>>12&^0xff
	return fmt.Sprintf("%02x:%02x", major, uint32(minor))
}

// command is the name of a process's program.
func command(pid int) string {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if exe, err := os.Readlink(filepath.Join(proc, "exe")); err == nil {
		return filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	}
	b, err := os.ReadFile(filepath.Join(proc, "comm")) // another user's
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
