// Command bench measures tidemark beside other ways to do the same: the same work by
// each side in turn, A B A B, in one run, and prints medians and ratios. Times of one
// machine at one moment say little; ratios of one run do.
//
//	go run ./integration/bench
//	go run ./integration/bench --profile full --litestream ~/bin/litestream
//	go run ./integration/bench --only '^replicate' --rounds 5 --json
//	go run ./integration/bench --readme README.md
//
// It needs Go, to build tidemark and, once, MinIO. Litestream takes part if there is
// a binary. What needs neither is measured without them; what could not be measured
// is "-". All that it starts ends with it, and its folder is removed.
//
// What the figures are and where they come from:
//   - An application is a process of its own, this binary: modernc.org/sqlite, WAL,
//     synchronous=NORMAL, SQLite's own automatic checkpoints, busy_timeout 5 s. It
//     times each transaction, from its beginning until COMMIT returns.
//   - CPU is the user's and the system's time of the replicator's process, from its
//     first copy on, as the system counts it; peak RSS is its VmHWM or ru_maxrss.
//   - Requests and bytes to MinIO are MinIO's own count (its metrics), the same for all
//     replicators, from the first copy on. Those to a folder are what tidemark counts.
//   - Restorable points are what tidemark log lists, or the LTX files in the bucket.
//   - Lag is read back: from when COMMIT returned to when the storage says that the
//     object was put which holds the commit. For Litestream that is the first LTX file
//     of level 0 whose header has a later time. "By status" is tidemark's own gauge of
//     its lag, asked for ten times a second.
//
// A ratio is the median of the ratios of each round, so a machine that grows slower
// slows both sides.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the driver "sqlite" of database/sql

	"tidemark/integration/minio"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := newCommand(os.Args[1:]).ExecuteContext(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench: "+err.Error()) // nobody else to tell
		os.Exit(1)
	}
}

// works are all there are, in the order of the table.
func works() []work {
	return slices.Concat(replicateWorks(), copyWorks(), latencyWorks(), idleWorks())
}

// options are what the command line says.
type options struct {
	profile    string
	tidemark   string
	litestream string
	only       string
	rounds     int
	dir        string
	json       bool
	markdown   bool
	list       bool
	readme     string
	// args is the command line itself, for the table.
	args []string
}

// newCommand builds the command for one command line.
func newCommand(args []string) *cobra.Command {
	o := options{args: args}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure tidemark beside the same work done otherwise, in one run",
		Example: "  go run ./integration/bench\n" +
			"  go run ./integration/bench --profile full --litestream ~/bin/litestream\n" +
			"  go run ./integration/bench --only '^replicate' --rounds 5 --json\n" +
			"  go run ./integration/bench --readme README.md",
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.profile, "profile", string(short), "how much to do: `short|full`; short takes less than five minutes on two cores")
	flags.StringVar(&o.tidemark, "tidemark", "", "measure this tidemark `program` (default: built from the checkout)")
	flags.StringVar(&o.litestream, "litestream", "", "measure this Litestream `program` too (default: that in PATH, if there is one)")
	flags.StringVar(&o.only, "only", "", "do only the works whose names match this `regexp`")
	flags.IntVar(&o.rounds, "rounds", 0, "do each work this `number` of times (default: as the profile has it)")
	flags.StringVar(&o.dir, "dir", "", "make the temporary folder, with all data, in this `folder` (default: the system's)")
	flags.BoolVar(&o.json, "json", false, "print JSON, with every round")
	flags.BoolVar(&o.markdown, "markdown", false, "print Markdown")
	flags.BoolVar(&o.list, "list", false, "list the works, and do none")
	flags.StringVar(&o.readme, "readme", "", "also write the Markdown into this `file`, between "+readmeBegin+" and "+readmeEnd)
	cmd.MarkFlagsMutuallyExclusive("json", "markdown", "list")
	cmd.AddCommand(newApplication())
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetArgs(args)
	return cmd
}

// run does what the command line says.
func (o options) run(ctx context.Context, out, diagnostics io.Writer) (err error) {
	p, chosen, err := o.choose()
	if err != nil {
		return err
	}
	if o.list {
		return printList(out, chosen, p)
	}
	if o.readme != "" { // else hours are lost on a file that can't be written
		if err := checkReadme(o.readme); err != nil {
			return err
		}
	}
	b := &bench{profile: p, log: slog.New(slog.NewTextHandler(diagnostics, nil))}
	if err := o.find(b); err != nil {
		return err
	}
	if b.dir, err = makeDir(o.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	r, failed, err := o.measure(ctx, b, chosen)
	if err != nil {
		return err
	}
	if err := o.print(out, r); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d sides failed; the table has the reasons", failed)
	}
	if o.readme != "" {
		return writeReadme(o.readme, r.markdown())
	}
	return nil
}

// find finds the programs that the command line names.
func (o options) find(b *bench) (err error) {
	if b.litestream, err = findLitestream(o.litestream); err != nil || o.tidemark == "" {
		return err
	}
	b.tidemark, err = findProgram("--tidemark", o.tidemark)
	return err
}

// measure starts what works need, does them, and ends all of it.
func (o options) measure(ctx context.Context, b *bench, chosen []work) (r report, failed int, err error) {
	if err := b.set(ctx); err != nil {
		return r, 0, err
	}
	defer func() {
		if b.minio != nil {
			err = errors.Join(err, b.minio.Close())
		}
	}()
	if r, failed, err = b.measure(ctx, chosen, o.rounds); err != nil {
		return r, failed, err
	}
	r.Head, err = b.head(ctx, o.args)
	return r, failed, err
}

// makeDir makes the folder of a run.
func makeDir(in string) (string, error) {
	if in == "" {
		in = os.TempDir()
	}
	abs, err := filepath.Abs(in) // MinIO has a working folder of its own
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(abs, "tidemark-bench-")
}

// choose gives the profile and its works.
func (o options) choose() (p profile, chosen []work, err error) {
	p = profile(o.profile)
	if !slices.Contains([]profile{smoke, short, full}, p) {
		return p, nil, fmt.Errorf("--profile is short or full, not %q", o.profile)
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return p, nil, fmt.Errorf("--only: %w", err)
	}
	if o.rounds < 0 {
		return p, nil, fmt.Errorf("--rounds is %d, which must not be negative", o.rounds)
	}
	for _, w := range works() {
		if w.in(p) && only.MatchString(w.Name) {
			chosen = append(chosen, w)
		}
	}
	if len(chosen) == 0 {
		return p, nil, fmt.Errorf("--only %q matches no work of the %s profile; --list lists them", o.only, p)
	}
	return p, chosen, nil
}

// print prints the results as they were asked for.
func (o options) print(w io.Writer, r report) error {
	switch {
	case o.json:
		return r.writeJSON(w)
	case o.markdown:
		_, err := io.WriteString(w, r.markdown())
		return err
	default:
		return r.writeText(w)
	}
}

// findLitestream gives the path of the program, or "" if there is none and none was
// asked for.
func findLitestream(path string) (string, error) {
	if path != "" {
		return findProgram("--litestream", path)
	}
	if _, err := exec.LookPath("litestream"); err != nil {
		return "", nil //nolint:nilerr // then it takes no part
	}
	return findProgram("--litestream", "litestream")
}

// findProgram gives the path of a program that a flag names.
func findProgram(flag, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return filepath.Abs(path)
}

// set builds and starts what all works need.
func (b *bench) set(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.tidemark == "" {
		if err := b.build(ctx); err != nil {
			return err
		}
	}
	if os.Getenv(minio.Variable) == "skip" {
		b.log.Warn("measuring without MinIO", slog.String("since", minio.Variable+" is skip"))
		return nil
	}
	b.log.Info("starting MinIO")
	dir := filepath.Join(b.dir, "minio")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if b.minio, err = minio.StartIn(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.log.Warn("measuring without MinIO", slog.Any("since", err))
		b.minio = nil
	}
	return nil
}
