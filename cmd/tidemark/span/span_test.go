package span_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/cmd/tidemark/span"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "-1h": -time.Hour, "2h30m": 150 * time.Minute, "1.5h": 90 * time.Minute,
		"3d": 3 * day, "52w": 52 * week, "1w2d3h": week + 2*day + 3*time.Hour, "1w1s": week + time.Second, "0d": 0, "15250w": 15250 * week,
	} {
		if got, err := span.Parse(text); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "1d2w", "1.5d", "-1d", "1d-1h", "1y", "1M", "w1", "1 d", "1D", "soon"} {
		if got, err := span.Parse(text); err == nil || errors.Is(err, span.ErrTooLong) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"15251w", "106752d", "99999999999999999999w", "2562048h", "15250w10d"} {
		if got, err := span.Parse(text); !errors.Is(err, span.ErrTooLong) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0": 0, "1.5s": 1500 * time.Millisecond, "1m30s": 90 * time.Second, "90m": 90 * time.Minute, "1h": time.Hour, "48h": 2 * day, "7d": week,
		"30d": 30 * day, "52w": 52 * week, "14d": 2 * week, "73h": 73 * time.Hour,
	} {
		if got := span.Format(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour, day, week}).Draw(t, "unit")
		d := unit * time.Duration(rapid.Int64Range(0, math.MaxInt64/int64(unit)).Draw(t, "count"))
		if got, err := span.Parse(span.Format(d)); got != d || err != nil {
			t.Fatalf("%v is written %s and read %v, %v", d, span.Format(d), got, err)
		}
	})
}
