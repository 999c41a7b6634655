package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// held tells what a process holds now.
func held(pid int) (h idleFigures, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return h, false
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return h, false
	}
	return idleFigures{
		resident: statusValue(status, "VmRSS") << 10, private: statusValue(status, "RssAnon") << 10,
		descriptors: len(descriptors), threads: int(statusValue(status, "Threads")),
	}, true
}

// statusValue is the number behind a name in a process's status, 0 without one;
// proc(5).
func statusValue(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// descriptorLimit is how many descriptors a process may have that takes all it may, as
// Go's do.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Max, 1<<20))
}
