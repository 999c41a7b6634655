package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
)

const statusLong = `Status tells how the replication of databases on this machine stands: whether a
replicator runs, which commits it has read and which are in storage, what waits
and how far that is behind, what fails, and what was repaired. Of one that has
ended it tells how. It reads the state directory that replicate keeps: it opens
no database, asks no storage, and disturbs nobody.

The states:
  starting    it does not follow yet: it asks storage, copies, or compares pages
  following   it reads each commit and ships it
  retrying    something fails that may pass, such as storage
  overflowed  the spool has reached its limit: the commits in it were given up
              one by one, and become one commit when storage answers
  stopped     it was told to stop, or --once was done
  failed      an error ended it
  killed      its process ended without a word
  none        nothing was replicated from here
  unknown     it has left nothing to read

Lag is the age of the oldest commit that is not in storage; while commits are not
read, as at a start, it is at least the time for which that has been so. What a
running replicator tells is up to two seconds old. One that hangs tells nothing,
but a WAL that goes unread for long is named.

A database with several replicas has a status for each, with its name; --replica picks
one. With --config all databases of its folders are told of, too: their first bytes
are read to know them.

With --max-lag it ends with exit code 5 if nobody replicates a database, or if
one lags longer than that. Give it some seconds more than the sync interval. To
restart a replicator for that does not help: it waits for storage by itself, and
a start has to find its place first.`

const statusExample = `  tidemark status app.db
  tidemark status --config /etc/tidemark.yml
  tidemark status --replica office app.db
  tidemark status --json --max-lag 1m app.db`

// statusFlags are the flags of status.
type statusFlags struct {
	config, replica string
	maxLag          time.Duration
	// limited tells that maxLag is given.
	limited bool
	json    bool
}

func newStatus(p process) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:     "status [DB...]",
		Short:   "Tell how replication stands",
		Long:    statusLong,
		Example: statusExample,
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.config, "config", "", "tell of the databases of this YAML `file`, as given to replicate")
	flags.String(config.KeyStateDir, "", "look for local state in this `folder`, as given to replicate")
	flags.StringVar(&f.replica, "replica", "", "tell of the replica of this `name` only, of a database with several")
	flags.DurationVar(&f.maxLag, "max-lag", 0, "exit with 5 if nobody replicates, or the lag is longer than this `duration`")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *statusFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	if f.limited = flags.Changed("max-lag"); f.limited && f.maxLag < 0 {
		return usagef("--max-lag: %s is negative", f.maxLag)
	}
	if len(args) == 0 && f.config == "" {
		return usagef("the database is missing: give its path, or a configuration with --config")
	}
	all, err := f.standings(ctx, flags, args)
	if err != nil {
		return err
	}
	if all, err = named(all, f.replica); err != nil {
		return err
	}
	views := make([]view, 0, len(all))
	for _, s := range all {
		views = append(views, view{standing: s, now: time.Now()})
	}
	if err := f.print(p.out, views); err != nil {
		return err
	}
	return f.judge(views)
}

// standings reads how each database stands.
func (f *statusFlags) standings(ctx context.Context, flags *pflag.FlagSet, args []string) ([]standing, error) {
	dbs, folders, err := config.LoadStateDirs(flags, f.config, args)
	if err != nil {
		return nil, err
	}
	if f.config != "" {
		if dbs, err = allDatabases(ctx, dbs, folders); err != nil {
			return nil, err
		}
		return configured(dbs)
	}
	var all []standing
	for _, db := range dbs {
		of, err := standingsOf(db.Path, db.StateDir)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

func (f *statusFlags) print(w io.Writer, views []view) error {
	switch {
	case f.json:
		out := make([]shownStatus, 0, len(views))
		for _, v := range views {
			out = append(out, v.json())
		}
		return writeJSON(w, map[string][]shownStatus{"databases": out})
	case len(views) == 1:
		return views[0].list(w)
	default:
		return printTable(w, views)
	}
}

// judge holds the databases against --max-lag.
func (f *statusFlags) judge(views []view) error {
	if !f.limited {
		return nil
	}
	bad := behindError{of: len(views), what: "databases"}
	for _, v := range views {
		if v.name != "" {
			bad.what = "replicas"
		}
		if why := v.behind(f.maxLag); why != "" {
			bad.which = append(bad.which, v.label()+": "+why)
		}
	}
	if len(bad.which) == 0 {
		return nil
	}
	return bad
}

// behind says why a database is not replicated in time, or "".
func (v view) behind(limit time.Duration) string {
	lag, known := v.Lag(v.now)
	switch {
	case !v.Running:
		return "nobody replicates it"
	case !known:
		return "its replicator has left no status that can be read"
	case lag > limit:
		return fmt.Sprintf("it lags by %s, longer than %s", formatLag(lag), limit)
	default:
		return ""
	}
}

// behindError says which databases are not replicated in time.
type behindError struct {
	which []string
	of    int
	what  string // there are so many of
}

// Error implements error.
func (e behindError) Error() string {
	if e.of == 1 {
		return e.which[0]
	}
	return fmt.Sprintf("%d of %d %s are not replicated in time, the first is %s", len(e.which), e.of, e.what, e.which[0])
}

// Hint says where to look.
func (e behindError) Hint() string {
	return "the replicator's log says more; tidemark replicate starts one where there is none"
}
