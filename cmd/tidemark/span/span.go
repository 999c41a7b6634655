// Package span reads and writes durations for people, with days and weeks: 90s,
// 2h30m, 7d, 52w, 1w2d12h. A day is 24 hours.
package span

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// ErrTooLong says that a duration does not fit into a [time.Duration].
var ErrTooLong = errors.New("a duration is at most 290 years")

// pattern is weeks, days and then what [time.ParseDuration] reads.
var pattern = regexp.MustCompile(`^(?:([0-9]+)w)?(?:([0-9]+)d)?(.*)$`)

// plain is what time.ParseDuration reads, so that if it does not the size must be
// what is wrong.
var plain = regexp.MustCompile(`^([0-9]+(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))+$`)

// Parse is [time.ParseDuration] with weeks and days before the rest. A duration
// without them can be negative.
func Parse(text string) (time.Duration, error) {
	part := pattern.FindStringSubmatch(text)
	rest := part[3]
	var sum time.Duration
	if rest != "" || text == "" {
		var err error
		if sum, err = time.ParseDuration(rest); err != nil {
			if plain.MatchString(rest) {
				return 0, ErrTooLong
			}
			return 0, err
		}
		if sum < 0 && rest != text {
			return 0, fmt.Errorf("%q has a sign in its middle", text)
		}
	}
	for i, unit := range []time.Duration{week, day} {
		if part[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(part[i+1], 10, 64)
		if err != nil || n > int64((math.MaxInt64-sum)/unit) {
			return 0, ErrTooLong // there are digits only
		}
		sum += time.Duration(n) * unit
	}
	return sum, nil
}

// Format writes a duration that is not negative as Parse reads it, in one unit if
// it is a round one: 90m, 48h, 7d, 52w.
func Format(d time.Duration) string {
	for _, unit := range []struct {
		size, from time.Duration
		name       string
	}{{week, 5 * week, "w"}, {day, 3 * day, "d"}, {time.Hour, time.Hour, "h"}, {time.Minute, time.Minute, "m"}} {
		if d >= unit.from && d%unit.size == 0 {
			return strconv.FormatInt(int64(d/unit.size), 10) + unit.name
		}
	}
	if d == 0 {
		return "0"
	}
	return d.String()
}
