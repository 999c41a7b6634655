package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
	"tidemark/replica/local"
	"tidemark/replica/verify"
)

const verifyLong = `Verify looks at a replica and says whether it can be restored, by a path of its
own: what it plans and applies by is not the code of tidemark restore. --level says
how far it goes; each level includes those before it:

  list     the listing and the ends of objects: gaps, missing snapshots, leftovers
  objects  every object's own checksums, from the first byte to the last
  chain    every object decoded, and all against one another: each commit leads to
           the next, each snapshot is of the state that the log has
  restore  the newest commit, and --points others drawn at random, rebuilt in a
           temporary folder: the state checksum after each commit on the way, and
           SQLite's integrity_check and foreign_key_check at the end (the default)

--sample reads a part of the objects, with --level objects: 5% draws a share, 3/30
takes the third of thirty parts, so that thirty nights read everything.

--against compares with the live database at one commit, in a read transaction that
blocks nobody: equal, or which pages and tables differ. It waits until the replicator
has shipped what was committed. Where none runs, and the database is not the newest
commit of the replica, it can't be told why, and verify ends with exit code 5.

--max-lag fails, with exit code 5, if something that is committed is not in the
replica for longer than that. How old the newest commit is does not matter: a
database at rest is not behind. So it needs the database: that of --against, or the
one whose local state is in --state-dir.

It downloads every object once (what --level list reads is small), and for each
restored commit once more what that needs. On disk it needs room for as many
databases as are restored at a time. It may run beside a replicator: an object that
has been packed or pruned meanwhile is no fault.

Exit codes: 0 all is well, or there are only warnings; 1 it could not look; 3 the
data is bad; 4 there is no replica; 5 behind, or not known to be up to date.`

const verifyExample = `  tidemark verify s3://backups/app
  tidemark verify s3://backups/app --level objects --sample 3/30
  tidemark verify s3://backups/app --points 5 --junit report.xml
  tidemark verify file:///mnt/backup/app --level list --against app.db --max-lag 1m`

// verifyFlags are the flags of verify.
type verifyFlags struct {
	level, sample    string
	points, parallel int
	seed             uint64
	against, tempDir string
	maxLag, timeout  time.Duration
	limited          bool // maxLag is given
	junit            string
	json             bool
}

func newVerify(p process) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:     "verify URL",
		Short:   "Prove that a replica can be restored",
		Long:    verifyLong,
		Example: verifyExample,
		Args:    exactArgs("the replica's URL"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args[0]) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.level, "level", "restore", "how far to go: `list|objects|chain|restore`")
	flags.StringVar(&f.sample, "sample", "", "with --level objects, read this `part` of the objects: 5%, or 3/30")
	flags.IntVar(&f.points, "points", 0, "restore this `number` of commits beside the newest, drawn at random")
	flags.Uint64Var(&f.seed, "seed", 0, "draw with this `number`, to repeat a run (default: another one each time, which is printed)")
	flags.StringVar(&f.against, "against", "", "compare with this live `database`")
	flags.DurationVar(&f.maxLag, "max-lag", 0, "exit with 5 if a commit is not in the replica for longer than this `duration`")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "wait this `long` for the replicator, with --against and --max-lag")
	flags.String(config.KeyStateDir, "", "look for the database's local state in this `folder`, as given to replicate")
	flags.IntVar(&f.parallel, "parallel", verify.DefaultParallel, "read, and restore, this `number` at a time")
	flags.StringVar(&f.tempDir, "temp-dir", "", "restore into this `folder` (default: the system's for temporary files)")
	flags.StringVar(&f.junit, "junit", "", "write a report for CI, as JUnit XML, to this `file`")
	flags.BoolVar(&f.json, "json", false, "print the report, and errors, as JSON")
	return cmd
}

func (f *verifyFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, url string) error {
	opts, err := f.options(flags)
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
	if err := f.live(flags, place, &opts); err != nil {
		return err
	}
	if err := checkJUnit(f.junit); err != nil {
		return err
	}
	con := newConsole(p.err)
	opts.Logger, opts.Progress = con.logger(how), con.progress("verifying")
	ctx, release := p.interruptible(ctx, opts.Logger, notices{first: "stopping", second: "stopped at once; a folder tidemark-verify-* may be left in the temporary folder"})
	defer release()
	report, err := openAndVerify(ctx, place, opts)
	con.endProgress()
	if errors.Is(err, context.Canceled) {
		err = interruptedError{err: err, text: "interrupted; nothing was changed", hint: "run it again"}
	}
	view := verification{place: place.String(), report: report, sample: opts.Sample, err: err}
	if jerr := view.writeJUnit(f.junit); jerr != nil {
		err = errors.Join(err, jerr)
	}
	switch {
	case report == nil:
	case f.json:
		err = errors.Join(err, writeJSON(p.out, view.json()))
	default:
		err = errors.Join(err, view.print(p.out))
	}
	if err == nil {
		return view.verdict()
	}
	return atPlace(place, err)
}

func openAndVerify(ctx context.Context, place location.Location, opts verify.Options) (*verify.Report, error) {
	bucket, err := place.Open(ctx, location.Options{})
	if err != nil {
		return nil, err
	}
	opts.Bucket = bucket
	r, err := verify.Run(ctx, opts)
	if r != nil && r.Replica == "" && len(r.Findings) == 0 && err != nil {
		return nil, err // there is nothing to tell
	}
	return r, err
}

// options checks the flags before anything is opened.
func (f *verifyFlags) options(flags *pflag.FlagSet) (verify.Options, error) {
	f.limited = flags.Changed("max-lag")
	opts := verify.Options{Points: f.points, Seed: f.seed, Parallel: f.parallel, TempDir: f.tempDir}
	if !flags.Changed("seed") {
		opts.Seed = uint64(rand.Uint32()) //nolint:gosec // to be typed again, no secret
	}
	levels := map[string]verify.Level{"list": verify.List, "objects": verify.Objects, "chain": verify.Chain, "restore": verify.Restore}
	var ok bool
	if opts.Level, ok = levels[f.level]; !ok {
		return opts, usagef("--level: %q is not one of list, objects, chain and restore", f.level)
	}
	if err := f.check(flags, opts.Level); err != nil || f.sample == "" {
		return opts, err
	}
	var err error
	if opts.Sample, err = verify.ParseSample(f.sample); err != nil {
		return opts, usagef("--sample: %w", err)
	}
	return opts, nil
}

// check checks what goes together.
func (f *verifyFlags) check(flags *pflag.FlagSet, level verify.Level) error {
	switch {
	case f.points < 0:
		return usagef("--points: %d is negative", f.points)
	case f.points > 0 && level != verify.Restore:
		return usagef("--points restores commits: it is for --level restore")
	case f.parallel < 1:
		return usagef("--parallel: %d is not a number from 1 on", f.parallel)
	case f.sample != "" && level != verify.Objects:
		return usagef("--sample is for --level objects: a lower level reads no objects, a higher one needs all of them")
	}
	return f.checkLive(flags.Changed(config.KeyStateDir))
}

// checkLive does so for what is about the live database.
func (f *verifyFlags) checkLive(stateDir bool) error {
	switch {
	case f.limited && f.maxLag < 0:
		return usagef("--max-lag: %s is negative", f.maxLag)
	case f.timeout < 0:
		return usagef("--timeout: %s is negative", f.timeout)
	case f.limited && f.against == "" && !stateDir:
		return usagef("--max-lag: how far a replica is behind shows only beside its database: give that with --against, or its local state with --%s", config.KeyStateDir)
	case stateDir && f.against == "" && !f.limited:
		return usagef("--%s is for --against and --max-lag", config.KeyStateDir)
	}
	return nil
}

// live finds the database to compare with, and its state directory.
func (f *verifyFlags) live(flags *pflag.FlagSet, place location.Location, opts *verify.Options) error {
	if f.against == "" && !f.limited {
		return nil
	}
	path, dir, err := f.database(flags, place)
	if err != nil {
		return err
	}
	if f.against != "" {
		opts.Against = &verify.Live{Path: path, StateDir: dir, Timeout: f.timeout}
	}
	if f.limited {
		opts.MaxLag = &verify.Limit{Path: path, StateDir: dir, MaxLag: f.maxLag, Timeout: f.timeout}
	}
	return nil
}

// database is the live database, and the state directory of its replicator.
func (f *verifyFlags) database(flags *pflag.FlagSet, place location.Location) (path, dir string, err error) {
	if f.against == "" {
		dir, _ = flags.GetString(config.KeyStateDir) // it is given, or check has complained
		path, err = databaseOf(dir)
		return path, dir, err
	}
	all, err := standings(flags, "", f.against)
	if err != nil {
		return "", "", err
	}
	dir = all[0].StateDir
	for _, s := range all { // of several replicas that at the URL
		if other, err := location.Parse(s.url); err == nil && other.Same(place) {
			dir = s.StateDir
		}
	}
	return f.against, dir, nil
}

// databaseOf is the database that the status in a state directory is about.
func databaseOf(dir string) (string, error) {
	raw, err := local.LoadStatus(dir)
	var st struct{ Path string }
	if err == nil {
		err = json.Unmarshal(raw, &st)
	}
	if err != nil || st.Path == "" {
		return "", advisedError{
			err:  fmt.Errorf("--%s: no replicator has left word in %s of which database it replicates", config.KeyStateDir, dir),
			hint: "give the database with --against",
		}
	}
	return st.Path, nil
}

// verdict makes an error of what was found, so that the exit code tells it.
func (v *verification) verdict() error {
	n, bad := v.report.Errors()
	switch {
	case bad:
		first := v.report.Findings[0]
		text := fmt.Sprintf("%s: %s", first.Key, first.Problem)
		if n > 1 {
			text = strconv.Itoa(n) + " errors were found, the first: " + text
		}
		return advisedError{
			err:  fmt.Errorf("%w: %s", archive.ErrBroken, text),
			hint: "keep the replica as it is; what each finding means, and what to do about it, is in the report",
		}
	case n > 0:
		return behindError{of: 1, which: []string{v.report.Lag.Why}, what: "replicas"}
	case v.report.Against != nil && !v.report.Against.Known:
		return behindError{of: 1, which: []string{"not compared with " + v.report.Against.Path + ": " + v.report.Against.Why}, what: "replicas"}
	}
	return nil
}
