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
	"tidemark/replica/check"
	"tidemark/storage"
)

const checkLong = `Check looks whether a database can be relied on, before a session starts: its
file, its WAL, what else lies beside it, who has it open, the disk, and what SQLite's
integrity_check says of one committed state. It takes no lock, makes no connection to
the files, never checkpoints and writes nothing, so that it can be run beside the
application, and beside a WAL that must not be opened before it was salvaged. A
database that is written meanwhile is copied into the system's folder for temporary
files (TMPDIR), and the copy is checked.

With a replica's URL it puts a small object there, once more under the condition that
there is none, reads it back and deletes it, and looks whether the replica is this
database's and how far behind it is.

Each item is ok, warn or fail, with one line on what to do. --quick runs quick_check,
which does not compare the indexes with the tables. The exit code is 3 if an item
fails, with --strict also if one warns; 4 if there is no such database; 1 if it could
not look. tidemark replicate --check runs it, with --quick, before anything else.`

const checkExample = `  tidemark check app.db
  tidemark check --quick --strict app.db s3://backups/app
  tidemark check --json app.db file:///mnt/backup/app`

// checkFlags are the flags of check.
type checkFlags struct {
	quick, strict, json bool
	networkFS, unfenced bool
	stateDir            string
}

func newCheck(p process) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:     "check DB [URL]",
		Short:   "See whether a database and its replica can be relied on",
		Long:    checkLong,
		Example: checkExample,
		Args:    oneOrTwo("the database"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.quick, "quick", false, "run quick_check instead of integrity_check")
	flags.BoolVar(&f.strict, "strict", false, "exit with 3 also if an item warns")
	flags.StringVar(&f.stateDir, config.KeyStateDir, "", "look for local state in this `folder`, as given to replicate")
	flags.BoolVar(&f.networkFS, config.KeyAllowNetworkFS, false, "only warn of a network file system")
	flags.BoolVar(&f.unfenced, config.KeyUnfenced, false, "only warn of storage that ignores conditional writes")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *checkFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	if strings.Contains(args[0], "://") {
		return usagef("the database comes first, then the URL: tidemark check DB %s", args[0])
	}
	how, err := config.LoadLogging(flags)
	if err != nil {
		return err
	}
	dbs, _, err := config.LoadStateDirs(flags, "", args[:1])
	if err != nil {
		return err
	}
	c := checking{path: args[0]}
	opts := check.Options{
		Path: args[0], Quick: f.quick, StateDir: dbs[0].StateDir, AllowNetworkFS: f.networkFS, Unfenced: f.unfenced,
	}
	logger := newConsole(p.err).logger(how)
	ctx, release := p.interruptible(ctx, logger, notices{first: "stopping", second: "stopped at once; a private copy may be left in the temporary folder"})
	defer release()
	if len(args) == 2 {
		place, err := location.Parse(args[1])
		if err != nil {
			return err
		}
		c.url = place.String()
		if err := openForCheck(ctx, place, &opts); err != nil {
			return err
		}
	}
	began := time.Now()
	c.items, err = check.Run(ctx, opts)
	if errors.Is(err, check.ErrNoDatabase) {
		return missing(args[0], err)
	}
	if err != nil {
		return err
	}
	c.took = time.Since(began)
	if err := c.print(p.out, f.json); err != nil {
		return err
	}
	return c.failed(f.strict)
}

// missing says what to do about a database that is not there.
func missing(path string, err error) error {
	hint := "check the path; tidemark restore brings a database back from its replica"
	if wal := orphanOf(path); wal != "" {
		hint = wal + " is there: SQLite would delete it with the next database of that name; take out what it has with tidemark salvage"
	}
	return advisedError{err: err, hint: hint}
}

// openForCheck opens a replica's place. What is wrong with the place is for the check
// to tell, what is wrong with the settings is not.
func openForCheck(ctx context.Context, place location.Location, opts *check.Options) error {
	bucket, err := place.Open(ctx, location.Options{})
	var mistake *location.Error
	switch {
	case errors.As(err, &mistake):
		return err
	case err != nil:
		opts.BucketErr, opts.MayCreate = err, place.IsFolder() && errors.Is(err, storage.ErrNoBucket)
	default:
		opts.Bucket = bucket
	}
	return nil
}

// uncheckedError is the end of a check in which items failed, or warned.
type uncheckedError struct {
	path   string
	failed []string
	hint   string
}

// Error implements error.
func (e uncheckedError) Error() string {
	return fmt.Sprintf("%s can't be relied on: %s", e.path, strings.Join(e.failed, ", "))
}

// Hint says what to do.
func (e uncheckedError) Hint() string { return e.hint }

// exitWith implements [coded].
func (uncheckedError) exitWith() int { return exitBadData }
