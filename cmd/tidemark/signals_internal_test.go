//go:build unix

package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
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
	aborted := make(chan int, 1)
	p := process{abort: func(code int) { aborted <- code }}
	var log bytes.Buffer
	ctx, release := p.interruptible(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), notices{first: "stopping", second: "stopped"})
	defer release()

	if err := self.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
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
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "msg=stopped") {
		t.Errorf("logged %q, want a line for each signal", log.String())
	}
}

// What stops a process and its group sends two SIGTERMs: that is one wish. A SIGINT
// after it is another.
func TestInterruptibleTwice(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	aborted := make(chan int, 1)
	p := process{abort: func(code int) { aborted <- code }}
	var log bytes.Buffer
	ctx, release := p.interruptible(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), notices{first: "stopping", second: "stopped"})
	for range 2 {
		if err := self.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
	}
	if err := self.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-aborted
	release()
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "signal=interrupt") {
		t.Errorf("logged %q, want a line for the first and one for the last", got)
	}
}

// Without a signal, release ends everything.
func TestInterruptibleRelease(t *testing.T) {
	p := process{abort: func(int) { t.Error("aborted") }}
	var log bytes.Buffer
	ctx, release := p.interruptible(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), notices{})
	release()
	if log.Len() > 0 {
		t.Errorf("logged %q", log.String())
	}
	<-ctx.Done()
}
