package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/snapshot/state"
)

const (
	// young is the age up to which retention touches nothing.
	young = time.Hour
	// newest is how many segments at the end of the log nobody deletes.
	newest = 8
)

// damage is the finding about an object that can't be relied on.
func damage(inv *inventory, check Check, class Class, key, problem string) Finding {
	f := Finding{Check: check, Class: class, Key: key, Severity: Error, Problem: problem}
	if o := inv.byKey[key]; o.over != "" {
		f.Severity = Warning
		f.Means = "nobody reads it, since " + o.over + " has its commits; it can't stand in for that"
		f.Do = "delete it, if the pack is sound"
		return f
	}
	all := reachable(inv.read(), inv.snaps, nil)
	if class == Meta {
		f.Lost, f.Means = inv.spans(all), "nothing of this replica can be restored until it is back"
		f.Do = "bring it back from another copy of the bucket or from an older version of the object; the rest of the replica can be sound"
		return f
	}
	f.Lost = inv.spans(all.minus(reachable(inv.read(), inv.snaps, map[string]bool{key: true})))
	if f.Means = means(f.Lost); len(f.Lost) == 0 {
		f.Means = "no commit is lost by it alone: older snapshots and the log lead to the same commits, and a restore does without it"
	}
	f.Do = "bring it back from another copy of the bucket or from an older version of the object; if there is none, tidemark snapshot DB --full " +
		"makes what is committed from now on restorable without it"
	if class == Snapshot {
		f.Do = "bring it back from another copy of the bucket, or have a new full one written with tidemark snapshot DB --full; then delete it"
	}
	return f
}

// means says what can't be restored.
func means(lost []Span) string {
	parts := make([]string, 0, len(lost))
	for _, s := range lost {
		parts = append(parts, s.String())
	}
	return "can't be restored: " + strings.Join(parts, ", ")
}

// strangers names what has no business in the replica, and works out what the
// objects cost whose ends can't be read.
func (s *survey) strangers() {
	for i, f := range s.findings {
		if f.Severity == "" {
			s.findings[i] = damage(s.inv, f.Check, f.Class, f.Key, f.Problem)
		}
	}
	for _, o := range s.inv.absurd {
		s.findings = append(s.findings, Finding{
			Check: CheckList, Class: Foreign, Key: o.Key, Severity: Error,
			Problem: "its key is like that of an object of the replica, with a number that no commit has",
			Means:   "a restore of the newest commit, or a replicator, takes it for the newest and stops at it",
			Do:      "find out who put it there, keep a copy elsewhere, and delete it",
		})
	}
	for _, o := range s.inv.foreign {
		s.findings = append(s.findings, Finding{
			Check: CheckList, Class: Foreign, Key: o.Key, Severity: Warning,
			Problem: "it is no object of a replica",
			Means:   "nobody reads it; it takes " + strconv.FormatInt(o.Size, 10) + " bytes",
			Do:      "look what it is, and move it elsewhere: a replica should have its prefix to itself",
		})
	}
}

// covered names what a pack has the commits of and should be gone, or what reaches
// out of the pack.
func (s *survey) covered() {
	packs := map[string]logObject{}
	var end logObject
	for _, o := range s.inv.log {
		if o.over == "" {
			if end.pack && o.pack && o.first <= end.last {
				s.odd(o.class(), o.key, fmt.Sprintf("it overlaps %s without being part of it", end.key),
					"both are read; if they hold the same commits, that does no harm", "nothing, if the level chain finds them equal")
			}
			packs[o.key], end = o, o
			continue
		}
		pack := packs[o.over]
		switch now := s.v.opts.Now(); {
		case s.bad[o.key]:
		case o.last > pack.last:
			s.odd(o.class(), o.key, fmt.Sprintf("it begins within %s and goes on to TXID %v, after its end", o.over, o.last),
				"nobody reads it; another writer has put it there, after the pack was made", "find out who wrote it (its header names the writer); then delete it")
		case pack.put.IsZero() || now.Sub(pack.put) > 2*hold:
			s.odd(o.class(), o.key, "it is left over: "+o.over+" has its commits",
				"nobody reads it; it only takes room", "a replicator that runs deletes it an hour after it has packed it; if none runs, it does no harm")
		default:
			s.waiting++
		}
	}
}

// odd notes a warning.
func (s *survey) odd(class Class, key, problem, means, do string) {
	s.findings = append(s.findings, Finding{
		Check: CheckList, Class: class, Key: key, Severity: Warning, Problem: problem, Means: means, Do: do,
	})
}

// snapshots looks for snapshots without what they add to.
func (s *survey) snapshots() {
	ok := whole(s.inv.snaps, nil)
	there := reachable(s.inv.read(), s.inv.snaps, nil)
	for _, o := range s.inv.snaps {
		if o.base == 0 || ok[o.base] || s.bad[o.key] {
			continue
		}
		problem := fmt.Sprintf("it adds to the snapshot of TXID %v, which is not there", o.base)
		if slices.ContainsFunc(s.inv.snaps, func(b snapObject) bool { return b.txid == o.base }) {
			problem = fmt.Sprintf("it adds to the snapshot of TXID %v, which lacks what that adds to", o.base)
		}
		// What it would lead to if it were whole.
		as := slices.Clone(s.inv.snaps)
		for i := range as {
			if as[i].key == o.key {
				as[i].base = 0
			}
		}
		f := Finding{
			Check: CheckList, Class: Snapshot, Key: o.key, Severity: Error, Problem: problem,
			Lost: s.inv.spans(reachable(s.inv.read(), as, nil).minus(there)),
			Do:   "bring the missing snapshot back from another copy of the bucket; else delete this one, and have a full one written with tidemark snapshot DB --full",
		}
		if f.Means = means(f.Lost); len(f.Lost) == 0 {
			f.Means = "no commit is lost by it alone: older snapshots and the log lead to the same commits"
		}
		s.findings, s.loose = append(s.findings, f), true
	}
}

// log looks for gaps, and for commits that no snapshot leads to.
func (s *survey) log() {
	log := s.inv.read()
	there := reachable(log, s.inv.snaps, nil)
	if len(there) == 0 {
		if len(log) > 0 {
			s.unreachable(log, interval{log[0].first, log[len(log)-1].last}, "no snapshot is there that is whole")
		}
		return
	}
	s.adrift(log, there)
	for i := 1; i < len(there); i++ {
		s.gap(log, interval{there[i-1].last + 1, there[i].first - 1}, there[i-1])
	}
}

// adrift looks for objects of the log to whose commits no snapshot leads: before the
// first snapshot, or behind a gap.
func (s *survey) adrift(log []logObject, there intervals) {
	var lost []logObject
	flush := func() {
		if len(lost) > 0 {
			x := interval{lost[0].first, lost[len(lost)-1].last}
			s.unreachable(lost, x, fmt.Sprintf("no snapshot leads to its commits: the log before TXID %v is missing", x.first))
		}
		lost = nil
	}
	for i, o := range log {
		if useful(there, o) || len(log)-i <= newest && !o.pack && s.resumes(log[i:]) {
			flush()
			continue
		}
		if n := len(lost); n > 0 && o.first > lost[n-1].last+1 {
			flush()
		}
		lost = append(lost, o)
	}
	flush()
}

// useful tells whether some commit of an object can be restored by way of it.
func useful(there intervals, o logObject) bool {
	return slices.ContainsFunc(there, func(y interval) bool { return y.first < o.last && y.last >= o.first })
}

// resumes tells whether a snapshot lies in the run of consecutive objects that some
// begin with. Then retention can have deleted what comes before them, and left them
// alone since they are at the log's end.
func (s *survey) resumes(log []logObject) bool {
	end := log[0].last
	for _, o := range log {
		if o.first > end+1 {
			break
		}
		end = max(end, o.last)
	}
	for id := range whole(s.inv.snaps, nil) {
		if id >= log[0].last && id <= end {
			return true
		}
	}
	return false
}

// unreachable notes consecutive objects whose commits no snapshot leads to.
func (s *survey) unreachable(objects []logObject, x interval, problem string) {
	first := objects[0]
	if n := len(objects); n > 1 {
		problem += fmt.Sprintf(" (so it is for %d objects, up to %s)", n, objects[n-1].key)
	}
	lost := s.inv.spans(intervals{x})
	s.findings, s.loose = append(s.findings, Finding{
		Check: CheckList, Class: first.class(), Key: first.key, Severity: Error, Problem: problem, Means: means(lost), Lost: lost,
		Do: "bring what is missing back from another copy of the bucket; after a prune that was interrupted, tidemark prune URL --confirm deletes the rest",
	}), true
}

// gap judges what is missing between two parts of what can be restored, of which
// before is the first.
func (s *survey) gap(log []logObject, x interval, before interval) {
	g := Gap{Span: s.inv.spans(intervals{x})[0], Retention: true}
	base := before.first // the newest snapshot before the gap
	for id := range whole(s.inv.snaps, nil) {
		if id <= before.last {
			base = max(base, id)
		}
	}
	key, class, why := "", Segment, ""
	for _, o := range log {
		// Commits before the gap that retention would have deleted with it.
		if o.last > base && o.first <= before.last && !s.kept(o) {
			key, class, why = o.key, o.class(), "the log ends with it, and goes on after a gap"
		}
	}
	if key == "" && s.recent(x.last+1) {
		key, class, why = s.at(x.last+1), Snapshot, "the log that leads to it is missing, and it is too new for retention to have deleted that"
	}
	if g.Retention = key == ""; !g.Retention {
		f := Finding{
			Check: CheckList, Class: class, Key: key, Severity: Error, Problem: fmt.Sprintf("%s: TXID %v to %v are missing", why, x.first, x.last),
			Lost: []Span{g.Span}, Means: means([]Span{g.Span}),
			Do: "bring what is missing back from another copy of the bucket; after a prune that was interrupted, tidemark prune URL --confirm deletes the rest",
		}
		s.findings, s.loose = append(s.findings, f), true
	}
	s.gaps = append(s.gaps, g)
}

// kept tells whether a mark needs an object of the log, as retention sees it: its
// commit comes after what the object begins with, and is restored from a snapshot
// that is before its end.
func (s *survey) kept(o logObject) bool {
	return slices.ContainsFunc(s.inv.marks, func(m markObject) bool {
		base := state.TXID(0)
		for id := range whole(s.inv.snaps, nil) {
			if id <= m.txid {
				base = max(base, id)
			}
		}
		return base > 0 && o.first <= m.txid && o.last > base
	})
}

// recent tells whether the snapshot of a commit is not older than what retention
// leaves alone in any case, counted back from the newest snapshot.
func (s *survey) recent(id state.TXID) bool {
	var last, at time.Time
	for _, o := range s.inv.snaps {
		if o.time.After(last) {
			last = o.time
		}
		if o.txid == id {
			at = o.time
		}
	}
	return !at.IsZero() && last.Sub(at) < young
}

// at is the key of the snapshot of a commit.
func (s *survey) at(id state.TXID) string {
	for _, o := range s.inv.snaps {
		if o.txid == id {
			return o.key
		}
	}
	return ""
}

// marked looks for marks whose commits can't be restored.
func (s *survey) marked() {
	there := reachable(s.inv.read(), s.inv.snaps, s.bad)
	for _, m := range s.inv.marks {
		if m.txid == 0 || there.holds(m.txid) {
			continue
		}
		lost := []Span{{First: m.txid, Last: m.txid, FirstTime: m.time, LastTime: m.time}}
		s.findings = append(s.findings, Finding{
			Check: CheckList, Class: Mark, Key: m.key, Severity: Error, Problem: fmt.Sprintf("the commit that it names, TXID %v, can't be restored", m.txid),
			Means: means(lost), Lost: lost,
			Do: "bring back what is missing (other findings name it); else delete the mark with tidemark mark URL " + m.name + " --delete",
		})
	}
}

// moment is a commit whose time is known.
type moment struct {
	id state.TXID
	at time.Time
}

// spans gives intervals with their times.
func (inv *inventory) spans(all intervals) []Span {
	var known []moment
	for _, o := range inv.log {
		known = append(known, moment{o.first, o.begin}, moment{o.last, o.end})
	}
	for _, o := range inv.snaps {
		known = append(known, moment{o.txid, o.time})
	}
	known = slices.DeleteFunc(known, func(m moment) bool { return m.at.IsZero() })
	slices.SortFunc(known, func(a, b moment) int { return cmp.Compare(a.id, b.id) })
	out := make([]Span, 0, len(all))
	for _, x := range all {
		s := Span{First: x.first, Last: x.last}
		for _, m := range known {
			if m.id <= x.first {
				s.FirstTime = m.at
			}
			if m.id >= x.last {
				s.LastTime = m.at
				break
			}
		}
		out = append(out, s)
	}
	return out
}
