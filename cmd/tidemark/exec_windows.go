package main

import "os"

// forward does nothing: here a Ctrl-C, and the end of a console, go to every process of
// the console, and no signal can be sent to another process.
func forward(*os.Process, os.Signal) error { return nil }

// codeOf is what a process has ended with.
func codeOf(state *os.ProcessState) int { return state.ExitCode() }
