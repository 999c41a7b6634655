package retain_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// The oracle knows what can be restored by looking for a way, commit by commit. It
// shares no code with the package.

// canUse tells whether a snapshot is whole: each that it adds to is there.
func canUse(s retain.State, snap retain.Snapshot) bool {
	if snap.Bad || snap.Base == 0 {
		return !snap.Bad
	}
	return snap.Base < snap.TXID && slices.ContainsFunc(s.Snapshots, func(b retain.Snapshot) bool {
		return b.TXID == snap.Base && canUse(s, b)
	})
}

func logged(s retain.State, id state.TXID) bool {
	return slices.ContainsFunc(s.Segments, func(g retain.Segment) bool { return g.First <= id && id <= g.Last })
}

// restorable tells whether a commit can be restored: there is a snapshot from
// which every commit up to it is in the log.
func restorable(s retain.State, id state.TXID) bool {
	for at := id; at > 0; at-- {
		if slices.ContainsFunc(s.Snapshots, func(b retain.Snapshot) bool { return b.TXID == at && canUse(s, b) }) {
			return true
		}
		if !logged(s, at) {
			return false
		}
	}
	return false
}

// without is a history of which some has been deleted.
func without(s retain.State, gone []retain.Item) retain.State {
	s.Snapshots, s.Segments = slices.Clone(s.Snapshots), slices.Clone(s.Segments)
	for _, i := range gone {
		if i.IsSnapshot() {
			n := slices.Index(s.Snapshots, i.Snapshot)
			s.Snapshots = slices.Delete(s.Snapshots, n, n+1)
		} else {
			n := slices.Index(s.Segments, i.Segment)
			s.Segments = slices.Delete(s.Segments, n, n+1)
		}
	}
	return s
}

// world is a history whose commits have times, and a policy for it.
type world struct {
	state  retain.State
	times  []time.Time // of TXID i+1
	policy retain.Policy
	now    time.Time
}

func spans() *rapid.Generator[time.Duration] {
	return rapid.SampledFrom([]time.Duration{
		0, time.Second, 10 * time.Minute, 40 * time.Minute, 3 * time.Hour, 20 * time.Hour, 50 * time.Hour, 6 * 24 * time.Hour, 30 * 24 * time.Hour,
	})
}

func drawWorld(t *rapid.T) world {
	at := time.Date(2026, 12, 27, 21, 30, 0, 0, time.UTC)
	var w world
	commits := rapid.IntRange(1, 40).Draw(t, "commits")
	for range commits {
		at = at.Add(spans().Draw(t, "until the next commit"))
		w.times = append(w.times, at)
	}
	w.state.Segments = drawLog(t, commits)
	w.state.Snapshots = drawSnapshots(t, w.times)
	ids := rapid.SliceOfN(rapid.IntRange(1, commits+1), 0, 3).Draw(t, "marks")
	for _, id := range ids {
		w.state.Marks = append(w.state.Marks, retain.Mark{Name: "m", TXID: state.TXID(id)})
	}
	w.policy = retain.Policy{
		History: spans().Draw(t, "history"), Hourly: spans().Draw(t, "hourly"), Daily: spans().Draw(t, "daily"),
		Weekly: spans().Draw(t, "weekly"), Grace: rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour}).Draw(t, "grace"),
	}
	w.now = at.Add(spans().Draw(t, "since the last commit"))
	return w
}

// drawLog gives segments with gaps, and packs over some of them.
func drawLog(t *rapid.T, commits int) []retain.Segment {
	var log []retain.Segment
	for first := 2; first <= commits; {
		last := min(commits, first+rapid.IntRange(0, 5).Draw(t, "length"))
		if rapid.IntRange(0, 9).Draw(t, "gap") > 0 {
			log = append(log, retain.Segment{First: state.TXID(first), Last: state.TXID(last)})
		}
		first = last + 1
	}
	for range rapid.IntRange(0, 2).Draw(t, "packs") {
		first := rapid.IntRange(1, commits).Draw(t, "first")
		log = append(log, retain.Segment{First: state.TXID(first), Last: state.TXID(rapid.IntRange(first, commits).Draw(t, "last"))})
	}
	return rapid.Permutation(log).Draw(t, "log")
}

// drawSnapshots gives snapshots: full ones, and such as add to another one that is
// there, or is not.
func drawSnapshots(t *rapid.T, times []time.Time) []retain.Snapshot {
	var out []retain.Snapshot
	for i, at := range times {
		if rapid.IntRange(0, 2).Draw(t, "snapshot") > 0 {
			continue
		}
		s := retain.Snapshot{TXID: state.TXID(i + 1), Time: at.Add(rapid.SampledFrom([]time.Duration{0, 0, 0, time.Minute, 100 * time.Hour, 1 << 58}).Draw(t, "late"))}
		switch n := len(out); rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
		case 1:
			s.Base = state.TXID(rapid.IntRange(0, i).Draw(t, "base"))
		default:
			if n > 0 {
				s.Base = out[rapid.IntRange(max(0, n-3), n-1).Draw(t, "base")].TXID
			}
		}
		if s.Base == s.TXID {
			s.Base = 0
		}
		if rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
			s.Time = time.Time{}
		}
		s.Bad = rapid.IntRange(0, 9).Draw(t, "bad") == 0
		out = append(out, s)
		if rapid.IntRange(0, 9).Draw(t, "again") == 0 && s.Base != 0 {
			out = append(out, retain.Snapshot{TXID: s.TXID, Time: s.Time})
		}
	}
	return rapid.Permutation(out).Draw(t, "snapshots")
}

// kept tells of a commit whether it must stay restorable if it is.
func (w world) kept(id state.TXID) bool {
	if int(id) <= len(w.times) && !w.times[id-1].Before(w.now.Add(-max(w.policy.History, w.policy.Grace))) {
		return true
	}
	return slices.ContainsFunc(w.state.Marks, func(m retain.Mark) bool { return m.TXID == id })
}

// A plan keeps what it must, wherever it is stopped, and nothing is left to be
// done after it.
func TestPlanKeeps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := w.policy.Plan(w.state, w.now)
		for n := range len(p.Goes) + 1 {
			w.check(t, p.Goes, n)
		}
		w.checkSplit(t, p)
		after := p.After()
		if again := w.policy.Plan(after, w.now); len(again.Goes) > 0 {
			t.Fatalf("the plan is not complete: %+v of\n%+v", again.Goes, after)
		}
		for _, s := range w.state.Snapshots {
			if s.Time.After(w.now.Add(-w.policy.Grace)) && !slices.Contains(after.Snapshots, s) {
				t.Fatalf("a snapshot goes that is younger than the grace period: %+v", s)
			}
		}
	})
}

// check looks at the history when the first n of a plan are deleted.
func (w world) check(t *rapid.T, goes []retain.Item, n int) {
	rest := without(w.state, goes[:n])
	for id := range state.TXID(len(w.times)) {
		if id++; w.kept(id) && restorable(w.state, id) && !restorable(rest, id) {
			t.Fatalf("after %d deletions TXID %v can't be restored any more", n, id)
		}
	}
	usable := func(s retain.State) func(retain.Snapshot) bool {
		return func(snap retain.Snapshot) bool { return canUse(s, snap) }
	}
	if slices.ContainsFunc(w.state.Snapshots, usable(w.state)) && !slices.ContainsFunc(rest.Snapshots, usable(rest)) {
		t.Fatalf("after %d deletions no snapshot is left", n)
	}
	for _, s := range rest.Snapshots {
		if canUse(w.state, s) && !canUse(rest, s) {
			t.Fatalf("after %d deletions the snapshot of TXID %v can't be used any more", n, s.TXID)
		}
	}
	for _, i := range goes[n:] {
		for id := i.Segment.First; id <= i.Segment.Last && !i.IsSnapshot(); id++ {
			if restorable(w.state, id) && !restorable(rest, id) {
				t.Fatalf("after %d deletions TXID %v is still in the log of %+v, and can't be restored", n, id, i)
			}
		}
	}
}

// checkSplit checks that all goes or stays, in the lists where it should be.
func (w world) checkSplit(t *rapid.T, p retain.Plan) {
	if got, want := len(p.Goes)+len(p.Stays), len(w.state.Snapshots)+len(w.state.Segments); got != want {
		t.Fatalf("%d of %d are in the plan", got, want)
	}
	snaps, segs := 0, 0
	for _, i := range p.Goes {
		switch {
		case i.IsSnapshot() && p.Snapshots[snaps] == i.Snapshot:
			snaps++
		case !i.IsSnapshot() && p.Segments[segs] == i.Segment:
			segs++
		default:
			t.Fatalf("%+v is in the wrong place", i)
		}
	}
	for _, i := range slices.Concat(p.Goes, p.Stays) {
		if i.Why == "" {
			t.Fatalf("no reason for %+v", i)
		}
	}
}

// A mark that is made while a plan is carried out takes things out of the rest of
// it, and adds none.
func TestPlanRest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := w.policy.Plan(w.state, w.now)
		n := rapid.IntRange(0, len(p.Goes)).Draw(t, "deleted")
		if rest := p.Rest(n, nil); !slices.Equal(bare(rest.Goes), bare(p.Goes[n:])) {
			t.Fatalf("after %d deletions this is left: %+v of %+v", n, rest.Goes, p.Goes)
		}
		checkWithout(t, w, p)
		m := retain.Mark{Name: "new", TXID: state.TXID(rapid.IntRange(1, len(w.times)).Draw(t, "marked"))}
		spared := p.Rest(n, []retain.Mark{m})
		next := n
		for _, i := range bare(spared.Goes) {
			k := slices.Index(bare(p.Goes[next:]), i)
			if k < 0 {
				t.Fatalf("with a mark more, this goes, too, or too late: %+v", i)
			}
			next += k + 1
		}
		if restorable(without(w.state, p.Goes[:n]), m.TXID) && !restorable(spared.After(), m.TXID) {
			t.Fatalf("the mark's TXID %v can't be restored any more", m.TXID)
		}
	})
}

// checkWithout carries a plan out, of which some can't be deleted.
func checkWithout(t *rapid.T, w world, p retain.Plan) {
	locked := rapid.SliceOfN(rapid.IntRange(0, 3), len(p.Goes), len(p.Goes)).Draw(t, "locked if 0")
	var gone, stay []retain.Item
	for n := 0; n < len(p.Goes); {
		if len(gone)+len(stay) >= len(locked) {
			t.Fatal("it does not end")
		}
		i := p.Goes[n]
		if locked[len(gone)+len(stay)] > 0 {
			gone, n = append(gone, i), n+1
			continue
		}
		stay = append(stay, i)
		p, n = p.Without(n), 0
	}
	rest := without(w.state, gone)
	for _, i := range stay {
		if i.IsSnapshot() && canUse(w.state, i.Snapshot) && !canUse(rest, i.Snapshot) {
			t.Fatalf("the snapshot of TXID %v can't be deleted, and not be used any more", i.Snapshot.TXID)
		}
		if id := i.Segment.Last; !i.IsSnapshot() && restorable(w.state, id) && !restorable(rest, id) {
			t.Fatalf("the log at TXID %v can't be deleted, and not be used any more", id)
		}
	}
}

func bare(items []retain.Item) []retain.Item {
	out := slices.Clone(items)
	for i := range out {
		out[i].Why = ""
	}
	return out
}

// What is said to be restorable is.
func TestRestorable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		ranges := w.state.Restorable()
		for id := range state.TXID(len(w.times) + 2) {
			n := 0
			for _, r := range ranges {
				if r.First <= id && id <= r.Last {
					n++
				}
			}
			if want := restorable(w.state, id); n > 1 || want != (n == 1) {
				t.Fatalf("TXID %v is in %d of %v, restorable: %v", id, n, ranges, want)
			}
		}
		for i, r := range ranges {
			if i > 0 && ranges[i-1].Last+1 >= r.First {
				t.Fatalf("ranges that are one: %v", ranges)
			}
		}
	})
}
