package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
)

const restoreLong = `Restore writes the database as it stood after one commit: the last one, the
one with a TXID (--txid), the one that was current at a time (--timestamp), or the
one that tidemark mark gave a name (--mark). tidemark log lists them. A time is RFC
3339 with a zone, or how long ago: weeks, days, hours, minutes and seconds, as in
1w, 1d12h or 90s.

Of what is older than the time for which every commit is kept there are single
snapshots. A commit or a time between them can't be restored: the error names the
nearest points before and after it, and tidemark log --ranges lists all. A time is
taken for that of a snapshot only if it is exactly that, since what came after it
until the next one is not known.

The output appears under its name when it is whole and proven to be exactly
what was committed (its state checksum is the one that was recorded), and not
before. A file that is there is left alone and makes restore fail, unless
--force moves it aside or --if-not-exists takes it for the result. A snapshot in
the replica that is damaged is done without, and named, where an older one and more
of the log lead to the same commit.

--integrity also has SQLite check the result: quick (PRAGMA quick_check, the
default) finds damage that was committed with the data; full (PRAGMA
integrity_check) compares the indexes too and takes longer; none trusts the
state checksum alone.`

const restoreExample = `  tidemark restore file:///mnt/backup/app -o app.db
  tidemark restore s3://backups/app -o app.db --timestamp 2026-01-31T12:00:00Z
  tidemark restore s3://backups/app -o app.db --timestamp 90s --force
  tidemark restore s3://backups/app -o app.db --mark before-migration
  tidemark restore file://replica -o app.db --txid 48 --json`

// restoreFlags are the flags of restore.
type restoreFlags struct {
	output, timestamp, mark    string
	integrity                  string
	txid                       uint64
	ifNotExists, force, dryRun bool
	json                       bool
}

func newRestore(p process) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:     "restore URL -o OUT",
		Short:   "Write a database as it stood after any commit",
		Long:    restoreLong,
		Example: restoreExample,
		Args:    exactArgs("the replica's URL"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args[0]) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.output, "output", "o", "", "the `file` to write (required)")
	flags.StringVar(&f.timestamp, "timestamp", "", "the commit that was current at this `time`: "+momentHelp)
	flags.Uint64Var(&f.txid, "txid", 0, "restore the commit with this `number` (the newest, if it lies after that)")
	flags.StringVar(&f.mark, "mark", "", "the commit that tidemark mark gave this `name`")
	flags.BoolVar(&f.ifNotExists, "if-not-exists", false, "do nothing, successfully, if the output exists")
	flags.BoolVar(&f.force, "force", false, "move an existing output aside first")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be restored from what, and write nothing")
	flags.StringVar(&f.integrity, "integrity", string(restore.Quick), "have SQLite check the result: `none|quick|full`")
	flags.BoolVar(&f.json, "json", false, "print the result, and errors, as JSON")
	return cmd
}

func (f *restoreFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, url string) error {
	opts, err := f.options(flags, time.Now())
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
	con := newConsole(p.err)
	opts.Logger = con.logger(how)
	opts.Progress = con.progress("restoring")
	ctx, release := p.interruptible(ctx, opts.Logger, notices{
		first:  "stopping: nothing is written",
		second: "stopped at once; an unfinished file may lie beside the output",
	})
	defer release()
	res, err := openAndRestore(ctx, place, opts)
	con.endProgress()
	if errors.Is(err, context.Canceled) {
		return interruptedError{err: err, text: "interrupted; nothing was written", hint: "run it again"}
	}
	if info, statErr := os.Stat(f.output); statErr == nil && info.IsDir() && errors.Is(err, restore.ErrExists) {
		return advisedError{err: err, hint: "for example -o " + filepath.Join(f.output, "app.db")}
	}
	if err != nil {
		return atPlace(place, err)
	}
	if f.json {
		return writeJSON(p.out, f.report(res))
	}
	return f.print(p.out, res)
}

func openAndRestore(ctx context.Context, place location.Location, opts restore.Options) (restore.Result, error) {
	bucket, err := place.Open(ctx, location.Options{})
	if err != nil {
		return restore.Result{}, err
	}
	opts.Bucket = bucket
	return restore.Run(ctx, opts)
}

// options checks the flags before anything is opened.
func (f *restoreFlags) options(flags *pflag.FlagSet, now time.Time) (restore.Options, error) {
	opts := restore.Options{
		Output: f.output, Force: f.force, IfNotExists: f.ifNotExists, DryRun: f.dryRun,
		Integrity: restore.Integrity(f.integrity), WithoutDamaged: true,
	}
	switch {
	case f.output == "":
		return opts, usagef("the output is missing: give it with -o FILE")
	case f.output == "-":
		return opts, usagef("-o -: a database can't be written to standard output, since it is proven in a file first; give a file's name (./- for one named so)")
	case f.force && f.ifNotExists:
		return opts, usagef("--force and --if-not-exists can't be used together")
	}
	switch opts.Integrity {
	case restore.None, restore.Quick, restore.Full:
	default:
		return opts, usagef("--integrity: %q is not one of none, quick and full", f.integrity)
	}
	var err error
	opts.Target, err = f.target(flags, now)
	return opts, err
}

// target is the commit that the flags name.
func (f *restoreFlags) target(flags *pflag.FlagSet, now time.Time) (t restore.Target, err error) {
	byTime, byTXID, byMark := flags.Changed("timestamp"), flags.Changed("txid"), flags.Changed("mark")
	switch {
	case byTime && byTXID, byTime && byMark, byTXID && byMark:
		return t, usagef("--timestamp, --txid and --mark can't be used together: each names one commit")
	case byTXID && f.txid == 0:
		return t, usagef("--txid: commits are numbered from 1 on")
	case byMark:
		if err := archive.CheckMarkName(f.mark); err != nil {
			return t, usagef("--mark: %w", err)
		}
	case byTime:
		if t.Time, err = parseMoment(f.timestamp, now); err != nil {
			return t, usagef("--timestamp: %w", err)
		}
	}
	t.TXID, t.Mark = state.TXID(f.txid), f.mark
	return t, nil
}

// restored is the result as JSON.
type restored struct {
	Output        string       `json:"output"`
	TXID          state.TXID   `json:"txid"`
	Time          string       `json:"time"`
	Pages         uint32       `json:"pages,omitempty"` // this and the next three: not of a dry run
	Bytes         int64        `json:"bytes,omitempty"`
	StateChecksum string       `json:"state_checksum,omitempty"`
	Integrity     string       `json:"integrity,omitempty"`
	AfterLast     bool         `json:"after_last,omitempty"`
	MovedAside    string       `json:"moved_aside,omitempty"`
	Damaged       []string     `json:"damaged,omitempty"` // snapshots that were done without
	DryRun        bool         `json:"dry_run,omitempty"`
	Plan          *restorePlan `json:"plan,omitempty"`
}

// skipped is the result as JSON where the output was there already.
type skipped struct {
	Output  string `json:"output"`
	Skipped bool   `json:"skipped"`
}

// restorePlan is what a dry run would read. Snapshots counts the snapshot and
// those that it adds to.
type restorePlan struct {
	Snapshot  string `json:"snapshot"`
	Snapshots int    `json:"snapshots"`
	Packs     int    `json:"packs"`
	Segments  int    `json:"segments"`
	Objects   int    `json:"objects"`
	Download  int64  `json:"download_bytes"`
}

// describePlan tells a person what a plan reads.
func describePlan(p restore.Plan) string {
	parts := []string{"the snapshot " + p.Snapshot}
	if n := p.Snapshots - 1; n > 0 {
		parts = append(parts, fmt.Sprintf("%d that it adds to", n))
	}
	if p.Packs > 0 {
		parts = append(parts, count(p.Packs, "pack"))
	}
	last := count(p.Segments, "segment")
	return fmt.Sprintf("%s and %s: %s, %s to download", strings.Join(parts, ", "), last, count(p.Objects, "object"), formatSize(p.Download))
}

func (f *restoreFlags) report(res restore.Result) any {
	if res.Skipped {
		return skipped{Output: res.Output, Skipped: true}
	}
	out := restored{
		Output: res.Output, TXID: res.TXID, Time: formatTime(res.Time),
		AfterLast: res.AfterLast, MovedAside: res.MovedAside, Damaged: res.Damaged, DryRun: f.dryRun,
	}
	if f.dryRun {
		out.Plan = &restorePlan{
			res.Plan.Snapshot, res.Plan.Snapshots, res.Plan.Packs, res.Plan.Segments, res.Plan.Objects, res.Plan.Download,
		}
		return out
	}
	out.Pages, out.Bytes, out.StateChecksum = res.Pages, res.Bytes, res.Checksum.String()
	out.Integrity = cmp.Or(res.Integrity, string(restore.None))
	return out
}

func (f *restoreFlags) print(w io.Writer, res restore.Result) error {
	if res.Skipped {
		_, err := fmt.Fprintf(w, "%s exists already; nothing was restored\n", res.Output)
		return err
	}
	text := ""
	switch {
	case res.AfterLast && f.dryRun:
		text = "that point lies after the last commit\n"
	case res.AfterLast:
		text = "that point lies after the last commit, which is the one restored\n"
	}
	commit := fmt.Sprintf("TXID %s of %s", res.TXID, formatTime(res.Time))
	if f.dryRun {
		text += fmt.Sprintf("would restore %s to %s\nfrom %s; nothing was written\n", commit, res.Output, describePlan(res.Plan))
	} else {
		text += fmt.Sprintf("restored %s to %s\n%s, %s, state checksum %s", commit, res.Output, count(res.Pages, "page"), formatSize(res.Bytes), res.Checksum)
		if res.Integrity != "" {
			text += ", integrity " + res.Integrity
		}
		text += "\n"
	}
	if len(res.Damaged) > 0 {
		text += "damaged, and done without: " + strings.Join(res.Damaged, ", ") + "\n"
	}
	if res.MovedAside != "" {
		text += "the file that was there is now " + res.MovedAside + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// count gives a number of things, in the plural where it must be.
func count[N int | uint32](n N, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
