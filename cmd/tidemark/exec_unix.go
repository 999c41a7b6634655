//go:build unix

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// forward passes a signal on, unless the command has got it, too.
func forward(to *os.Process, sig os.Signal) error {
	if sig != syscall.SIGTERM && fromTerminal(to.Pid) {
		return nil
	}
	return to.Signal(sig)
}

// fromTerminal tells whether a terminal's signal goes to this process and to another one:
// both are in the group that its keys are for. The command would take a Ctrl-C that it
// gets twice for the second one, with which people end what does not end by itself.
func fromTerminal(other int) bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close() //nolint:errcheck // only asked
	front, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	if err != nil || front != unix.Getpgrp() {
		return false
	}
	group, err := unix.Getpgid(other)
	return err == nil && group == front
}

// codeOf is what a process has ended with as a shell tells it: 128 and the signal's
// number, if a signal has ended it.
func codeOf(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}
