package main

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"golang.org/x/term"

	"tidemark/cmd/tidemark/config"
)

// console is standard error, shared by log lines and a progress bar. It is safe
// for concurrent use.
type console struct {
	w io.Writer
	// draw says how to draw a bar; nil off a terminal.
	draw []mpb.ContainerOption

	mu  sync.Mutex
	bar *bar // nil while there is none; guarded by mu
}

func newConsole(w io.Writer) *console {
	c := &console{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		c.draw = []mpb.ContainerOption{mpb.WithOutput(f)}
	}
	return c
}

// Write writes log lines. The bar makes room for a line and comes back below
// it: what [mpb.Progress] is given to write waits for the next drawing, and a
// process that is aborted now would lose it.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		c.bar.hide()
		defer c.bar.show(c.draw)
	}
	return c.w.Write(b)
}

// logger logs to the console.
func (c *console) logger(how config.Logging) *slog.Logger {
	opts := &slog.HandlerOptions{Level: how.Level}
	if how.Format == "json" {
		return slog.New(slog.NewJSONHandler(c, opts))
	}
	return slog.New(slog.NewTextHandler(c, opts))
}

// progress gives a function that shows how many bytes of a job are done, or
// nil where nobody would see it. The bar appears with the first bytes and
// goes with the last. Whoever calls progress calls endProgress at the end.
func (c *console) progress(what string) func(done, total int64) {
	if c.draw == nil {
		return nil
	}
	var most int64 // guarded by c.mu
	return func(done, total int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if done <= most {
			return // calls of several goroutines can overtake each other
		}
		most = done
		switch {
		case done >= total:
			c.removeBar()
		case c.bar == nil:
			c.bar = &bar{what: what, start: time.Now(), done: done, total: total}
			c.bar.show(c.draw)
		default:
			c.bar.done = done
			c.bar.line.SetCurrent(done)
		}
	}
}

// endProgress takes the bar away.
func (c *console) endProgress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeBar()
}

// removeBar takes the bar away, if there is one. The caller holds mu.
func (c *console) removeBar() {
	if c.bar != nil {
		c.bar.hide()
		c.bar = nil
	}
}
