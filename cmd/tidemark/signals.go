package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// notices are what a command logs when it is told to stop, and once more.
type notices struct{ first, second string }

// interruptible gives a context that the first SIGINT or SIGTERM cancels. A
// second one aborts the process: for whoever can't wait for a clean stop. Each
// is logged. The caller calls release at the end.
func (p process) interruptible(parent context.Context, logger *slog.Logger, say notices) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	released := make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-signals:
			logger.Info(say.first)
			cancel()
		case <-released:
			return
		}
		select {
		case <-signals:
			logger.Warn(say.second)
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
