package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
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

Of a database with several replicas each gets one, or with --replica the one of
that name. Those that nobody replicates to any more, and that have not failed, are
left out.

Where no replicator runs, give the replica's URL too: then what is left to ship is
shipped first, as by replicate --once.`

const snapshotExample = `  tidemark snapshot app.db
  tidemark snapshot --full app.db
  tidemark snapshot --replica office app.db
  tidemark snapshot app.db s3://backups/app`

// snapshotFlags are the flags of snapshot.
type snapshotFlags struct {
	full, json      bool
	config, replica string
	timeout         time.Duration
}

func newSnapshot(p process) *cobra.Command {
	var f snapshotFlags
	cmd := &cobra.Command{
		Use:     "snapshot DB [URL]",
		Short:   "Write a snapshot now",
		Long:    snapshotLong,
		Example: snapshotExample,
		Args:    oneOrTwo("the database"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.full, "full", false, "write all pages, not just those that have changed")
	flags.DurationVar(&f.timeout, "timeout", time.Hour, "wait for the replicator for this `duration` at most")
	flags.StringVar(&f.replica, "replica", "", "of the replica of this `name` only, of a database with several")
	flags.StringVar(&f.config, "config", "", "look the database up in this YAML `file`, as given to replicate")
	flags.String(config.KeyStateDir, "", "look for local state in this `folder`, as given to replicate")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *snapshotFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	path, url := args[0], ""
	if len(args) == 2 {
		url = args[1]
	}
	if url != "" && f.config != "" {
		return usagef("both a URL and --config: leave out one of the two")
	}
	all, err := standings(flags, f.config, path)
	if err != nil {
		return err
	}
	running := slices.DeleteFunc(slices.Clone(all), func(s standing) bool { return !s.Running })
	if len(running) == 0 && url != "" {
		made, err := f.once(ctx, p, flags, all, path, url)
		if err != nil {
			return err
		}
		return f.print(p.out, []shownSnapshot{made})
	}
	if all, err = named(all, f.replica); err != nil {
		return err
	}
	asked := inUse(all)
	if f.replica != "" || len(asked) == 0 {
		asked = all
	}
	made, err := f.request(ctx, asked)
	if len(made) > 0 {
		err = errors.Join(f.print(p.out, made), err)
	}
	return err
}

// inUse are those replicas that somebody replicates to, or would if that had not
// failed. None is if nobody replicates to any.
func inUse(all []standing) []standing {
	if !slices.ContainsFunc(all, func(s standing) bool { return s.Running }) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(s standing) bool {
		return !s.Running && s.State != replica.StatusFailed && s.State != replica.StatusKilled
	})
}

// request has the replicators write snapshots, side by side.
func (f *snapshotFlags) request(ctx context.Context, asked []standing) (made []shownSnapshot, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("the replicator has not written a snapshot in %s", f.timeout))
	defer cancel()
	results, errs := make([]replica.StatusSnapshot, len(asked)), make([]error, len(asked))
	var wg sync.WaitGroup
	for i, s := range asked {
		wg.Go(func() { results[i], errs[i] = replica.RequestSnapshot(ctx, s.path, s.StateDir, f.full) })
	}
	wg.Wait()
	var failed []labelled
	for i, s := range asked {
		switch err := errs[i]; {
		case errors.Is(err, replica.ErrNotRunning):
			failed = append(failed, labelled{s.label(), notRunningError{err, s.path}})
		case err != nil:
			failed = append(failed, labelled{s.label(), err})
		default:
			made = append(made, shownSnapshotOf(s, results[i]))
		}
	}
	return made, severalFailed(failed, len(asked))
}

// once makes it where no replicator runs: of the replica that is named, or else of
// the one that was at that URL.
func (f *snapshotFlags) once(ctx context.Context, p process, flags *pflag.FlagSet, all []standing, path, url string) (shownSnapshot, error) {
	settings, err := config.Load(flags, "", []string{path, url})
	if err != nil {
		return shownSnapshot{}, err
	}
	name := f.replica
	if name == "" {
		name = nameOf(all, url)
	} else if !config.IsReplicaName(name) {
		return shownSnapshot{}, usagef("--replica: %q is no name for a replica: use a-z, 0-9 and hyphens, 32 at most", name)
	}
	settings.Databases[0].Replica = name
	con := newConsole(p.err)
	r := &roster{once: true, con: con, logger: con.logger(settings.Logging)}
	if err := r.list(settings); err != nil {
		return shownSnapshot{}, err
	}
	j := r.jobs[0]
	if j.snapshot = replica.AnySnapshot; f.full {
		j.snapshot = replica.FullSnapshot
	}
	err = r.run(ctx)
	con.endProgress()
	if err = errors.Join(err, j.err); err != nil {
		return shownSnapshot{}, err
	}
	s, err := standingOf(path, settings.Databases[0].StateDir, name)
	switch {
	case err != nil:
		return shownSnapshot{}, err
	case s.Snapshot == nil:
		return shownSnapshot{}, errors.New("no snapshot was written")
	case s.Snapshot.Error != "":
		return shownSnapshot{}, errors.New("no snapshot was written: " + s.Snapshot.Error)
	}
	return shownSnapshotOf(s, *s.Snapshot), nil
}

// nameOf is the name of the replica at a URL.
func nameOf(all []standing, url string) string {
	place, err := location.Parse(url)
	for _, s := range all {
		if other, perr := location.Parse(s.url); err == nil && perr == nil && other.Same(place) {
			return s.name
		}
	}
	return ""
}

// shownSnapshot is a snapshot as JSON.
type shownSnapshot struct {
	Path  string     `json:"path"`
	Name  string     `json:"name,omitempty"`
	TXID  state.TXID `json:"txid"`
	Base  state.TXID `json:"base"`
	Pages int        `json:"pages"`
	Bytes int64      `json:"bytes"`
	label string
}

func shownSnapshotOf(s standing, made replica.StatusSnapshot) shownSnapshot {
	return shownSnapshot{s.path, s.name, made.TXID, made.Base, made.Pages, made.Bytes, s.label()}
}

func (f *snapshotFlags) print(w io.Writer, made []shownSnapshot) error {
	if f.json && len(made) == 1 {
		return writeJSON(w, made[0])
	}
	if f.json {
		return writeJSON(w, map[string][]shownSnapshot{"snapshots": made})
	}
	for _, s := range made {
		if _, err := io.WriteString(w, s.text()); err != nil {
			return err
		}
	}
	return nil
}

// text says it to people.
func (s shownSnapshot) text() string {
	kind := "full snapshot"
	if s.Base != 0 {
		kind = fmt.Sprintf("snapshot of what has changed since TXID %v", s.Base)
	}
	if s.Pages == 0 {
		return fmt.Sprintf("%s: the newest snapshot is of the newest commit already, TXID %v\n", s.label, s.TXID)
	}
	return fmt.Sprintf("%s: wrote a %s, of TXID %v: %d pages in %s\n", s.label, kind, s.TXID, s.Pages, formatSize(s.Bytes))
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
