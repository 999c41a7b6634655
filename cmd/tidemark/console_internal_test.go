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
// is there when nothing moves, and goes away, at the latest when all is done.
func TestConsoleBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s screen
		c := &console{w: &s, draw: s.options(100)}
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
		got := s.after(time.Second)
		if n := strings.Count(got, "msg=line\n"); n != 64 {
			t.Errorf("%d of 64 log lines are whole", n)
		}
		if _, line, _ := strings.Cut(got[strings.LastIndex(got, "msg="):], "\n"); !strings.HasPrefix(line, "restoring  98% [===") || !strings.Contains(line, "  63.0 MiB of 64.0 MiB  ") {
			t.Errorf("below the log lines is %q", line)
		}
		logger.Info("now") // and not when the bar is drawn next
		if got := s.after(0); !strings.HasSuffix(got, "msg=now\n") {
			t.Errorf("after a log line the screen ends with %q", got)
		}
		if got := s.after(time.Second); !strings.Contains(got, "msg=now\nrestoring  98%") {
			t.Errorf("nothing moves, and the bar does not come back: %q", got)
		}
		progress(64<<20, 64<<20)
		progress(62<<20, 64<<20) // overtaken
		if got := s.after(time.Second); !strings.HasSuffix(got, "msg=now\n") {
			t.Errorf("all is done, and the bar stays: %q", got)
		}
		progress = c.progress("again")
		progress(1, 2)
		if got := s.after(time.Second); !strings.Contains(got, "msg=now\nagain  50%") {
			t.Errorf("the next bar: %q", got)
		}
		c.endProgress()
		if got := s.after(time.Second); !strings.HasSuffix(got, "msg=now\n") || strings.Contains(got, "\x1b") {
			t.Errorf("after the end the bar stays: %q", got)
		}
	})
}
