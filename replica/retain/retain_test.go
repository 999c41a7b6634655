package retain_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// epoch is a Monday, the first of an ISO week.
func epoch() time.Time { return time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) }

func at(d time.Duration) time.Time { return epoch().Add(d) }

const day = 24 * time.Hour

// full and adds make snapshots, at a time after the epoch.
func full(id state.TXID, when time.Duration) retain.Snapshot {
	return retain.Snapshot{TXID: id, Time: at(when)}
}

func adds(id, base state.TXID, when time.Duration) retain.Snapshot {
	return retain.Snapshot{TXID: id, Base: base, Time: at(when)}
}

func bad(s retain.Snapshot) retain.Snapshot { s.Bad = true; return s }

// list gives snapshots and segments in a short form, with the reasons.
func list(items []retain.Item) []string {
	out := []string{}
	for _, i := range items {
		switch {
		case !i.IsSnapshot():
			out = append(out, fmt.Sprintf("log %v-%v: %s", i.Segment.First, i.Segment.Last, i.Why))
		case i.Snapshot.Base != 0:
			out = append(out, fmt.Sprintf("%v on %v: %s", i.Snapshot.TXID, i.Snapshot.Base, i.Why))
		default:
			out = append(out, fmt.Sprintf("%v: %s", i.Snapshot.TXID, i.Why))
		}
	}
	return out
}

// lines splits a want into its lines.
func lines(text string) []string {
	out := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func TestPlan(t *testing.T) {
	t.Parallel()
	policy := retain.Policy{History: 7 * day, Hourly: 2 * day, Daily: 30 * day, Weekly: 364 * day, Grace: time.Hour}
	log := func(ids ...state.TXID) (out []retain.Segment) {
		for i := 0; i < len(ids); i += 2 {
			out = append(out, retain.Segment{First: ids[i], Last: ids[i+1]})
		}
		return out
	}
	for name, tc := range map[string]struct {
		state retain.State
		now   time.Duration // after the epoch
		goes  string
		stays string
	}{
		"nothing": {},
		"everything is young": {
			state: retain.State{Snapshots: []retain.Snapshot{full(1, 0), adds(5, 1, time.Hour), adds(9, 5, 65*time.Minute)}, Segments: log(2, 12)},
			now:   7 * day,
			stays: `
				1: no snapshot is old enough that what is after it would do
				5 on 1: no snapshot is old enough that what is after it would do
				9 on 5: no snapshot is old enough that what is after it would do
				log 2-12: no snapshot is old enough that what is after it would do`,
		},
		"a snapshot of exactly that age does not do": {
			state: retain.State{Snapshots: []retain.Snapshot{full(1, 0), full(9, day), full(19, 8*day)}, Segments: log(2, 9, 10, 19)},
			now:   8 * day,
			stays: `
				1: every commit after it stays
				9: the first of its day
				log 2-9: every commit after TXID 1 stays
				19: the newest
				log 10-19: every commit after TXID 1 stays`,
		},
		"log before the window goes, a pack over its start stays": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), full(9, day), full(29, 8*day+time.Hour)},
				Segments:  log(2, 3, 4, 5, 6, 15, 16, 29),
			},
			now: 9 * day,
			goes: `
				log 4-5: not after TXID 9, from which on every commit stays
				log 2-3: not after TXID 9, from which on every commit stays`,
			stays: `
				1: the first of its day
				9: every commit after it stays
				log 6-15: every commit after TXID 9 stays
				29: the newest
				log 16-29: every commit after TXID 9 stays`,
		},
		"a bad one covers nothing, and goes": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), bad(full(9, day)), adds(11, 9, day+time.Hour), full(29, 8*day+time.Hour), bad(full(30, 8*day+2*time.Hour))},
				Segments:  log(2, 9, 10, 29),
			},
			now: 20 * day,
			goes: `
				30: it can't be used
				11 on 9: TXID 9, to which it adds, can't be used or is not there
				9: it can't be used`,
			stays: `
				1: every commit after it stays
				log 2-9: every commit after TXID 1 stays
				29: the newest
				log 10-29: every commit after TXID 1 stays`,
		},
		"the time of a bad one does not count": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), bad(full(5, 400*day)), full(9, day), full(10, 30*time.Hour), full(29, 9*day)},
				Segments:  log(2, 9, 10, 29),
			},
			now: 500 * day,
			goes: `
				log 2-9: not after TXID 10, from which on every commit stays
				5: it can't be used`,
			stays: `
				1: the first of its day
				9: the first of its day
				10: every commit after it stays
				29: the newest
				log 10-29: every commit after TXID 10 stays`,
		},
		"bad ones only": {
			state: retain.State{Snapshots: []retain.Snapshot{bad(full(1, 0)), adds(3, 2, 0)}, Segments: log(2, 3)},
			now:   400 * day,
			stays: `
				1: there is no usable snapshot
				3 on 2: there is no usable snapshot
				log 2-3: there is no usable snapshot`,
		},
		"the first of hours, days and weeks": {
			state: retain.State{Snapshots: []retain.Snapshot{
				full(1, 0), full(2, day), full(3, day+time.Hour), full(4, 7*day), full(5, 8*day),
				full(6, 70*day), full(7, 70*day+time.Hour), full(8, 71*day),
				full(9, 98*day+10*time.Hour), full(10, 98*day+10*time.Hour+time.Minute), full(11, 98*day+11*time.Hour), full(12, 99*day),
			}, Segments: log(9, 12)},
			now: 200 * day,
			goes: `
				10: not the first of its hour
				7: not the first of its day
				5: not the first of its week
				3: not the first of its week
				2: not the first of its week`,
			stays: `
				1: the first of its week
				4: the first of its week
				6: the first of its day
				8: every commit after it stays
				9: the first of its hour
				11: the first of its hour
				12: the newest
				log 9-12: every commit after TXID 8 stays`,
		},
		"what is kept keeps what it adds to": {
			state: retain.State{
				Snapshots: []retain.Snapshot{
					full(1, 0), adds(2, 1, time.Hour), adds(3, 2, 2*time.Hour), adds(4, 3, day), full(5, 2*day), full(50, 12*day),
				},
				Segments: log(2, 50),
			},
			now: 12 * day,
			stays: `
				1: the first of its day
				2 on 1: TXID 3 adds to it
				3 on 2: TXID 4 adds to it
				4 on 3: the first of its day
				5: every commit after it stays
				50: the newest
				log 2-50: every commit after TXID 5 stays`,
		},
		"a mark keeps its snapshot and the log up to it": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), full(9, time.Hour), full(19, 2*time.Hour), full(49, day), full(99, 9*day)},
				Segments:  log(2, 5, 6, 9, 10, 12, 13, 15, 16, 19, 20, 49, 50, 99),
				Marks:     []retain.Mark{{Name: "before-migration", TXID: 14}, {Name: "nowhere", TXID: 0}},
			},
			now: 9 * day,
			goes: `
				log 20-49: not after TXID 49, from which on every commit stays
				log 16-19: not after TXID 49, from which on every commit stays
				19: not the first of its day
				log 6-9: not after TXID 49, from which on every commit stays
				log 2-5: not after TXID 49, from which on every commit stays`,
			stays: `
				1: the first of its day
				9: the mark before-migration, TXID 14
				log 10-12: the mark before-migration, TXID 14
				log 13-15: the mark before-migration, TXID 14
				49: every commit after it stays
				99: the newest
				log 50-99: every commit after TXID 49 stays`,
		},
		"a time in the future moves the window back": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), full(9, day), full(19, 400*day), full(29, 9*day), full(39, 10*day)},
				Segments:  log(2, 9, 10, 39),
			},
			now: 50 * day,
			goes: `
				log 2-9: not after TXID 9, from which on every commit stays`,
			stays: `
				1: the first of its week
				9: every commit after it stays
				19: the clock went back after it: TXID 39 counts as no older
				29: too young to go
				39: the newest
				log 10-39: every commit after TXID 9 stays`,
		},
		"the clock is ahead": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), full(9, time.Hour), full(19, 7*day)},
				Segments:  log(2, 9, 10, 19),
			},
			now: 4000 * day,
			stays: `
				1: no snapshot is old enough that what is after it would do
				9: no snapshot is old enough that what is after it would do
				log 2-9: no snapshot is old enough that what is after it would do
				19: no snapshot is old enough that what is after it would do
				log 10-19: no snapshot is old enough that what is after it would do`,
		},
		"a gap in the log": {
			state: retain.State{
				Snapshots: []retain.Snapshot{full(1, 0), full(9, day), full(15, 3*day), full(16, 3*day+time.Hour), full(17, 3*day+2*time.Hour), full(29, 9*day)},
				Segments:  log(2, 9, 10, 12, 16, 29),
			},
			now: 12 * day,
			goes: `
				17: not the first of its day
				16: not the first of its day
				log 2-9: not after TXID 9, from which on every commit stays`,
			stays: `
				1: the first of its day
				9: every commit after it stays
				log 10-12: every commit after TXID 9 stays
				15: the log does not lead to it
				29: the newest
				log 16-29: every commit after TXID 9 stays`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy.Plan(tc.state, at(tc.now))
			if diff := cmp.Diff(lines(tc.goes), list(p.Goes)); diff != "" {
				t.Errorf("what goes: %s", diff)
			}
			if diff := cmp.Diff(lines(tc.stays), list(p.Stays)); diff != "" {
				t.Errorf("what stays: %s", diff)
			}
		})
	}
}

// Whatever the policy, what has no time is not judged.
func TestPlanOfNothing(t *testing.T) {
	t.Parallel()
	s := retain.State{Snapshots: []retain.Snapshot{
		full(1, 0), full(2, time.Hour), {TXID: 3}, adds(4, 1, day), full(5, 2*day), full(6, 2*day+time.Hour), full(7, 2*day+2*time.Hour),
	}}
	p := retain.Policy{}.Plan(s, at(900*day))
	goes := lines(`
		5: older than what stays of its age
		4 on 1: older than what stays of its age
		2: older than what stays of its age
		1: older than what stays of its age`)
	stays := lines(`
		3: too young to go
		6: every commit after it stays
		7: the newest`)
	if diff := cmp.Diff(goes, list(p.Goes)) + cmp.Diff(stays, list(p.Stays)); diff != "" {
		t.Error(diff)
	}
}

// Days, weeks and years are UTC's and ISO's: 2027-01-01 is a Friday of the last
// week of 2026.
func TestPlanCalendar(t *testing.T) {
	t.Parallel()
	var s retain.State
	for i, when := range []string{
		"2026-12-27T23:59:59Z", "2026-12-28T01:30:00+02:00", "2026-12-28T00:00:00Z", "2027-01-01T00:00:00Z", "2027-01-03T23:59:59Z", "2027-01-04T00:00:00Z",
	} {
		made, err := time.Parse(time.RFC3339, when)
		if err != nil {
			t.Fatal(err)
		}
		s.Snapshots = append(s.Snapshots, retain.Snapshot{TXID: state.TXID(i + 1), Time: made})
	}
	// The second is in the zone's next day, and UTC's same day, but before the first.
	s.Snapshots[0].Time = s.Snapshots[0].Time.Add(-12 * time.Hour)
	newest := retain.Snapshot{TXID: 99, Time: s.Snapshots[5].Time.Add(100 * day)}
	s.Snapshots = append(s.Snapshots, newest)
	p := retain.Policy{Weekly: 364 * day}.Plan(s, newest.Time)
	want := lines(`
		5: not the first of its week
		4: not the first of its week
		2: not the first of its week`)
	if diff := cmp.Diff(want, list(p.Goes)); diff != "" {
		t.Error(diff)
	}
}

// Two years of a snapshot and a pack an hour, pruned once a day: as much is kept at
// the end as after a year.
func TestPlanForYears(t *testing.T) {
	t.Parallel()
	policy := retain.Default()
	var s retain.State
	var daily, weekly state.TXID
	counts := map[int][2]int{}
	for hour := range 2 * 365 * 24 {
		id := state.TXID(hour*100 + 1)
		base := id - 100
		switch {
		case hour == 0:
			base = 0
		case hour%(7*24) == 0:
			base = weekly
		case hour%24 == 0:
			base = daily
		}
		if hour%24 == 0 {
			daily = id
		}
		if hour%(7*24) == 0 {
			weekly = id
		}
		if hour > 0 {
			s.Segments = append(s.Segments, retain.Segment{First: id - 99, Last: id})
		}
		s.Snapshots = append(s.Snapshots, adds(id, base, time.Duration(hour)*time.Hour))
		if hour%24 == 5 {
			s = policy.Plan(s, at(time.Duration(hour)*time.Hour)).After()
			counts[hour/24] = [2]int{len(s.Snapshots), len(s.Segments)}
		}
	}
	// The weekly ones add to one another without an end here, so all of them stay.
	snaps := 48 + 1 + 30 + 2*52 + 2
	if got := counts[2*365-1]; got[0] > snaps || got[1] > 7*24+25 {
		t.Errorf("%d snapshots and %d packs are kept, want at most %d and %d", got[0], got[1], snaps, 7*24+25)
	}
	if got := counts[2*365-1][0] - counts[365][0]; got > 53 {
		t.Errorf("%d more snapshots after the second year than after the first", got)
	}
}
