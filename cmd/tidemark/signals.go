package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interruptible gives a context that the first SIGINT or SIGTERM cancels,
// after notice was called. A second one aborts the process: for whoever can't
// wait for a clean stop. The caller calls release at the end.
func (p process) interruptible(parent context.Context, notice func()) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	released := make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-signals:
			notice()
			cancel()
		case <-released:
			return
		}
		select {
		case <-signals:
			p.abort(exitFailed)
		case <-released:
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(released)
		wg.Wait()
		cancel()
	}
}
