package main

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/cmd/tidemark/config"
)

// Off a terminal there is no bar, so that a log holds lines and nothing else.
func TestConsoleOffTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newConsole(&out)
	if c.progress("x") != nil {
		t.Error("a bar where nobody sees it")
	}
	c.endProgress()
	c.logger(config.Logging{Level: slog.LevelWarn, Format: "json"}).Info("hidden")
	c.logger(config.Logging{Level: slog.LevelWarn, Format: "json"}).Warn("shown", slog.Int("n", 1))
	if got := out.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"msg":"shown","n":1}`) || strings.Contains(got, "hidden") {
		t.Errorf("logged %q", got)
	}
}

// On a terminal the bar shows bytes, survives concurrent steps and log lines,
// is drawn again when nothing moves, follows the terminal's width, and goes away.
func TestConsoleBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		width := 100
		c := &console{w: &out, width: func() int { return width }}
		logger := c.logger(config.Logging{Format: "text"})
		progress := c.progress("restoring")
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				progress(int64(i)<<20, 64<<20)
				logger.Info("line")
			})
		}
		wg.Wait()
		synctest.Wait()
		locked := func(do func()) { // the bar draws itself
			c.mu.Lock()
			defer c.mu.Unlock()
			do()
		}
		var lines string
		locked(func() { lines = out.String() })
		if n := strings.Count(lines, "msg=line\n"); n != 64 {
			t.Errorf("%d of 64 log lines are whole", n)
		}
		drawn := func() (text string) {
			locked(out.Reset)
			<-time.After(redraw)
			synctest.Wait()
			locked(func() { text = out.String() })
			return text
		}
		if got := drawn(); !strings.Contains(got, "restoring  98%  [===") || !strings.Contains(got, "63.0 MiB of 64.0 MiB") {
			t.Errorf("drawn %q", got)
		}
		locked(func() { width = 30 })
		if got := drawn(); strings.Contains(got, "[") || !strings.HasPrefix(got, "\rrestoring") {
			t.Errorf("drawn in a narrow terminal: %q", got)
		}
		c.endProgress()
		if got := out.String(); !strings.HasSuffix(got, " \r") {
			t.Errorf("the bar stays: %q", got)
		}
		if got := drawn(); got != "" {
			t.Errorf("drawn after the end: %q", got)
		}
	})
}
