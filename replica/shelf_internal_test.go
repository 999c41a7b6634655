package replica

import (
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// Snapshots of weeks: the first of a day needs none of the day before but its
// first, and the first of a week none of the week before but its first, however
// irregular the hours are. What they rest on stays short.
func TestShelfBase(t *testing.T) {
	t.Parallel()
	s := &shelf{times: map[state.TXID]time.Time{}}
	firstOf := func(x archive.Snapshot, same func(a, b time.Time) bool) bool {
		before := state.TXID(0)
		for _, y := range s.all {
			if y.TXID < x.TXID {
				before = y.TXID
			}
		}
		return before == 0 || !same(s.times[before], s.times[x.TXID])
	}
	now := time.Date(2026, 12, 21, 22, 10, 0, 0, time.UTC) // over a new year
	longest := 0
	for n := range 24 * 40 {
		if now.Hour() == 3 || now.Day()%11 == 0 {
			now = now.Add(time.Duration(n%7) * time.Hour) // nothing was committed
		}
		snap := archive.Snapshot{TXID: state.TXID(n + 1), Size: 1}
		if n == 0 {
			snap.Size = 1 << 20
		} else {
			base, ok, err := s.base(t.Context(), s.times[state.TXID(n)], now)
			if err != nil || !ok {
				t.Fatalf("snapshot %d at %v: %v, %v", n+1, now, ok, err)
			}
			snap.Base = base.TXID
			day, week := !retain.SameDay(now, s.times[state.TXID(n)]), !retain.SameWeek(now, s.times[state.TXID(n)])
			switch {
			case week && !firstOf(base, retain.SameWeek):
				t.Errorf("the first of a week, at %v, rests on one at %v", now, s.times[base.TXID])
			case day && !firstOf(base, retain.SameDay):
				t.Errorf("the first of a day, at %v, rests on one at %v", now, s.times[base.TXID])
			case !day && base.TXID != state.TXID(n):
				t.Errorf("that at %v rests on one at %v", now, s.times[base.TXID])
			}
		}
		s.put(snap, now)
		chain, ok := s.chain()
		if !ok {
			t.Fatal("the chain is broken")
		}
		longest = max(longest, len(chain))
		now = now.Add(time.Hour)
	}
	if longest > 24+7+8 {
		t.Errorf("a snapshot rests on %d others", longest)
	}
}

// A full snapshot is made when those since the last one have come to half of it,
// when something is missing of what the newest rests on, and when there is none.
func TestShelfFull(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		all  []archive.Snapshot
		full bool
	}{
		"none":           {nil, true},
		"a full one":     {[]archive.Snapshot{{TXID: 1, Size: 100}}, false},
		"up to half":     {[]archive.Snapshot{{TXID: 1, Size: 100}, {TXID: 2, Base: 1, Size: 20}, {TXID: 3, Base: 2, Size: 30}}, false},
		"more than half": {[]archive.Snapshot{{TXID: 1, Size: 100}, {TXID: 2, Base: 1, Size: 20}, {TXID: 3, Base: 2, Size: 31}}, true},
		"another since":  {[]archive.Snapshot{{TXID: 1, Size: 100}, {TXID: 2, Base: 1, Size: 70}, {TXID: 3, Size: 100}, {TXID: 4, Base: 3, Size: 9}}, false},
		"base missing":   {[]archive.Snapshot{{TXID: 1, Size: 100}, {TXID: 3, Base: 2, Size: 9}}, true},
	} {
		s := &shelf{all: tc.all, times: map[state.TXID]time.Time{}}
		for _, x := range tc.all {
			s.times[x.TXID] = at
		}
		_, ok, err := s.base(t.Context(), at, at)
		if err != nil || ok == tc.full {
			t.Errorf("%s: full: %v, %v", name, !ok, err)
		}
	}
}
