package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/replica/verify"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// verification is a report as it is shown.
type verification struct {
	place  string
	report *verify.Report // nil: there is none
	sample verify.Sample
	err    error // why it could not look any further
}

// classes are those of objects, in the order in which they are shown.
func classes() []verify.Class {
	return []verify.Class{verify.Meta, verify.Segment, verify.Pack, verify.Snapshot, verify.Mark, verify.Foreign}
}

func levelName(l verify.Level) string {
	return [...]string{"list", "objects", "chain", "restore"}[l]
}

// print shows people the report.
func (v *verification) print(w io.Writer) error {
	r := v.report
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) } // Flush gives the error
	line("%s", v.place)
	line("level\t%s", levelName(r.Level))
	line("objects\t%s", v.objects())
	line("restorable\t%s", describeSpans(r.Ranges))
	for _, g := range r.Gaps {
		why := "missing"
		if g.Retention {
			why = "as retention leaves it"
		}
		line("gap\t%s, %s", g.Span, why)
	}
	for _, x := range r.Restores {
		ok := "ok"
		if !x.OK {
			ok = "FAILED"
		}
		line("restored\tTXID %s of %s: %s (%s, %s applied)", x.TXID, formatTime(x.Time), ok, count(x.Pages, "page"), count(int(x.Commits), "commit"))
	}
	if len(r.Restores) > 1 || v.sample.Share > 0 {
		line("drawn with\t--seed %d", r.Seed)
	}
	if a := r.Against; a != nil {
		line("against\t%s", describeComparison(*a))
	}
	if l := r.Lag; l != nil {
		line("lag\t%s", describeLag(*l))
	}
	line("took\t%s; requests: %d list, %d get; %s downloaded", r.Took.Round(time.Millisecond), r.Requests.List, r.Requests.Get, formatSize(r.Bytes))
	if err := t.Flush(); err != nil {
		return err
	}
	return v.printFindings(w)
}

// objects tells how many there are, and how many were read.
func (v *verification) objects() string {
	var parts []string
	var bytes, all, read int64
	for _, c := range classes() {
		n := v.report.Counts[c]
		bytes += n.Bytes
		if what := string(c); n.Objects > 0 && c != verify.Meta {
			if c == verify.Foreign {
				what = "foreign object"
			}
			parts = append(parts, count(int(n.Objects), what))
		}
		if c == verify.Segment || c == verify.Pack || c == verify.Snapshot {
			all, read = all+n.Objects, read+n.Read
		}
	}
	text := fmt.Sprintf("%s, %s", strings.Join(parts, ", "), formatSize(bytes))
	switch {
	case v.report.Level == verify.List:
	case read == all:
		text += "; all read"
	case v.sample.All():
		text += fmt.Sprintf("; %d of %d read", read, all)
	default:
		text += fmt.Sprintf("; %d of %d read (sample %s)", read, all, v.sample)
	}
	if n := v.report.Waiting; n > 0 {
		text += fmt.Sprintf("; %d packed, to be deleted within hours", n)
	}
	return text
}

func describeSpans(all []verify.Span) string {
	if len(all) == 0 {
		return "nothing"
	}
	parts := make([]string, 0, len(all))
	for _, s := range all[:min(len(all), manyRanges)] {
		parts = append(parts, s.String())
	}
	if n := len(all) - manyRanges; n > 0 {
		parts = append(parts, fmt.Sprintf("%d more", n))
	}
	return strings.Join(parts, ", ")
}

func describeComparison(a verify.Comparison) string {
	switch {
	case a.Equal:
		return fmt.Sprintf("%s is TXID %s, page by page", a.Path, a.TXID)
	case a.Known:
		return fmt.Sprintf("%s differs from TXID %s, the nearest commit, in %s", a.Path, a.TXID, count(a.Differ, "page"))
	case a.Why == "":
		return a.Path + ": not compared"
	case a.Differ > 0:
		return fmt.Sprintf("%s: not known: it differs from TXID %s, the nearest commit, in %s%s; %s", a.Path, a.TXID, count(a.Differ, "page"), whereDiffers(a), a.Why)
	default:
		return fmt.Sprintf("%s: not known: %s", a.Path, a.Why)
	}
}

// whereDiffers names the first pages that differ, and the tables.
func whereDiffers(a verify.Comparison) string {
	const most = 10
	var b strings.Builder
	for i, p := range a.Pages[:min(len(a.Pages), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d", p)
	}
	if n := a.Differ - most; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	if len(a.Tables) > 0 {
		fmt.Fprintf(&b, "; tables %s", strings.Join(a.Tables, ", "))
	}
	return " (" + b.String() + ")"
}

func describeLag(l verify.Lag) string {
	behind := l.Behind.Round(time.Millisecond)
	switch {
	case !l.OK:
		return fmt.Sprintf("at least %s: %s", behind, l.Why)
	case !l.Shipped:
		return fmt.Sprintf("%s, as the replicator tells; the replica is at TXID %s", behind, l.TXID)
	case behind > 0:
		return fmt.Sprintf("everything that was committed is in the replica, up to TXID %s; the oldest had waited for %s", l.TXID, behind)
	default:
		return fmt.Sprintf("everything that was committed is in the replica, up to TXID %s", l.TXID)
	}
}

// printFindings lists all findings, and sums up.
func (v *verification) printFindings(w io.Writer) error {
	var b strings.Builder
	warnings := 0
	for _, f := range v.report.Findings {
		if f.Severity == verify.Warning {
			warnings++
		}
		fmt.Fprintf(&b, "\n%s  %s  (found by %s)\n  problem  %s\n  means    %s\n  do       %s\n",
			strings.ToUpper(string(f.Severity)), f.Key, f.Check, f.Problem, f.Means, f.Do)
	}
	n, _ := v.report.Errors()
	switch {
	case v.err != nil:
		b.WriteString("\nnot everything was looked at\n")
	case n == 0 && v.verdict() != nil:
		fmt.Fprintf(&b, "\nnot known to be up to date, %s\n", count(warnings, "warning"))
	case n > 0:
		fmt.Fprintf(&b, "\n%s, %s\n", count(n, "error"), count(warnings, "warning"))
	case warnings > 0:
		fmt.Fprintf(&b, "\nno errors, %s\n", count(warnings, "warning"))
	default:
		b.WriteString("\nall is well\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The report as JSON. The names are stable.
type (
	shownVerification struct {
		Replica    string                `json:"replica"`
		ReplicaID  string                `json:"replica_id"`
		Level      string                `json:"level"`
		Sample     string                `json:"sample"`
		Seed       uint64                `json:"seed"`
		OK         bool                  `json:"ok"`
		Complete   bool                  `json:"complete"`
		Errors     int                   `json:"errors"`
		Warnings   int                   `json:"warnings"`
		Objects    map[string]shownCount `json:"objects"`
		Waiting    int                   `json:"waiting_objects"`
		Restorable []loggedRange         `json:"restorable"`
		Gaps       []shownGap            `json:"gaps"`
		Restores   []shownRestore        `json:"restores"`
		Against    *shownComparison      `json:"against,omitempty"`
		Lag        *shownLag             `json:"lag,omitempty"`
		Findings   []shownFinding        `json:"findings"`
		Requests   storage.Requests      `json:"requests"`
		Bytes      int64                 `json:"downloaded_bytes"`
		Seconds    float64               `json:"seconds"`
	}
	shownCount struct {
		Objects int64 `json:"objects"`
		Bytes   int64 `json:"bytes"`
		Read    int64 `json:"read"`
	}
	shownGap struct {
		loggedRange
		Retention bool `json:"retention"`
	}
	shownRestore struct {
		TXID     state.TXID `json:"txid"`
		Time     string     `json:"time,omitempty"`
		Pages    uint32     `json:"pages"`
		Checksum string     `json:"state_checksum"`
		Commits  uint64     `json:"commits"`
		OK       bool       `json:"ok"`
	}
	shownComparison struct {
		Path   string     `json:"path"`
		TXID   state.TXID `json:"txid"`
		Time   string     `json:"time,omitempty"`
		Known  bool       `json:"known"`
		Equal  bool       `json:"equal"`
		Differ int        `json:"differing_pages"`
		Pages  []uint32   `json:"pages"`
		Tables []string   `json:"tables"`
		Why    string     `json:"why,omitempty"`
	}
	shownLag struct {
		OK      bool       `json:"ok"`
		Shipped bool       `json:"shipped"`
		TXID    state.TXID `json:"txid"`
		Time    string     `json:"time,omitempty"`
		Seconds float64    `json:"seconds"`
		Why     string     `json:"why,omitempty"`
	}
	shownFinding struct {
		Check    string        `json:"check"`
		Class    string        `json:"class"`
		Key      string        `json:"key"`
		Severity string        `json:"severity"`
		Problem  string        `json:"problem"`
		Means    string        `json:"means"`
		Do       string        `json:"do"`
		Lost     []loggedRange `json:"lost"`
	}
)

func shownSpans(all []verify.Span) []loggedRange {
	out := make([]loggedRange, 0, len(all))
	for _, s := range all {
		out = append(out, loggedRange{s.First, s.Last, timeOrNone(s.FirstTime), timeOrNone(s.LastTime), s.First == s.Last})
	}
	return out
}

func (v *verification) json() shownVerification {
	r := v.report
	n, _ := r.Errors()
	out := shownVerification{
		Replica: v.place, ReplicaID: r.Replica, Level: levelName(r.Level), Sample: v.sample.String(), Seed: r.Seed,
		OK: v.err == nil && v.verdict() == nil, Complete: v.err == nil, Errors: n, Warnings: len(r.Findings) - n,
		Objects: map[string]shownCount{}, Waiting: r.Waiting, Restorable: shownSpans(r.Ranges),
		Gaps: []shownGap{}, Restores: []shownRestore{}, Findings: []shownFinding{},
		Requests: r.Requests, Bytes: r.Bytes, Seconds: r.Took.Seconds(),
	}
	for _, c := range classes() {
		out.Objects[string(c)] = shownCount(r.Counts[c])
	}
	for i, s := range shownSpans(spansOf(r.Gaps)) {
		out.Gaps = append(out.Gaps, shownGap{s, r.Gaps[i].Retention})
	}
	for _, x := range r.Restores {
		out.Restores = append(out.Restores, shownRestore{x.TXID, timeOrNone(x.Time), x.Pages, x.Checksum.String(), x.Commits, x.OK})
	}
	if a := r.Against; a != nil {
		out.Against = &shownComparison{a.Path, a.TXID, timeOrNone(a.Time), a.Known, a.Equal, a.Differ, append([]uint32{}, a.Pages...), append([]string{}, a.Tables...), a.Why}
	}
	if l := r.Lag; l != nil {
		out.Lag = &shownLag{l.OK, l.Shipped, l.TXID, timeOrNone(l.Time), l.Behind.Seconds(), l.Why}
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, shownFinding{
			string(f.Check), string(f.Class), f.Key, string(f.Severity), f.Problem, f.Means, f.Do, shownSpans(f.Lost),
		})
	}
	return out
}

func spansOf(gaps []verify.Gap) []verify.Span {
	out := make([]verify.Span, 0, len(gaps))
	for _, g := range gaps {
		out = append(out, g.Span)
	}
	return out
}
