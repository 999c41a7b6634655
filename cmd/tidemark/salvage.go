package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/restore"
	"tidemark/replica/salvage"
	"tidemark/wal"
)

const salvageLong = `Salvage makes a clean database of what is left of one: PATH is the database, or its
-wal, and what lies beside it under SQLite's names is taken, too. Stop the application
first, and do not open the files with SQLite: that would destroy evidence. Salvage
only reads them, copies them into a private folder and works there; it takes no locks on
them and writes nothing beside them.

A WAL in which something is lost can be read in more than one way. Each way is a
candidate:

  proven        the database and the longest row of commits that can be proven
  checkpointed  the database, where a checkpoint has brought commits into it that
                can't be proven any more, and what comes after these
  replica       a state of the replica, and the commits that follow it (--replica)
  intact        the first, and each later commit whose own frames are whole although
                an earlier frame is lost
  frames        that, and what holds of the commits of which a frame is lost
  partial       that, and what holds of the last, damaged commits
  generations   the database with what earlier generations of the WAL have besides
  database      the database alone
  wal           the WAL alone

OUT is the best of them: one that is proven before one that is probable, then one in
which SQLite's integrity_check finds nothing, then the one with more commits. --take
chooses another; --all writes the others into a folder. A candidate whose b-trees are
damaged is read row by row: tables that can be read get their rows, what belongs to no
table is in the table lost_and_found, with the columns of SQLite's own recovery.

OUT is a database without a WAL, complete by itself; a file that is there is never
touched. The report says which commits, pages and tables are proven, probable or lost.

Exit codes: 0 nothing is lost, and all is proven; 3 something is lost or not proven,
and OUT is what could be had; 4 nothing can be salvaged.`

const salvageExample = `  tidemark salvage app.db -o /tmp/saved.db
  tidemark salvage app.db-wal -o /tmp/saved.db --db app.db.backup
  tidemark salvage app.db -o /tmp/saved.db --replica s3://backups/app
  tidemark salvage app.db -o /tmp/saved.db --all /tmp/others --json`

// salvageFlags are the flags of salvage.
type salvageFlags struct {
	output, all, take string
	wal, db           string
	replica           string
	pageSize          int
	tempDir           string
	json              bool
}

func newSalvage(p process) *cobra.Command {
	var f salvageFlags
	cmd := &cobra.Command{
		Use:     "salvage PATH -o OUT",
		Short:   "Make a clean database of a damaged one and its WAL",
		Long:    salvageLong,
		Example: salvageExample,
		Args:    exactArgs("the path of the database or the WAL"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, p, args[0]) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.output, "output", "o", "", "the `file` to write (required)")
	flags.StringVar(&f.all, "all", "", "write the candidates that are not the best into this `folder`")
	flags.StringVar(&f.take, "take", "", "write the candidate of this `kind` to OUT, not the best")
	flags.StringVar(&f.wal, "wal", "", "the database's WAL is this `file`, not the one beside it")
	flags.StringVar(&f.db, "db", "", "the WAL's database is this `file`, not the one beside it")
	flags.IntVar(&f.pageSize, "page-size", 0, "the database's pages have this `number` of bytes, if the files don't say")
	flags.StringVar(&f.replica, "replica", "", "take pages that are lost from the replica at this `URL`")
	flags.StringVar(&f.tempDir, "temp-dir", "", "make the private folder in this `folder` (default: OUT's, or the system's for temporary files if the originals lie there)")
	flags.BoolVar(&f.json, "json", false, "print the report, and errors, as JSON")
	return cmd
}

// options checks the flags before anything is opened.
func (f *salvageFlags) options(path string) (salvage.Options, error) {
	opts := salvage.Options{
		Path: path, WAL: f.wal, DB: f.db, Output: f.output, All: f.all, Temp: f.tempDir,
		PageSize: wal.PageSize(f.pageSize), Take: salvage.Kind(f.take),
	}
	switch {
	case f.output == "":
		return opts, usagef("the output is missing: give it with -o FILE")
	case f.output == "-":
		return opts, usagef("-o -: a database can't be written to standard output; give a file's name (./- for one named so)")
	case f.wal != "" && f.db != "":
		return opts, usagef("--wal and --db can't be used together: PATH is one of the two")
	case f.pageSize != 0 && (f.pageSize < 0 || !opts.PageSize.Valid()):
		return opts, usagef("--page-size: %d is not a power of two from 512 to 65536", f.pageSize)
	}
	return opts, nil
}

func (f *salvageFlags) run(cmd *cobra.Command, p process, path string) error {
	opts, err := f.options(path)
	if err != nil {
		return err
	}
	how, err := config.LoadLogging(cmd.Flags())
	if err != nil {
		return err
	}
	var place location.Location
	if f.replica != "" {
		if place, err = location.Parse(f.replica); err != nil {
			return err
		}
	}
	con := newConsole(p.err)
	opts.Logger, opts.Progress = con.logger(how), con.progress("salvaging")
	ctx, release := p.interruptible(cmd.Context(), opts.Logger, notices{
		first:  "stopping: nothing is written",
		second: "stopped at once; a folder .tidemark-salvage-* may be left beside the output or in the temporary folder",
	})
	defer release()
	if f.replica != "" {
		if opts.Replica, err = place.Open(ctx, location.Options{}); err != nil {
			return atPlace(place, err)
		}
	}
	report, err := salvage.Run(ctx, opts)
	con.endProgress()
	return f.finish(p, place, path, report, err)
}

// finish prints what came of it, and says how the process ends.
func (f *salvageFlags) finish(p process, place location.Location, path string, report *salvage.Report, err error) error {
	nothing := errors.Is(err, salvage.ErrNothing)
	switch {
	case errors.Is(err, context.Canceled):
		return interruptedError{err: err, text: "interrupted; the originals are as they were", hint: "run it again"}
	case err != nil && !nothing:
		if f.replica != "" {
			err = atPlace(place, err)
		}
		return salvageFailure(err)
	}
	var printErr error
	if f.json {
		printErr = writeJSON(p.out, report)
	} else {
		printErr = (&salvaged{report: report, path: path}).show(p.out)
	}
	if printErr != nil || nothing {
		return errors.Join(printErr, salvageFailure(err))
	}
	return salvageVerdict(report, path)
}

// salvageVerdict is the error that tells scripts and people that something is lost.
func salvageVerdict(r *salvage.Report, path string) error {
	if r.Verdict == salvage.Whole {
		return nil
	}
	best := r.Best()
	e := damagedError{
		text: fmt.Sprintf("not all of %s could be proven: %s is %s", path, best.Output, best.Proof),
		hint: "keep the originals; the report says what is lost",
	}
	if l := r.Log; l != nil && l.Proven+l.Probable+l.Lost > 0 {
		e.text = fmt.Sprintf("not all of %s could be proven: %s has %d of %d commits, and is %s",
			path, best.Output, best.Commits, l.Proven+l.Probable+l.Lost, best.Proof)
	}
	var others []string
	for _, c := range r.Candidates[1:] {
		if c.Commits > best.Commits || c.Rows > best.Rows {
			others = append(others, fmt.Sprintf("%s (%s)", c.Kind, c.Proof))
		}
	}
	if len(others) > 0 {
		e.hint = fmt.Sprintf("keep the originals; there is more in %s: write one with --take, or all with --all FOLDER", strings.Join(others, " and in "))
	}
	return e
}

// damagedError is an end with exit code 3, after the report was printed.
type damagedError struct{ text, hint string }

// Error implements error.
func (e damagedError) Error() string { return e.text }

// Hint says what to do.
func (e damagedError) Hint() string { return e.hint }

// exitWith implements [coded].
func (damagedError) exitWith() int { return exitBadData }

// unsalvageableError is an end with exit code 4.
type unsalvageableError struct{ err error }

// Error implements error.
func (e unsalvageableError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e unsalvageableError) Unwrap() error { return e.err }

// Hint says what to do.
func (unsalvageableError) Hint() string {
	return "keep the originals; give --page-size if you know it, or --replica if there is a replica"
}

// exitWith implements [coded].
func (unsalvageableError) exitWith() int { return exitNothing }

// salvageFailure explains an error of salvage.
func salvageFailure(err error) error {
	switch {
	case errors.Is(err, salvage.ErrNothing):
		return unsalvageableError{err}
	case errors.Is(err, salvage.ErrInput):
		return usageError{err: err}
	case errors.Is(err, restore.ErrExists):
		return advisedError{err: err, hint: "give another name; salvage never replaces anything"}
	case errors.Is(err, os.ErrNotExist):
		return advisedError{err: err, hint: "check the path"}
	}
	return err
}
