package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// notices are what a command logs when it is told to stop, and once more.
type notices struct{ first, second string }

// sameStop is for how long a SIGTERM that follows another one is the same wish: who
// stops a process and its group, as timeout(1) does, sends two.
const sameStop = time.Second

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
		var first os.Signal
		select {
		case first = <-signals:
			logger.Info(say.first)
			cancel()
		case <-released:
			return
		}
		for since := time.Now(); ; {
			select {
			case sig := <-signals:
				if sig == syscall.SIGTERM && first == sig && time.Since(since) < sameStop {
					continue
				}
				logger.Warn(say.second, slog.String("signal", sig.String()))
				p.abort(exitFailed)
				return
			case <-released:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(released)
		wg.Wait()
		cancel()
	}
}
