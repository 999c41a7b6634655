package main

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"tidemark/cmd/tidemark/config"
)

// console is standard error, shared by log lines and a progress bar: a line
// wipes the bar, which is drawn again with the next step. It is safe for
// concurrent use.
type console struct {
	w        io.Writer
	terminal bool

	mu   sync.Mutex
	bar  *progressbar.ProgressBar // nil while there is none; guarded by mu
	done int64                    // how far the bar is; guarded by mu
}

func newConsole(w io.Writer) *console {
	f, isFile := w.(*os.File)
	return &console{w: w, terminal: isFile && term.IsTerminal(int(f.Fd()))}
}

// Write writes log lines.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		_ = c.bar.Clear() // a smudge on the screen at worst
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
// nil where nobody would see it. The bar appears with the first call.
func (c *console) progress(what string) func(done, total int64) {
	if !c.terminal {
		return nil
	}
	return func(done, total int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bar == nil {
			c.bar, c.done = newBar(c.w, what, total), 0
		}
		if total != c.bar.GetMax64() {
			c.bar.ChangeMax64(total)
		}
		if done > c.done { // calls of several goroutines can overtake each other
			c.done = done
			_ = c.bar.Set64(done) // a smudge on the screen at worst
		}
	}
}

// endProgress takes the bar away.
func (c *console) endProgress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		_ = c.bar.Clear() // a smudge on the screen at worst
		c.bar = nil
	}
}

func newBar(w io.Writer, what string, total int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(
		total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
