package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

const logLong = `Log lists a replica's commits, newest first, and the range that can be
restored. The time of a commit is when tidemark saw it, within tens of
milliseconds; pages and bytes are what the commit changed and what it takes in
the replica. The note "first snapshot" marks the state that the replica began
with, "resync" a commit that stands for changes that tidemark could not follow
one by one.`

const logExample = `  tidemark log file:///mnt/backup/app
  tidemark log s3://backups/app --since 2h --limit 0
  tidemark log s3://backups/app --until 2026-01-31T12:00:00Z --limit 1 --json`

// logFlags are the flags of log.
type logFlags struct {
	since, until string
	limit        int
	json         bool
}

func newLog(p process) *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:     "log URL",
		Short:   "List the commits that can be restored",
		Long:    logLong,
		Example: logExample,
		Args:    exactArgs("the replica's URL"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args[0]) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.since, "since", "", "from this `time` on: "+momentHelp)
	flags.StringVar(&f.until, "until", "", "up to this `time`")
	flags.IntVar(&f.limit, "limit", 50, "at most this `number` of commits; 0 lists all")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *logFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, url string) error {
	q, err := f.query(time.Now())
	if err != nil {
		return err
	}
	how, err := config.LoadLogging(flags)
	if err != nil {
		return err
	}
	place, err := location.Parse(url)
	if err != nil {
		return err
	}
	logger := newConsole(p.err).logger(how)
	ctx, release := p.interruptible(ctx, logger, notices{first: "stopping", second: "stopped at once"})
	defer release()
	w := bufio.NewWriter(p.out)
	if err := f.open(ctx, w, place, q); err != nil {
		_ = w.Flush() // what was listed so far; the error says why it ends
		return atPlace(place, err)
	}
	return w.Flush()
}

// open lists the replica at a place.
func (f *logFlags) open(ctx context.Context, w io.Writer, place location.Location, q archive.Query) error {
	bucket, err := place.Open(ctx, location.Options{})
	if err != nil {
		return err
	}
	a, err := archive.Open(ctx, bucket)
	if err != nil {
		return err
	}
	return f.list(ctx, w, a, q)
}

func (f *logFlags) list(ctx context.Context, w io.Writer, a *archive.Archive, q archive.Query) error {
	r, err := a.Range(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return listJSON(ctx, w, a, r, q)
	}
	return listText(ctx, w, a, r, q)
}

// query checks the flags before anything is opened.
func (f *logFlags) query(now time.Time) (archive.Query, error) {
	q := archive.Query{Limit: f.limit}
	if f.limit < 0 {
		return q, usagef("--limit: %d is negative; 0 lists all commits", f.limit)
	}
	var err error
	if f.since != "" {
		if q.Since, err = parseMoment(f.since, now); err != nil {
			return q, usagef("--since: %w", err)
		}
	}
	if f.until != "" {
		if q.Until, err = parseMoment(f.until, now); err != nil {
			return q, usagef("--until: %w", err)
		}
	}
	if f.since != "" && f.until != "" && q.Since.After(q.Until) {
		return q, usagef("--since (%s) lies after --until (%s)", formatTime(q.Since), formatTime(q.Until))
	}
	return q, nil
}

// loggedRange is the restorable range as JSON.
type loggedRange struct {
	FirstTXID state.TXID `json:"first_txid"`
	LastTXID  state.TXID `json:"last_txid"`
	FirstTime string     `json:"first_time"`
	LastTime  string     `json:"last_time"`
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
}

// listJSON writes one object whose commits are written as they come: a replica
// holds millions of them.
func listJSON(ctx context.Context, w io.Writer, a *archive.Archive, r archive.Range, q archive.Query) error {
	head, err := json.Marshal(loggedRange{r.FirstTXID, r.LastTXID, formatTime(r.FirstTime), formatTime(r.LastTime)})
	if err != nil {
		return fmt.Errorf("encode the range: %w", err)
	}
	if _, err := fmt.Fprintf(w, `{"range":%s,"commits":[`, head); err != nil {
		return err
	}
	separator := "\n"
	err = a.Commits(ctx, q, func(c archive.Commit) error {
		line, err := json.Marshal(loggedCommit{c.TXID, formatTime(c.Time), c.Pages, c.Bytes, c.Resync, c.Snapshot})
		if err != nil {
			return fmt.Errorf("encode commit %s: %w", c.TXID, err)
		}
		_, err = fmt.Fprintf(w, "%s%s", separator, line)
		separator = ",\n"
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "]}\n")
	return err
}

func listText(ctx context.Context, w io.Writer, a *archive.Archive, r archive.Range, q archive.Query) error {
	_, err := fmt.Fprintf(w, "restorable: TXID %s (%s) to TXID %s (%s)\n\n%12s  %-24s  %10s  %12s  NOTE\n",
		r.FirstTXID, formatTime(r.FirstTime), r.LastTXID, formatTime(r.LastTime), "TXID", "TIME", "PAGES", "BYTES")
	if err != nil {
		return err
	}
	n, last := 0, r.LastTXID
	err = a.Commits(ctx, q, func(c archive.Commit) error {
		n, last = n+1, c.TXID
		_, err := fmt.Fprintf(w, "%12s  %-24s  %10d  %12d%s\n", c.TXID, formatTime(c.Time), c.Pages, c.Bytes, note(c))
		return err
	})
	switch {
	case err != nil:
		return err
	case n == 0:
		_, err = io.WriteString(w, "no commit in that time\n")
	case n == q.Limit && last > r.FirstTXID:
		_, err = fmt.Fprintf(w, "\nthe newest %d; --limit 0 lists all\n", n)
	}
	return err
}

// note gives the last column: what is special about a commit.
func note(c archive.Commit) string {
	switch {
	case c.Snapshot:
		return "  first snapshot"
	case c.Resync:
		return "  resync"
	default:
		return ""
	}
}
