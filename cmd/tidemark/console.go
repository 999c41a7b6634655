package main

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"tidemark/cmd/tidemark/config"
)

// redraw is how often a bar is drawn, whether or not something moved.
const redraw = 250 * time.Millisecond

// console is standard error, shared by log lines and a progress bar: a line
// wipes the bar, which is drawn again soon. It is safe for concurrent use.
type console struct {
	w io.Writer
	// width gives the terminal's number of columns, each time anew; nil off a
	// terminal.
	width func() int

	mu    sync.Mutex
	bar   *bar          // nil while there is none; guarded by mu
	drawn int           // the columns that the bar takes now; guarded by mu
	ended chan struct{} // closed when the bar goes away; guarded by mu
	wg    sync.WaitGroup
}

func newConsole(w io.Writer) *console {
	c := &console{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		c.width = func() int {
			columns, _, err := term.GetSize(int(f.Fd()))
			if err != nil || columns <= 0 {
				return 80
			}
			return columns
		}
	}
	return c
}

// Write writes log lines.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wipe()
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
// nil where nobody would see it. The bar appears with the first call. Whoever
// calls progress calls endProgress at the end.
func (c *console) progress(what string) func(done, total int64) {
	if c.width == nil {
		return nil
	}
	return func(done, total int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bar == nil {
			c.bar, c.ended = &bar{what: what}, make(chan struct{})
			ended := c.ended
			c.wg.Go(func() { c.keepDrawing(ended) })
		}
		c.bar.set(done, total)
	}
}

// keepDrawing draws the bar until ended is closed.
func (c *console) keepDrawing(ended <-chan struct{}) {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		c.draw()
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}

func (c *console) draw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar == nil {
		return
	}
	width := c.width()
	line := c.bar.line(width, time.Now())
	// Blanks wipe what is left of a longer line; a terminal that is narrower
	// now has cut or wrapped that line already.
	rest := max(0, min(c.drawn, width-1)-len(line))
	c.print("\r" + line + strings.Repeat(" ", rest) + strings.Repeat("\b", rest))
	c.drawn = len(line)
}

// wipe takes the bar from the screen. The caller holds mu.
func (c *console) wipe() {
	if c.drawn == 0 {
		return
	}
	c.print("\r" + strings.Repeat(" ", max(0, min(c.drawn, c.width()-1))) + "\r")
	c.drawn = 0
}

func (c *console) print(s string) {
	_, _ = io.WriteString(c.w, s) // a smudge on the screen at worst
}

// endProgress takes the bar away.
func (c *console) endProgress() {
	c.mu.Lock()
	c.wipe()
	if c.bar != nil {
		c.bar = nil
		close(c.ended)
	}
	c.mu.Unlock()
	c.wg.Wait()
}
