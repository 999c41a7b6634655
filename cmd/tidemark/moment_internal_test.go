package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct{ text, want string }{
		{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"},
		{"2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000Z"},
		{"2026-01-02 03:04:05Z", "2026-01-02T03:04:05.000Z"},
		{"90s", "2026-01-31T11:58:30.000Z"},
		{"2h30m", "2026-01-31T09:30:00.000Z"},
		{"3d", "2026-01-28T12:00:00.000Z"},
		{"1d12h", "2026-01-30T00:00:00.000Z"},
		{"2w", "2026-01-17T12:00:00.000Z"},
		{"1w1d12h", "2026-01-23T00:00:00.000Z"},
		{"2026-01-02t03:04:05z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02t03:04:05.5+02:00", "2026-01-02T01:04:05.500Z"},
		{"0s", "2026-01-31T12:00:00.000Z"},
		{"0", "2026-01-31T12:00:00.000Z"},
	} {
		got, err := parseMoment(tc.text, now)
		if err != nil || formatTime(got) != tc.want {
			t.Errorf("parseMoment(%q) = %s, %v; want %s", tc.text, formatTime(got), err, tc.want)
		}
	}
	for _, tc := range []struct{ text, msg string }{
		{"", "not a time"},
		{"yesterday", "not a time"},
		{"d", "not a time"},
		{"-3d", "not a time"},
		{"3d-1h2", "not a time"},
		{"3d-1h", "not a time"},
		{"1d1w", "not a time"},
		{"99999999d", "too long"},
		{"99999999999999999999d", "too long"},
		{"15251w", "too long"},
		{"106751d999h", "too long"},
		{"9999999h", "too long"},
		{"99999999999999999999999s", "too long"},
		{"2026-01-02t03:04:05", "no time zone"},
		{"2026-13-01T00:00:00Z", "not a time"},
		{"2026-01-02T03:04:05", "no time zone"},
		{"2026-01-02", "no time zone"},
		{"-5m", "negative"},
	} {
		if _, err := parseMoment(tc.text, now); err == nil || !strings.Contains(err.Error(), tc.msg) {
			t.Errorf("parseMoment(%q): %v, want an error with %q", tc.text, err, tc.msg)
		}
	}
}

// The first moment of all is a time, not "none given".
func TestParseMomentNeverZero(t *testing.T) {
	t.Parallel()
	got, err := parseMoment("0001-01-01T00:00:00Z", time.Now())
	if err != nil || got.IsZero() {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestFormatSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 9120: "8.9 KiB", 5 << 20: "5.0 MiB", 3 << 30: "3.0 GiB", 1 << 62: "4096.0 PiB",
	} {
		if got := formatSize(n); got != want {
			t.Errorf("formatSize(%d) = %q, want %q", n, got, want)
		}
	}
}
