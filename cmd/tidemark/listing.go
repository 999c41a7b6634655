package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// listing is what log writes about a replica.
type listing struct {
	history *archive.History
	ranges  archive.Ranges // at least one
	head    archive.Head
	w       io.Writer
}

// listingTries is how many times a replica is listed that changes while it is read.
const listingTries = 5

// readListing reads what there is to write, but for the commits. What is packed or
// pruned meanwhile can be gone when it is to be read: then it lists again.
func readListing(ctx context.Context, b storage.Bucket) (l listing, err error) {
	for range listingTries {
		if l, err = tryListing(ctx, b); !errors.Is(err, storage.ErrNotExist) {
			break
		}
	}
	return l, err
}

func tryListing(ctx context.Context, b storage.Bucket) (l listing, err error) {
	a, err := archive.Open(ctx, b)
	if err != nil {
		return l, err
	}
	if l.history, err = a.History(ctx); err != nil {
		return l, err
	}
	l.ranges = l.history.Ranges()
	l.head, err = a.Head(ctx)
	if len(l.history.Damaged()) > 0 && isAny(err, block.ErrCorrupt, block.ErrVersion, archive.ErrBroken) {
		l.head, err = archive.Head{Last: a.Newest()}, nil // at least
	}
	return l, err
}

// newest is the newest commit of the replica. It can be restored, unless
// something is missing before it.
func (l listing) newest() (id state.TXID, restorable bool) {
	last := l.ranges[len(l.ranges)-1].LastTXID
	return max(last, l.head.Last), last >= l.head.Last
}

// loggedRange is a range as JSON.
type loggedRange struct {
	FirstTXID state.TXID `json:"first_txid"`
	LastTXID  state.TXID `json:"last_txid"`
	FirstTime string     `json:"first_time"`
	LastTime  string     `json:"last_time"`
	// Single tells that it is one snapshot alone.
	Single bool `json:"single,omitempty"`
}

func rangeJSON(r archive.Range) loggedRange {
	return loggedRange{r.FirstTXID, r.LastTXID, formatTime(r.FirstTime), formatTime(r.LastTime), r.Single()}
}

// loggedCommit is a commit as JSON.
type loggedCommit struct {
	TXID  state.TXID `json:"txid"`
	Time  string     `json:"time"`
	Pages uint32     `json:"pages"`
	Bytes int64      `json:"bytes"`
	// What is special about it, as archive.Commit has it.
	Resync   bool `json:"resync,omitempty"`
	Snapshot bool `json:"snapshot,omitempty"`
	Single   bool `json:"single,omitempty"`
}

// loggedReplica is the beginning of what log writes as JSON. Range is from the
// first point that can be restored to the last; not all between them need be.
type loggedReplica struct {
	Range  loggedRange   `json:"range"`
	Ranges []loggedRange `json:"ranges"`
	// NewestTXID is the newest commit that the replica holds. It is not in Ranges
	// if something before it is missing.
	NewestTXID state.TXID `json:"newest_txid"`
	// Damaged tells of objects that are, as far as they were looked at.
	Damaged []string `json:"damaged,omitempty"`
}

// encodeHead encodes what does not depend on the number of commits.
func (l listing) encodeHead() ([]byte, error) {
	newest, _ := l.newest()
	first, last := l.ranges[0].First(), l.ranges[len(l.ranges)-1].Last()
	head := loggedReplica{
		NewestTXID: newest,
		Range:      rangeJSON(archive.Range{FirstTXID: first.TXID, LastTXID: last.TXID, FirstTime: first.Time, LastTime: last.Time}),
	}
	head.Range.Single = false // it is all there is
	for _, r := range l.ranges {
		head.Ranges = append(head.Ranges, rangeJSON(r))
	}
	for _, err := range l.history.Damaged() {
		head.Damaged = append(head.Damaged, err.Error())
	}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("encode the ranges: %w", err)
	}
	return b, nil
}

func (l listing) rangesJSON() error {
	head, err := l.encodeHead()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.w, "%s\n", head)
	return err
}

// commitsJSON writes one object whose commits are written as they come: a replica
// holds millions of them.
func (l listing) commitsJSON(ctx context.Context, q archive.Query) error {
	head, err := l.encodeHead()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(l.w, `%s,"commits":[`, head[:len(head)-1]); err != nil {
		return err
	}
	separator := "\n"
	err = l.history.Commits(ctx, q, func(c archive.Commit) error {
		line, err := json.Marshal(loggedCommit{c.TXID, formatTime(c.Time), c.Pages, c.Bytes, c.Resync, c.Snapshot, c.Single})
		if err != nil {
			return fmt.Errorf("encode commit %s: %w", c.TXID, err)
		}
		_, err = fmt.Fprintf(l.w, "%s%s", separator, line)
		separator = ",\n"
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(l.w, "]}\n")
	return err
}

func (l listing) rangesText() error {
	const line = "%12s  %-24s  %12s  %-24s  %s\n"
	if _, err := fmt.Fprintf(l.w, line, "FIRST TXID", "TIME", "LAST TXID", "TIME", "WHAT"); err != nil {
		return err
	}
	for _, r := range l.ranges {
		what := "every commit"
		if r.Single() {
			what = "single snapshot"
		}
		if _, err := fmt.Fprintf(l.w, line, r.FirstTXID, formatTime(r.FirstTime), r.LastTXID, formatTime(r.LastTime), what); err != nil {
			return err
		}
	}
	return l.unrestorable()
}

// unrestorable warns if the newest commit can't be restored, and of damage.
func (l listing) unrestorable() error {
	text := ""
	if id, ok := l.newest(); !ok {
		text = fmt.Sprintf("the newest commit, TXID %s, can't be restored: something before it is missing\n", id)
	}
	for _, err := range l.history.Damaged() {
		text += "damaged: " + err.Error() + "\n" //nolint:perfsprint // a few at most
	}
	_, err := io.WriteString(l.w, text)
	return err
}

func (l listing) commitsText(ctx context.Context, q archive.Query) error {
	if err := l.headText(); err != nil {
		return err
	}
	n, last := 0, state.TXID(0)
	err := l.history.Commits(ctx, q, func(c archive.Commit) error {
		n, last = n+1, c.TXID
		_, err := fmt.Fprintf(l.w, "%12s  %-24s  %10d  %12d%s\n", c.TXID, formatTime(c.Time), c.Pages, c.Bytes, note(c))
		return err
	})
	switch {
	case err != nil:
		return err
	case n == 0:
		_, err = io.WriteString(l.w, "no commit in that time\n")
	case n == q.Limit && last > l.ranges[0].FirstTXID:
		_, err = fmt.Fprintf(l.w, "\nthe newest %d; --limit 0 lists all\n", n)
	}
	return err
}

// headText writes what can be restored, and the columns' names.
func (l listing) headText() error {
	parts, all := l.ranges.Describe()
	if !all {
		parts = append(parts, "--ranges lists all of them")
	}
	before := "restorable: "
	for _, p := range parts {
		if _, err := fmt.Fprintf(l.w, "%s%s\n", before, p); err != nil {
			return err
		}
		before = "            "
	}
	if err := l.unrestorable(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(l.w, "\n%12s  %-24s  %10s  %12s  NOTE\n", "TXID", "TIME", "PAGES", "BYTES")
	return err
}

// note gives the last column: what is special about a commit.
func note(c archive.Commit) string {
	switch {
	case c.Snapshot && c.TXID == 1:
		return "  first snapshot"
	case c.Single:
		return "  single snapshot"
	case c.Snapshot:
		return "  snapshot"
	case c.Resync:
		return "  resync"
	default:
		return ""
	}
}
