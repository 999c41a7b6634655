package main

import (
	"bufio"
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
)

const logLong = `Log lists what can be restored of a replica: the ranges of commits, the single
snapshots that are left of older times, and the commits of all of these, newest
first. The time of a commit is when tidemark saw it, within tens of milliseconds;
pages and bytes are what the commit changed and what it takes in the replica. The
note "resync" marks a commit that stands for changes that tidemark could not follow
one by one, "snapshot" a state with which a range begins (the first one is that with
which the replica began), "single snapshot" one before and after which there is
nothing to restore. What a missing or damaged object makes unreachable is not listed.

--ranges lists all ranges and single snapshots, oldest first, and no commits.`

const logExample = `  tidemark log file:///mnt/backup/app
  tidemark log s3://backups/app --ranges
  tidemark log s3://backups/app --since 2h --limit 0
  tidemark log s3://backups/app --until 2026-01-31T12:00:00Z --limit 1 --json`

// logFlags are the flags of log.
type logFlags struct {
	since, until string
	limit        int
	ranges, json bool
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
	flags.BoolVar(&f.ranges, "ranges", false, "list the ranges that can be restored, and no commits")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *logFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, url string) error {
	q, err := f.query(time.Now())
	if err != nil {
		return err
	}
	for _, name := range []string{"since", "until", "limit"} {
		if f.ranges && flags.Changed(name) {
			return usagef("--ranges lists no commits: it can't be used with --%s", name)
		}
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
	l, err := readListing(ctx, bucket)
	if err != nil {
		return err
	}
	l.w = w
	switch {
	case f.ranges && f.json:
		return l.rangesJSON()
	case f.ranges:
		return l.rangesText()
	case f.json:
		return l.commitsJSON(ctx, q)
	default:
		return l.commitsText(ctx, q)
	}
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
