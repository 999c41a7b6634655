//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"
)

// The first signal cancels, the second aborts. The test has the process's
// signals for itself, so it is not parallel.
func TestInterruptible(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	noticed, aborted := make(chan struct{}), make(chan int, 1)
	p := process{abort: func(code int) { aborted <- code }}
	ctx, release := p.interruptible(t.Context(), func() { close(noticed) })
	defer release()

	if err := self.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	<-noticed
	select {
	case <-aborted:
		t.Fatal("one signal aborts")
	default:
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-aborted; code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
}

// Without a signal, release ends everything.
func TestInterruptibleRelease(t *testing.T) {
	p := process{abort: func(int) { t.Error("aborted") }}
	ctx, release := p.interruptible(t.Context(), func() { t.Error("noticed") })
	release()
	<-ctx.Done()
}
