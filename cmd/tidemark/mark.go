package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
	"tidemark/replica/current"
)

const markLong = `Mark gives a commit a name, for tidemark restore --mark. A marked commit stays
restorable whatever the policy of retention is, until the mark is deleted.

Given a database, it marks the current commit: it waits until the replicator
that runs beside it has shipped everything that was committed before, and marks
the newest commit then. Without a replicator it works if all is shipped already,
and else ends with exit code 5. It finds the replica by what the replicator has
left in the state directory; --replica, or a configuration file, names it
instead. Of several replicas of the database each gets the mark, each on its own
newest commit; --replica picks one by its name or URL.

Given a replica's URL, it marks the newest commit there, or another one (--txid,
--timestamp).

Without a name, or with --list, it lists the marks. A name has letters, digits,
dots, underscores and hyphens, begins with a letter or a digit, and is used once:
one that is in use is an error.`

const markExample = `  tidemark mark app.db before-migration
  tidemark mark s3://backups/app release-7 --timestamp 2026-01-31T12:00:00Z
  tidemark mark s3://backups/app
  tidemark mark app.db before-migration --delete`

// defaultMarkTimeout is how long mark waits for a replicator.
const defaultMarkTimeout = time.Minute

// markFlags are the flags of mark.
type markFlags struct {
	timestamp, replica, config string
	txid                       uint64
	byTXID, byTime             bool
	timeout                    time.Duration
	list, delete, json         bool
}

func newMark(p process) *cobra.Command {
	var f markFlags
	cmd := &cobra.Command{
		Use:     "mark DB|URL [NAME]",
		Short:   "Name a commit, which then stays restorable",
		Long:    markLong,
		Example: markExample,
		Args:    oneOrTwo("the database or the replica's URL"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.Uint64Var(&f.txid, "txid", 0, "mark the commit with this `number`, which is in the replica")
	flags.StringVar(&f.timestamp, "timestamp", "", "mark the commit that was current at this `time`: "+momentHelp)
	flags.BoolVar(&f.list, "list", false, "list the marks")
	flags.BoolVar(&f.delete, "delete", false, "delete the mark; the commit stays until retention lets it go")
	flags.StringVar(&f.replica, "replica", "", "the `URL` that the database is replicated to, or the name of one of several replicas (default: what the replicator says)")
	flags.StringVar(&f.config, "config", "", "look the database up in this YAML `file`, as given to replicate")
	flags.String(config.KeyStateDir, "", "look for local state in this `folder`, as given to replicate")
	flags.DurationVar(&f.timeout, "timeout", defaultMarkTimeout, "wait this `long` for the replicator")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *markFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	f.byTXID, f.byTime = flags.Changed("txid"), flags.Changed("timestamp")
	target, name := args[0], ""
	if len(args) > 1 {
		name = args[1]
	}
	if err := f.check(name); err != nil {
		return err
	}
	how, err := config.LoadLogging(flags)
	if err != nil {
		return err
	}
	all, err := f.find(flags, target)
	if err != nil {
		return err
	}
	logger := newConsole(p.err).logger(how)
	for _, m := range all {
		m.name, m.logger = name, logger
	}
	ctx, release := p.interruptible(ctx, logger, notices{first: "stopping", second: "stopped at once"})
	defer release()
	err = all.run(ctx, p.out, f)
	if errors.Is(err, context.Canceled) {
		return interruptedError{err: err, text: "interrupted; nothing was marked", hint: "run it again"}
	}
	return err
}

// check checks the flags before anything is opened.
func (f *markFlags) check(name string) error {
	switch {
	case name == "" && f.delete:
		return usagef("--delete: the mark's name is missing")
	case name == "" && (f.byTXID || f.byTime):
		return usagef("the mark's name is missing")
	case name != "" && f.list:
		return usagef("--list lists all marks: leave out the name")
	case f.list && f.delete, (f.byTXID || f.byTime) && f.delete:
		return usagef("--delete can't be used together with --list, --txid or --timestamp")
	}
	if name != "" {
		if err := archive.CheckMarkName(name); err != nil {
			return usageError{err: err}
		}
	}
	return f.checkValues()
}

func (f *markFlags) checkValues() error {
	switch {
	case f.byTXID && f.byTime:
		return usagef("--timestamp and --txid can't be used together: each names one commit")
	case f.byTXID && f.txid == 0:
		return usagef("--txid: commits are numbered from 1 on")
	case f.timeout < 0:
		return usagef("--timeout: %s is negative", f.timeout)
	}
	return nil
}

// find finds the replicas: at a URL, or those of a database.
func (f *markFlags) find(flags *pflag.FlagSet, target string) (markings, error) {
	if strings.Contains(target, "://") {
		if f.replica != "" || f.config != "" || flags.Changed(config.KeyStateDir) {
			return nil, usagef("--replica, --config and --%s are about a database: %s is a replica's URL", config.KeyStateDir, target)
		}
		place, err := location.Parse(target)
		return markings{{markFlags: f, place: place}}, err
	}
	all, err := standings(flags, f.config, target)
	if err != nil {
		return nil, err
	}
	if all, err = f.pick(all, target); err != nil {
		return nil, err
	}
	if len(all) > 1 && f.byTXID {
		return nil, usagef("--txid: each replica has its own numbers: pick one with --replica")
	}
	var out markings
	for _, s := range all {
		m := &marking{markFlags: f, path: target, stateDir: s.StateDir, told: f.config == "" && !f.atURL(), label: s.label()}
		if s.url == "" {
			return nil, advisedError{
				err:  fmt.Errorf("%w: nothing was replicated from here: no replicator has left a word in %s", current.ErrBehind, s.StateDir),
				hint: "start tidemark replicate " + target + " URL; --state-dir says where its state is, and --replica where it ships to",
			}
		}
		if m.place, err = location.Parse(s.url); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// atURL tells whether the replica is given by its URL.
func (f *markFlags) atURL() bool { return strings.Contains(f.replica, "://") }

// pick gives those replicas of a database that the flags name, or else all that are in
// use.
func (f *markFlags) pick(all []standing, path string) ([]standing, error) {
	if f.replica == "" && f.config == "" && len(inUse(all)) > 0 {
		return inUse(all), nil
	}
	if !f.atURL() {
		return named(all, f.replica)
	}
	place, err := location.Parse(f.replica)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if other, err := location.Parse(s.url); err == nil && other.Same(place) {
			return []standing{s}, nil
		}
	}
	if len(all) > 1 {
		return nil, usagef("--replica: none of the %d replicas of %s is at %s: give its name", len(all), path, f.replica)
	}
	all[0].url = f.replica // as it is seen from here
	return all, nil
}
