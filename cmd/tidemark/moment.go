package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/cmd/tidemark/span"
)

// momentHelp explains to people what parseMoment reads.
const momentHelp = "RFC 3339 with a zone (2026-01-31T12:00:00Z), or a duration ago (90s, 2h, 3d, 1w)"

// parseMoment reads a point in time: RFC 3339 with a zone, or a duration
// before now such as 90s, 2h30m, 3d, 1w or 1d12h. The T and Z of RFC 3339 can be
// lower-case, as it allows.
func parseMoment(text string, now time.Time) (time.Time, error) {
	upper := strings.ToUpper(text)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(layout, upper); err == nil {
			return notZero(t), nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly, "2006-01-02T15:04"} {
		if _, err := time.Parse(layout, upper); err == nil {
			return time.Time{}, fmt.Errorf("%q has no time zone: write it as 2026-01-31T12:00:00Z, or with +02:00 for Z", text)
		}
	}
	ago, err := span.Parse(text)
	if errors.Is(err, span.ErrTooLong) {
		return time.Time{}, fmt.Errorf("%q is too long: a duration is at most 290 years; give the time itself", text)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time: give %s", text, momentHelp)
	}
	if ago < 0 {
		return time.Time{}, fmt.Errorf("%q is negative: %s means that long ago", text, strings.TrimPrefix(text, "-"))
	}
	return notZero(now.Add(-ago)), nil
}

// notZero keeps the year 1 apart from "no time given".
func notZero(t time.Time) time.Time {
	if t.IsZero() {
		return t.Add(1)
	}
	return t
}

// formatTime gives RFC 3339 in UTC with milliseconds, the form of all times
// that tidemark prints.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// formatSize gives a number of bytes for people.
func formatSize(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, i := float64(n)/unit, 0
	for ; value >= unit && i < 4; i++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[i])
}
