// Package child starts processes that don't outlive the one that started them:
// a test that is killed, or that runs into its time limit, cleans nothing up.
package child

import (
	"os/exec"
	"runtime"
)

// Process is a process that was started.
type Process struct {
	exited chan struct{}
	err    error
}

// Start starts cmd. If this process ends first, however it does, the kernel kills
// the other one: on Linux and FreeBSD, since no other system can. There a signal
// of the terminal, which goes to both, is all there is.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{exited: make(chan struct{})}
	tie(cmd)
	started := make(chan error, 1)
	go func() {
		// What the kernel watches is the thread that starts the process, and Go
		// ends threads as it likes. This one waits until it is over.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Exited is closed when the process has ended, and everything that it wrote was
// read.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is how it ended, as exec.Cmd's Wait has it, or nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return p.err
	default:
		return nil
	}
}
