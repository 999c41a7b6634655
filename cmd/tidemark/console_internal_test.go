package main

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

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
// and goes away.
func TestConsoleBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &console{w: &out, terminal: true}
	logger := c.logger(config.Logging{Format: "text"})
	progress := c.progress("restoring")
	progress(1<<20, 64<<20)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			progress(int64(i)<<20, 64<<20)
			logger.Info("line")
		})
	}
	wg.Wait()
	c.endProgress()
	got := out.String()
	if !strings.Contains(got, "restoring") || !strings.Contains(got, "MiB") {
		t.Errorf("no bar with bytes: %q", got)
	}
	if n := strings.Count(got, "msg=line\n"); n != 64 {
		t.Errorf("%d of 64 log lines are whole", n)
	}
}
