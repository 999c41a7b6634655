package main

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vbauerster/mpb/v8"
)

// screen is a terminal that bars are drawn on, by goroutines of their own.
type screen struct {
	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *screen) options(width int) []mpb.ContainerOption {
	return []mpb.ContainerOption{mpb.WithOutput(s), mpb.WithAutoRefresh(), mpb.WithWidth(width)}
}

// after gives what the screen shows after d. A bar is wiped by going up its line.
func (s *screen) after(d time.Duration) string {
	<-time.After(d)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return regexp.MustCompile("[^\n]*\n\x1b\\[1A\x1b\\[J").ReplaceAllString(s.out.String(), "")
}

// drawn gives the line that shows a third of 3 GiB, done in four seconds, in a
// terminal of width columns.
func drawn(t *testing.T, width int) string {
	t.Helper()
	var s screen
	b := &bar{what: "first copy", start: time.Now().Add(-3 * time.Second), done: 1 << 30, total: 3 << 30}
	b.show(append(s.options(width), mpb.WithRefreshRate(time.Second)))
	line := s.after(time.Second)
	b.hide()
	if got := s.after(0); got != "" {
		t.Errorf("hidden, it leaves %q", got)
	}
	return strings.TrimSuffix(line, "\n")
}

// A bar fits into every terminal, and says in whole numbers what there is room for.
func TestBarFits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole := regexp.MustCompile(`^(first copy)?( +33%)?( \[[=>-]*\])?(  1\.0 GiB of 3\.0 GiB)?(  256\.0 MiB/s)?(  8s left)?$`)
		for width := 1; width < 200; width++ {
			if line := drawn(t, width); len(line) > width || !whole.MatchString(line) {
				t.Errorf("%d columns in a terminal of %d: %q", len(line), width, line)
			}
		}
		for width, want := range map[int]string{
			120: "first copy  33% [===========>-------------------------]  1.0 GiB of 3.0 GiB  256.0 MiB/s  8s left",
			80:  "first copy  33% [======>-------------]  1.0 GiB of 3.0 GiB  256.0 MiB/s  8s left",
			45:  "first copy  33%  1.0 GiB of 3.0 GiB  8s left",
			30:  "first copy  33%  256.0 MiB/s",
		} {
			if got := drawn(t, width); got != want {
				t.Errorf("at %d columns:\ngot  %q\nwant %q", width, got, want)
			}
		}
	})
}
