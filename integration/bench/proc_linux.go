package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// residentPeak is the greatest resident size that a process has had, in bytes, or 0 if
// it has ended.
func residentPeak(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(status, []byte("VmHWM:"))
	if !ok {
		return 0 // a zombie has none
	}
	value, _, _ := bytes.Cut(rest, []byte("kB"))
	size, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	if err != nil {
		return 0
	}
	return size << 10
}

// processorTime is what a process that runs has spent, in the system's ticks of a
// hundredth of a second.
func processorTime(pid int) (time.Duration, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// After the name, which is in parentheses and may hold anything; proc(5).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, false
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, false
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, true
}

// largest is the greatest size of a process that has ended, or of the one that started
// it, whichever is greater, in bytes.
func largest(s *os.ProcessState) int64 {
	if s == nil {
		return 0
	}
	if usage, ok := s.SysUsage().(*syscall.Rusage); ok {
		return int64(usage.Maxrss) << 10 //nolint:unconvert // it has 32 bits on some systems
	}
	return 0
}

// flushDisks writes out what is in memory of files, so that no side pays for what the
// one before has left.
func flushDisks() { syscall.Sync() }
