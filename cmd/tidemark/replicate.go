package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

const replicateLong = `Replicate follows a database while applications use it and ships every commit
to a replica. It runs until SIGINT or SIGTERM, then ships what is left and ends;
a second signal ends it at once. With --once it ships everything up to now and
ends, for cron and CI.

Several databases are listed in a configuration file; etc/tidemark.yml is a
sample. One that fails is logged and does not stop the others.

A setting comes from its flag, else from the environment, else from the
configuration file. The variables are TIDEMARK_SYNC_INTERVAL,
TIDEMARK_SNAPSHOT_INTERVAL, TIDEMARK_CHECKPOINT_PAGES, TIDEMARK_STATE_DIR,
TIDEMARK_SPOOL_LIMIT, TIDEMARK_KEEP_JOURNAL_MODE, TIDEMARK_ALLOW_NETWORK_FS,
TIDEMARK_UNFENCED, TIDEMARK_RETENTION_ENABLED, TIDEMARK_RETENTION_HISTORY,
TIDEMARK_RETENTION_SNAPSHOTS_HOURLY, _DAILY and _WEEKLY, TIDEMARK_LOG_LEVEL and
TIDEMARK_LOG_FORMAT, and TIDEMARK_S3_ACCESS_KEY_ID and
TIDEMARK_S3_SECRET_ACCESS_KEY for S3; any other that begins so is an error.

What is older than retention keeps is deleted from the replica, unless
--retention-enabled=false; tidemark prune --help says what is kept.

tidemark writes nothing into the database. One in rollback-journal mode is
switched to WAL mode once, unless --keep-journal-mode forbids it. One on a
network file system is refused: SQLite's locks and shared memory don't work
across machines.`

const replicateExample = `  tidemark replicate app.db file:///mnt/backup/app
  tidemark replicate app.db "s3://backups/app?endpoint=http://127.0.0.1:9000"
  tidemark replicate --once --json app.db s3://backups/app
  tidemark replicate --config /etc/tidemark.yml`

// replicateFlags are the flags of replicate that package config does not read.
type replicateFlags struct {
	config               string
	once, takeover, json bool
}

func newReplicate(p process) *cobra.Command {
	var f replicateFlags
	cmd := &cobra.Command{
		Use:     "replicate [DB URL]",
		Short:   "Ship every commit of a live database",
		Long:    replicateLong,
		Example: replicateExample,
		Args:    func(_ *cobra.Command, args []string) error { return atMost(2, args) },
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.config, "config", "", "read settings and databases from this YAML `file`")
	flags.BoolVar(&f.once, "once", false, "ship everything up to now, then end")
	flags.String(config.KeySyncInterval, config.DefaultSyncInterval.String(), "ship at this `interval`; 0 ships each commit at once")
	flags.String(config.KeySnapshotInterval, config.DefaultSnapshotInterval.String(), "write a snapshot at this `interval` while there are commits; 0: only the first")
	flags.String(config.KeyCheckpointPages, strconv.Itoa(config.DefaultCheckpointPages), "let the WAL grow to this many `pages` before a checkpoint")
	flags.String(config.KeyStateDir, "", "keep local state in this `folder` (default: .NAME-tidemark next to the database)")
	flags.String(config.KeySpoolLimit, config.DefaultSpoolLimit, "let at most this `size` wait on disk while storage is away (500MB, 1GiB, or bytes)")
	flags.Bool(config.KeyKeepJournalMode, false, "refuse a database that is not in WAL mode rather than switch it")
	flags.Bool(config.KeyAllowNetworkFS, false, "follow a database on a network file system, if only this machine ever opens it")
	flags.Bool(config.KeyUnfenced, false, "go on although the storage ignores conditional writes")
	flags.Bool(config.KeyRetentionEnabled, true, "delete from the replica what the next four do not keep")
	config.RetentionFlags(flags)
	flags.BoolVar(&f.takeover, "takeover", false, "continue a replica that is not known to be this database's")
	flags.BoolVar(&f.json, "json", false, "print what was shipped, and errors, as JSON")
	return cmd
}

func (f *replicateFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	if len(args) == 2 && strings.Contains(args[0], "://") && !strings.Contains(args[1], "://") {
		return usagef("the database comes first, then the URL: tidemark replicate %s URL", args[1])
	}
	settings, err := config.Load(flags, f.config, args)
	if err != nil {
		return err
	}
	jobs, err := newJobs(settings.Databases)
	if err != nil {
		return err
	}
	con := newConsole(p.err)
	logger := con.logger(settings.Logging)
	ctx, release := p.interruptible(ctx, logger, notices{
		first:  "stopping: shipping what is left; press Ctrl-C again to stop at once",
		second: "stopped at once; what was not uploaded waits in the state directory",
	})
	defer release()
	f.runAll(ctx, jobs, con, logger)
	con.endProgress()
	if len(jobs) == 1 && jobs[0].err != nil {
		return jobs[0].err
	}
	if err := f.print(p.out, jobs); err != nil {
		return err
	}
	return failedOf(jobs)
}

// job is one database's replication.
type job struct {
	db    config.Database
	place location.Location
	// shared is what all jobs share.
	shared *replica.Process
	// snapshot is which one is asked for.
	snapshot replica.SnapshotKind

	// ready is set when it follows the database, by its own goroutine.
	ready bool
	// What came of it, set when it has ended.
	report   replica.Report
	requests storage.Requests
	err      error
}

// newJobs checks every URL before anything starts.
func newJobs(dbs []config.Database) ([]*job, error) {
	jobs := make([]*job, 0, len(dbs))
	for _, db := range dbs {
		place, err := location.Parse(db.URL)
		if err != nil && db.Origin != "" {
			err = fmt.Errorf("%s: url: %w", db.Origin, err)
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, &job{db: db, place: place})
	}
	return jobs, nil
}

// runAll runs the jobs side by side and returns when all have ended. Of
// several, one that fails is logged here, when it fails; the error of a single
// one is the command's.
func (f *replicateFlags) runAll(ctx context.Context, jobs []*job, con *console, logger *slog.Logger) {
	shared := replica.NewProcess()
	defer func() {
		if err := shared.Close(); err != nil {
			logger.Warn("what the databases shared is still open", slog.Any("err", err))
		}
	}()
	var wg sync.WaitGroup
	for _, j := range jobs {
		j.shared = shared
		var progress func(done, total int64)
		if len(jobs) == 1 {
			progress = con.progress("first copy")
		}
		wg.Go(func() {
			j.err = j.explain(ctx, f.runJob(ctx, j, logger, progress))
			if j.err != nil && len(jobs) > 1 {
				d := describe(j.err, "tidemark replicate")
				logger.Error("replication failed", slog.String("db", j.db.Path), slog.String("error", d.Message), slog.String("hint", d.Hint))
			}
		})
	}
	wg.Wait()
}

func (f *replicateFlags) runJob(ctx context.Context, j *job, logger *slog.Logger, progress func(done, total int64)) error {
	bucket, err := j.place.Open(ctx, location.Options{Create: true})
	if err != nil {
		return err
	}
	counter := storage.Count(bucket)
	opts := j.options()
	opts.Bucket, opts.Takeover, opts.Logger = counter, f.takeover, logger
	logger = logger.With(slog.String("db", j.db.Path), slog.String("replica", j.place.String()))
	var copied atomic.Int64
	opts.Progress = func(done, total int64) {
		copied.Store(total)
		if progress != nil {
			progress(done, total)
		}
	}
	opts.Ready = func() {
		j.ready = true
		if n := copied.Load(); n > 0 {
			logger.Info("the first copy is complete", slog.Int64("bytes", n))
		}
		if !f.once {
			logger.Info("following")
		}
	}
	follow := replica.Run
	if f.once {
		follow = replica.Once
	}
	j.report, err = follow(ctx, opts)
	j.requests = counter.Requests()
	if err == nil && !f.once {
		logger.Info("stopped", slog.Uint64("txid", uint64(j.report.TXID)), slog.Uint64("commits", j.report.Commits),
			slog.Int64("bytes", j.report.UploadedBytes))
	}
	return err
}

// options are the engine's options as far as the database's settings go.
func (j *job) options() replica.Options {
	return replica.Options{
		Path: j.db.Path, Name: j.place.String(),
		StateDir: j.db.StateDir, SyncInterval: j.db.SyncInterval, SnapshotInterval: j.db.SnapshotInterval, CheckpointPages: j.db.CheckpointPages,
		SpoolLimit: j.db.SpoolLimit, KeepJournalMode: j.db.KeepJournalMode,
		Retain: j.db.Retention.Enabled, Retention: j.db.Retention.Policy,
		Process: j.shared, Snapshot: j.snapshot, AllowNetworkFS: j.db.AllowNetworkFS, Unfenced: j.db.Unfenced,
	}
}

// explain says what the end of a job means where the error alone does not.
func (j *job) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replica.ErrUnfinished):
		return interruptedError{err: err, text: replica.ErrUnfinished.Error(), hint: "run it again"}
	case ctx.Err() != nil && errors.Is(err, context.Canceled) && j.ready:
		return interruptedError{err: err, text: err.Error(), hint: "they are shipped first when tidemark runs again"}
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return interruptedError{err: err, text: "interrupted before it followed " + j.db.Path, hint: "run it again"}
	default:
		return placedError{place: j.place, db: &j.db, err: err}
	}
}

// someFailedError is the end of a run in which databases failed that were logged
// already.
type someFailedError struct{ failed, of int }

// Error implements error.
func (e someFailedError) Error() string {
	return fmt.Sprintf("%d of %d databases failed", e.failed, e.of)
}

// Hint points to the log.
func (e someFailedError) Hint() string { return "the log above says why" }

func failedOf(jobs []*job) error {
	failed := 0
	for _, j := range jobs {
		if j.err != nil {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return someFailedError{failed, len(jobs)}
}

// replicated is one database's result as JSON.
type replicated struct {
	Path          string           `json:"path"`
	Replica       string           `json:"replica"`
	TXID          state.TXID       `json:"txid"`
	Commits       uint64           `json:"commits"`
	UploadedBytes int64            `json:"uploaded_bytes"`
	Requests      storage.Requests `json:"requests"`
	Error         string           `json:"error,omitempty"`
}

// print prints what a run did, if it was asked to do it once or as JSON; a
// long run has told it in its log.
func (f *replicateFlags) print(w io.Writer, jobs []*job) error {
	if f.json {
		out := make([]replicated, 0, len(jobs))
		for _, j := range jobs {
			r := replicated{
				Path: j.db.Path, Replica: j.place.String(), TXID: j.report.TXID,
				Commits: j.report.Commits, UploadedBytes: j.report.UploadedBytes, Requests: j.requests,
			}
			if j.err != nil {
				r.Error = j.err.Error()
			}
			out = append(out, r)
		}
		return writeJSON(w, map[string][]replicated{"databases": out})
	}
	if !f.once {
		return nil
	}
	for _, j := range jobs {
		if j.err != nil {
			continue
		}
		r, q := j.report, j.requests
		_, err := fmt.Fprintf(w, "%s: at TXID %s in %s; shipped commits: %d (%s, requests: %d)\n",
			j.db.Path, r.TXID, j.place, r.Commits, formatSize(r.UploadedBytes), q.List+q.Get+q.Put+q.Delete)
		if err != nil {
			return err
		}
	}
	return nil
}
