package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/replica"
	"tidemark/snapshot/state"
)

const snapshotLong = `Snapshot has the replicator that runs on a database write a snapshot now, and
waits for it. A restore begins with the newest snapshot before its target: one
before something that is likely to be restored to makes that quick. The replicator
writes snapshots by itself, at --snapshot-interval; this is for one more.

A snapshot holds the pages that have changed since an earlier one, or all of them
with --full. If nothing was committed since the newest snapshot, there is nothing
to do.

Where no replicator runs, give the replica's URL too: then what is left to ship is
shipped first, as by replicate --once.`

const snapshotExample = `  tidemark snapshot app.db
  tidemark snapshot --full app.db
  tidemark snapshot app.db s3://backups/app`

// snapshotFlags are the flags of snapshot.
type snapshotFlags struct {
	full, json bool
	timeout    time.Duration
}

func newSnapshot(p process) *cobra.Command {
	var f snapshotFlags
	cmd := &cobra.Command{
		Use:     "snapshot DB [URL]",
		Short:   "Write a snapshot now",
		Long:    snapshotLong,
		Example: snapshotExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("the database is missing")
			}
			return atMost(2, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.full, "full", false, "write all pages, not just those that have changed")
	flags.DurationVar(&f.timeout, "timeout", time.Hour, "wait for the replicator for this `duration` at most")
	flags.String(config.KeyStateDir, "", "look for local state in this `folder`, as given to replicate")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *snapshotFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	dbs, err := config.LoadStateDirs(flags, "", args[:1])
	if err != nil {
		return err
	}
	path, dir := dbs[0].Path, dbs[0].StateDir
	waiting, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("the replicator has not written a snapshot in %s", f.timeout))
	defer cancel()
	s, err := replica.RequestSnapshot(waiting, path, dir, f.full)
	if errors.Is(err, replica.ErrNotRunning) && len(args) == 2 {
		s, err = f.once(ctx, p, flags, dbs[0], args[1])
	} else if errors.Is(err, replica.ErrNotRunning) {
		err = notRunningError{err, path}
	}
	if err != nil {
		return err
	}
	return f.print(p.out, path, s)
}

// once makes it where no replicator runs.
func (f *snapshotFlags) once(ctx context.Context, p process, flags *pflag.FlagSet, db config.Database, url string) (replica.StatusSnapshot, error) {
	settings, err := config.Load(flags, "", []string{db.Path, url})
	if err != nil {
		return replica.StatusSnapshot{}, err
	}
	jobs, err := newJobs(settings.Databases)
	if err != nil {
		return replica.StatusSnapshot{}, err
	}
	j := jobs[0]
	if j.snapshot = replica.AnySnapshot; f.full {
		j.snapshot = replica.FullSnapshot
	}
	con := newConsole(p.err)
	runner := replicateFlags{once: true}
	runner.runAll(ctx, jobs, con, con.logger(settings.Logging))
	con.endProgress()
	if j.err != nil {
		return replica.StatusSnapshot{}, j.err
	}
	st, err := replica.ReadStatus(db.Path, db.StateDir)
	switch {
	case err != nil:
		return replica.StatusSnapshot{}, err
	case st.Snapshot == nil:
		return replica.StatusSnapshot{}, errors.New("no snapshot was written")
	case st.Snapshot.Error != "":
		return replica.StatusSnapshot{}, errors.New("no snapshot was written: " + st.Snapshot.Error)
	}
	return *st.Snapshot, nil
}

// shownSnapshot is a snapshot as JSON.
type shownSnapshot struct {
	Path  string     `json:"path"`
	TXID  state.TXID `json:"txid"`
	Base  state.TXID `json:"base"`
	Pages int        `json:"pages"`
	Bytes int64      `json:"bytes"`
}

func (f *snapshotFlags) print(w io.Writer, path string, s replica.StatusSnapshot) error {
	if f.json {
		return writeJSON(w, shownSnapshot{path, s.TXID, s.Base, s.Pages, s.Bytes})
	}
	kind := "full snapshot"
	if s.Base != 0 {
		kind = fmt.Sprintf("snapshot of what has changed since TXID %v", s.Base)
	}
	if s.Pages == 0 {
		_, err := fmt.Fprintf(w, "%s: the newest snapshot is of the newest commit already, TXID %v\n", path, s.TXID)
		return err
	}
	_, err := fmt.Fprintf(w, "%s: wrote a %s, of TXID %v: %d pages in %s\n", path, kind, s.TXID, s.Pages, formatSize(s.Bytes))
	return err
}

// notRunningError says what to do where no replicator runs.
type notRunningError struct {
	err  error
	path string
}

// Error implements error.
func (e notRunningError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e notRunningError) Unwrap() error { return e.err }

// Hint says what to do.
func (e notRunningError) Hint() string {
	return "give the replica's URL too, tidemark snapshot " + e.path + " URL, or start tidemark replicate first"
}
