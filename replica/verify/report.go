package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"tidemark/snapshot/state"
	"tidemark/storage"
)

// Level is how thoroughly a replica is verified. Each includes those before it.
type Level int

// The levels; see the package comment.
const (
	List Level = iota
	Objects
	Chain
	Restore
)

// Check is what a finding was found by: one of the levels, or a comparison with
// the live database. The values are stable: reports are made of them.
type Check string

// The checks.
const (
	CheckList    Check = "list"
	CheckObjects Check = "objects"
	CheckChain   Check = "chain"
	CheckRestore Check = "restore"
	CheckAgainst Check = "against"
	CheckLag     Check = "lag"
)

// Class is a kind of object. The values are stable, as those of Check.
type Class string

// The classes. Database is a whole state, as a restore or the live file has it.
const (
	Meta     Class = "meta"
	Segment  Class = "segment"
	Pack     Class = "pack"
	Snapshot Class = "snapshot"
	Mark     Class = "mark"
	Foreign  Class = "foreign"
	Database Class = "database"
)

// Severity tells a fault from what is only odd.
type Severity string

const (
	// Error says that something that should be restorable is not, or that
	// something is not what was committed.
	Error Severity = "error"
	// Warning says that something is not as it should be, and that no commit
	// depends on it.
	Warning Severity = "warning"
)

// Span is a stretch of commits, both ends included.
type Span struct {
	First, Last state.TXID
	// FirstTime and LastTime bound the commits' times as closely as is known: the
	// newest known time at or before the first, the oldest known one at or after
	// the last. Zero where none is known.
	FirstTime, LastTime time.Time
}

// String tells the span to a person.
func (s Span) String() string {
	text := "TXID " + s.First.String()
	if s.First != s.Last {
		text += " to " + s.Last.String()
	}
	switch from, to := stamp(s.FirstTime), stamp(s.LastTime); {
	case from == "" && to == "":
		return text
	case from == "":
		return fmt.Sprintf("%s (until %s)", text, to)
	case to == "":
		return fmt.Sprintf("%s (since %s)", text, from)
	case from == to:
		return fmt.Sprintf("%s (%s)", text, from)
	default:
		return fmt.Sprintf("%s (%s to %s)", text, from, to)
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// Finding is something that is wrong with a replica.
type Finding struct {
	// Check is what found it, Class what kind of object it is about, Key that
	// object; of a missing one the key next to the place where it should be.
	Check    Check
	Class    Class
	Key      string
	Severity Severity
	// Problem says what is wrong, Means what that means for restores, Do what to
	// do about it.
	Problem, Means, Do string
	// Lost are the commits that can't be restored because of this alone.
	Lost []Span
}

// String tells the finding to a person in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s: %s; %s", f.Severity, f.Key, f.Problem, f.Means, f.Do)
}

// Gap is a stretch of commits that are not there.
type Gap struct {
	Span
	// Retention tells that retention may have left it so.
	Retention bool
}

// Count is how many objects of a class there are, and how many of them were read
// from their first byte to their last.
type Count struct {
	Objects, Bytes int64
	Read           int64
}

// Restored is one commit that was rebuilt.
type Restored struct {
	TXID state.TXID
	Time time.Time
	// Pages and Checksum are the state's.
	Pages    uint32
	Checksum state.Checksum
	// Commits is how many commits were applied and proven on the way.
	Commits uint64
	// OK tells that all held.
	OK bool
}

// Report is what Run found.
type Report struct {
	// Level is what was asked for; Replica the replica's id, "" if that is not
	// known.
	Level   Level
	Replica string
	// Counts are of all objects.
	Counts map[Class]Count
	// Waiting is how many objects a pack covers that was put so lately that they
	// are still to be deleted.
	Waiting int
	// Ranges are what can be restored as far as this verification can tell, Gaps
	// what lies between them.
	Ranges []Span
	Gaps   []Gap
	// Findings are all that is wrong, by check, severity, class and key.
	Findings []Finding
	// Restores are the commits that were rebuilt; Seed drew them, and the sample.
	Restores []Restored
	Seed     uint64
	// Against is the comparison with the live database, nil without one.
	Against *Comparison
	// Lag is how far the replica is behind, nil if that was not asked.
	Lag *Lag
	// Requests, Bytes (downloaded) and Took are what it cost.
	Requests storage.Requests
	Bytes    int64
	Took     time.Duration
}

// Errors is the number of findings that are errors; Bad tells whether any of them
// is about data, and not only about lag.
func (r *Report) Errors() (n int, bad bool) {
	for _, f := range r.Findings {
		if f.Severity == Error {
			n++
			bad = bad || f.Check != CheckLag
		}
	}
	return n, bad
}

// order is the order of checks in a report.
func order() []Check {
	return []Check{CheckList, CheckObjects, CheckChain, CheckRestore, CheckAgainst, CheckLag}
}

// sort brings the findings into an order that does not depend on who was first.
func (r *Report) sort() {
	checks := order()
	classes := []Class{Meta, Segment, Pack, Snapshot, Mark, Foreign, Database} // what can be the cause of others first
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(checks, a.Check), slices.Index(checks, b.Check)),
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(slices.Index(classes, a.Class), slices.Index(classes, b.Class)), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Problem, b.Problem))
	})
}
