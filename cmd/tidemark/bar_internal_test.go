package main

import (
	"strings"
	"testing"
	"time"
)

// A bar fits into every terminal, and says what there is room for.
func TestBarFits(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	for width := range 200 {
		b := bar{what: "first copy"}
		b.set(0, 3<<30)
		b.line(width, start)
		b.set(1<<30, 3<<30)
		line := b.line(width, start.Add(4*time.Second))
		if len(line) >= max(1, width) {
			t.Errorf("%d columns in a terminal of %d: %q", len(line), width, line)
		}
		if has := strings.Contains(line, "["); has && width < barFrom || !has && width >= 80 {
			t.Errorf("at %d columns: %q", width, line)
		}
	}
	b := bar{what: "first copy"}
	b.set(0, 3<<30)
	b.line(100, start)
	b.set(1<<30, 3<<30)
	const want = "first copy  33%  [============                          ]  1.0 GiB of 3.0 GiB  256.0 MiB/s  8s left"
	if got := b.line(100, start.Add(4*time.Second)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, want := b.line(36, start.Add(4*time.Second)), "first copy  33%  1.0 GiB of 3.0 GiB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The rate says nothing at first, and sinks to nothing when nothing moves.
func TestBarRate(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := bar{what: "x"}
	b.set(64<<20, 1<<30)
	if line := b.line(120, now); strings.Contains(line, "/s") {
		t.Errorf("a rate out of nothing: %q", line)
	}
	for range 40 {
		now = now.Add(250 * time.Millisecond)
		b.set(b.done+1<<20, 1<<30)
		b.line(120, now)
	}
	if line := b.line(120, now); !strings.Contains(line, "4.0 MiB/s") {
		t.Errorf("4 MiB every second, the bar says %q", line)
	}
	for range 40 {
		now = now.Add(250 * time.Millisecond)
		b.line(120, now)
	}
	if line := b.line(120, now); !strings.Contains(line, " 0 B/s") || strings.Contains(line, "left") {
		t.Errorf("nothing moves, the bar says %q", line)
	}
	b.set(0, 0)
	if line := b.line(120, now); !strings.Contains(line, "100%") {
		t.Errorf("nothing to do: %q", line)
	}
}
