package main

import (
	"fmt"
	"strings"
	"time"
)

const (
	// rateWindow is what the rate is the mean of, so that it sinks to nothing
	// when nothing moves.
	rateWindow = 5 * time.Second
	// rateFrom is how long there must have been something to measure: the first
	// steps come at once, from buffers, and say nothing.
	rateFrom = 2 * time.Second
	// barFrom is the number of columns from which on there is room for the bar
	// itself, beside the numbers; maxBar is its length at most.
	barFrom = 60
	maxBar  = 40
)

// bar is the state of a progress bar. It draws nothing itself.
type bar struct {
	what        string
	done, total int64
	// samples are what was done when it was drawn, of the last rateWindow,
	// oldest first.
	samples []sample
}

type sample struct {
	at   time.Time
	done int64
}

// set moves it; calls of several goroutines can overtake each other.
func (b *bar) set(done, total int64) {
	b.done, b.total = max(b.done, done), total
}

// line gives the bar as it is now, in less than width columns.
func (b *bar) line(width int, now time.Time) string {
	b.samples = append(b.samples, sample{now, b.done})
	for len(b.samples) > 2 && now.Sub(b.samples[1].at) >= rateWindow {
		b.samples = b.samples[1:]
	}
	percent := int64(100)
	if b.done < b.total {
		percent = int64(100 * float64(b.done) / float64(b.total))
	}
	parts := []string{
		fmt.Sprintf("%s %3d%%", b.what, percent),
		formatSize(b.done) + " of " + formatSize(b.total),
	}
	if rate, ok := b.rate(now); ok {
		parts = append(parts, formatSize(int64(rate))+"/s")
		if rate >= 1 && b.done < b.total {
			left := time.Duration(float64(b.total-b.done) / rate * float64(time.Second))
			parts = append(parts, left.Round(time.Second).String()+" left")
		}
	}
	return fit(parts, percent, width-1) // a full line would make some terminals wrap
}

// rate gives the bytes a second over the last while, if it was long enough.
func (b *bar) rate(now time.Time) (float64, bool) {
	first := b.samples[0]
	took := now.Sub(first.at)
	return float64(b.done-first.done) / took.Seconds(), took >= rateFrom
}

// fit joins what there is room for, the first parts before the later ones. What
// is left is the bar's, after the first part.
func fit(parts []string, percent int64, columns int) string {
	const gap = "  "
	for len(parts) > 1 && len(strings.Join(parts, gap)) > columns {
		parts = parts[:len(parts)-1]
	}
	text := strings.Join(parts, gap)
	if len(text) > columns {
		return text[:max(0, columns)]
	}
	room := min(maxBar, columns-len(text)-len(gap+"[]"))
	if columns+1 < barFrom || room < 10 {
		return text
	}
	full := room * int(percent) / 100
	drawn := "[" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]"
	return strings.Join(append([]string{parts[0], drawn}, parts[1:]...), gap)
}
