package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"tidemark/cmd/tidemark/span"
	"tidemark/replica/prune"
	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// row is a line of the plan: a snapshot, or consecutive objects of the log that go
// or stay for the same reason.
type row struct {
	retain.Item
	first   state.TXID // of the log
	objects []prune.Object
}

func (r row) bytes() (n int64) {
	for _, o := range r.objects {
		n += o.Size
	}
	return n
}

// rows joins the log's objects, which come in ascending or in descending order.
func (p *pruning) rows(items []retain.Item) []row {
	var out []row
	for _, i := range items {
		n := len(out)
		objects := p.inventory.Objects(i)
		if n > 0 && !i.IsSnapshot() && !out[n-1].IsSnapshot() && i.Why == out[n-1].Why {
			r := &out[n-1]
			r.first = min(r.first, i.Segment.First)
			r.Segment.Last = max(r.Segment.Last, i.Segment.Last)
			r.objects = append(r.objects, objects...)
			continue
		}
		out = append(out, row{Item: i, first: i.Segment.First, objects: objects})
	}
	return out
}

// print shows people what goes, what stays, and what can be restored then.
func (p *pruning) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) } // Flush gives the error
	line("%s", p.place)
	line("policy\t%s", p.describePolicy())
	goes, stays := p.rows(p.plan.Goes), p.rows(p.plan.Stays)
	line("goes\t%s", p.sum(goes))
	line("stays\t%s", p.sum(stays))
	before, after := p.inventory.State.Restorable(), p.plan.After().Restorable()
	line("restorable now\t%s", describeRanges(before))
	if len(goes) > 0 {
		line("and then\t%s", describeRanges(after))
		line("")
		line("GOES\tTXID\tTIME\tOBJECTS\tBYTES\tWHY")
	}
	for _, r := range goes {
		what, id, when := "log", fmt.Sprintf("%s to %s", r.first, r.Segment.Last), "-"
		if r.IsSnapshot() {
			what, id = "snapshot", r.Snapshot.TXID.String()
			if !r.Snapshot.Time.IsZero() {
				when = formatTime(r.Snapshot.Time)
			}
		}
		line("%s\t%s\t%s\t%d\t%s\t%s", what, id, when, len(r.objects), formatSize(r.bytes()), r.Why)
	}
	return t.Flush()
}

func (p *pruning) describePolicy() string {
	return fmt.Sprintf("every commit for %s, the first snapshot of each hour for %s, of each day for %s, of each week for %s",
		span.Format(p.policy.History), span.Format(p.policy.Hourly), span.Format(p.policy.Daily), span.Format(p.policy.Weekly))
}

// sum says in one line what some rows are.
func (p *pruning) sum(rows []row) string {
	var snaps, segs int
	var bytes int64
	for _, r := range rows {
		bytes += r.bytes()
		if r.IsSnapshot() {
			snaps += len(r.objects)
		} else {
			segs += len(r.objects)
		}
	}
	if snaps+segs == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%s and %s of the log, %s", count(snaps, "snapshot"), count(segs, "object"), formatSize(bytes))
}

// manyRanges is how many ranges are told one by one.
const manyRanges = 10

// describeRanges tells what can be restored: each range, or, of many, those that
// are no single snapshots.
func describeRanges(ranges []retain.Range) string {
	var parts []string
	singles, last := 0, state.TXID(0)
	for _, r := range ranges {
		switch {
		case r.First < r.Last:
			parts = append(parts, fmt.Sprintf("TXID %s to %s", r.First, r.Last))
		case len(ranges) <= manyRanges:
			parts = append(parts, "TXID "+r.First.String())
		default:
			singles, last = singles+1, r.First
		}
	}
	if singles > 0 {
		parts = append(parts, fmt.Sprintf("%s up to TXID %s", count(singles, "single snapshot"), last))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// shownItem is a row as JSON.
type shownItem struct {
	// Kind is "snapshot" or "log".
	Kind string `json:"kind"`
	// TXID, BaseTXID and Time are a snapshot's, FirstTXID and LastTXID the log's.
	TXID      state.TXID `json:"txid,omitempty"`
	BaseTXID  state.TXID `json:"base_txid,omitempty"`
	Time      string     `json:"time,omitempty"`
	FirstTXID state.TXID `json:"first_txid,omitempty"`
	LastTXID  state.TXID `json:"last_txid,omitempty"`
	Objects   int        `json:"objects"`
	Bytes     int64      `json:"bytes"`
	Why       string     `json:"why"`
}

type shownRange struct {
	FirstTXID state.TXID `json:"first_txid"`
	LastTXID  state.TXID `json:"last_txid"`
}

type shownRefusal struct {
	Key   string `json:"key"`
	Error string `json:"error"`
}

// shownPruning is a plan and its result as JSON.
type shownPruning struct {
	Replica          string            `json:"replica"`
	Policy           map[string]string `json:"policy"`
	Goes             []shownItem       `json:"goes"`
	Stays            []shownItem       `json:"stays"`
	RestorableBefore []shownRange      `json:"restorable_before"`
	RestorableAfter  []shownRange      `json:"restorable_after"`
	Confirmed        bool              `json:"confirmed"`
	DeletedObjects   int               `json:"deleted_objects"`
	DeletedBytes     int64             `json:"deleted_bytes"`
	Refused          []shownRefusal    `json:"refused"`
	Spared           int               `json:"spared"`
}

func (p *pruning) json() shownPruning {
	out := shownPruning{
		Replica: p.place,
		Policy: map[string]string{
			"history": span.Format(p.policy.History), "hourly": span.Format(p.policy.Hourly),
			"daily": span.Format(p.policy.Daily), "weekly": span.Format(p.policy.Weekly),
		},
		Goes: shownItems(p.rows(p.plan.Goes)), Stays: shownItems(p.rows(p.plan.Stays)),
		RestorableBefore: shownRanges(p.inventory.State.Restorable()), RestorableAfter: shownRanges(p.plan.After().Restorable()),
		Confirmed: p.confirmed, DeletedObjects: len(p.result.Deleted), DeletedBytes: p.result.Bytes(), Spared: p.result.Spared,
		Refused: []shownRefusal{},
	}
	for _, r := range p.result.Refused {
		out.Refused = append(out.Refused, shownRefusal{r.Key, r.Err.Error()})
	}
	return out
}

func shownItems(rows []row) []shownItem {
	out := make([]shownItem, 0, len(rows))
	for _, r := range rows {
		i := shownItem{Kind: "log", FirstTXID: r.first, LastTXID: r.Segment.Last, Objects: len(r.objects), Bytes: r.bytes(), Why: r.Why}
		if s := r.Snapshot; r.IsSnapshot() {
			i.Kind, i.TXID, i.BaseTXID, i.Time = "snapshot", s.TXID, s.Base, timeOrNone(s.Time)
		}
		out = append(out, i)
	}
	return out
}

func shownRanges(ranges []retain.Range) []shownRange {
	out := make([]shownRange, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, shownRange{r.First, r.Last})
	}
	return out
}
