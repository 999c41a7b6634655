package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
)

const replicateLong = `Replicate follows a database while applications use it and ships every commit
to a replica. It runs until SIGINT or SIGTERM, then ships what is left and ends;
a second signal ends it at once. With --once it ships everything up to now and
ends, for cron and CI.

Several databases are listed in a configuration file, and so are all databases of
a folder, which is watched for new ones, and several replicas of one database;
etc/tidemark.yml is a sample. One that fails is logged and does not stop the
others. One of a folder is tried again.

A setting comes from its flag, else from the environment, else from the
configuration file. The variables are TIDEMARK_SYNC_INTERVAL,
TIDEMARK_SNAPSHOT_INTERVAL, TIDEMARK_CHECKPOINT_PAGES, TIDEMARK_STATE_DIR,
TIDEMARK_SPOOL_LIMIT, TIDEMARK_KEEP_JOURNAL_MODE, TIDEMARK_ALLOW_NETWORK_FS,
TIDEMARK_UNFENCED, TIDEMARK_RETENTION_ENABLED, TIDEMARK_RETENTION_HISTORY,
TIDEMARK_RETENTION_SNAPSHOTS_HOURLY, _DAILY and _WEEKLY, TIDEMARK_METRICS_ADDR,
TIDEMARK_MAX_UPLOADS, TIDEMARK_MAX_REQUEST_RATE, TIDEMARK_SNAPSHOT_RATE,
TIDEMARK_EXEC, TIDEMARK_CHECK, TIDEMARK_RESTORE_IF_MISSING, TIDEMARK_LOG_LEVEL and
TIDEMARK_LOG_FORMAT, and TIDEMARK_S3_ACCESS_KEY_ID and
TIDEMARK_S3_SECRET_ACCESS_KEY for S3; any other that begins so is an error.

What is older than retention keeps is deleted from the replica, unless
--retention-enabled=false; tidemark prune --help says what is kept.

--exec runs a command, as the application to whose life the replication belongs: it
is started when every database is followed and has its first copy in storage, has
tidemark's own input and output, and gets each SIGINT, SIGTERM and SIGHUP that tidemark
gets. When it has ended, all that it committed is shipped, and tidemark ends with its
exit code (128 and the signal's number if a signal has ended it), or, if that is 0, with
that of a replication that failed. The command line is split at blanks as a shell does
it, with quotes; nothing in it is expanded. If a replication fails meanwhile the command
is left alone; so it is if tidemark is killed. On Windows a Ctrl-C goes to both by
itself, and no other signal can be passed on.

--check looks first whether the databases and replicas can be relied on, as tidemark
check --quick does, and starts nothing if an item fails (exit code 3).
--restore-if-missing restores a listed database that is not there, as of the newest
commit, if there is a replica of it. If there is none, the command of --exec may make
the database: it is followed from then on.

tidemark writes nothing into the database. One in rollback-journal mode is
switched to WAL mode once, unless --keep-journal-mode forbids it. One on a
network file system is refused: SQLite's locks and shared memory don't work
across machines.`

const replicateExample = `  tidemark replicate app.db file:///mnt/backup/app
  tidemark replicate app.db "s3://backups/app?endpoint=http://127.0.0.1:9000"
  tidemark replicate --once --json app.db s3://backups/app
  tidemark replicate --config /etc/tidemark.yml
  tidemark replicate --exec 'python engine.py' --check --restore-if-missing app.db s3://backups/app`

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
	flags.String(config.KeyMetricsAddr, "", "serve metrics on this `address`, host:port (default: not)")
	flags.String(config.KeyMaxUploads, strconv.Itoa(config.DefaultMaxUploads), "let at most this many `uploads` be under way at once, of all databases")
	flags.String(config.KeyMaxRequestRate, "0", "send at most this many `requests` a second to storage, for all databases; 0: any number")
	flags.String(config.KeySnapshotRate, "0", "read at most this `size` of the databases a second for snapshots and comparisons (50MB, 20MiB); 0: no limit")
	flags.String(config.KeyExec, "", "run this `command` while the databases are followed, ship all, and end with its exit code")
	flags.Bool(config.KeyCheck, false, "check the databases and replicas first, and start nothing if an item fails")
	flags.Bool(config.KeyRestoreIfMissing, false, "restore a database that is missing first, if there is a replica of it")
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
	con := newConsole(p.err)
	r := &roster{once: f.once, takeover: f.takeover, con: con, logger: con.logger(settings.Logging), process: settings.Process}
	if err := r.list(settings); err != nil {
		return err
	}
	if flags.Changed(config.KeyExec) && len(r.process.Exec) == 0 {
		return usagef("--%s is empty; it takes the command to run", config.KeyExec)
	}
	if r.session, err = f.session(p, r); err != nil {
		return err
	}
	err = f.replicate(ctx, p, r)
	con.endProgress()
	if err != nil && !errors.Is(err, errNotStarted) {
		return err
	}
	if r.alone() && r.jobs[0].err != nil {
		return r.jobs[0].err
	}
	if failedOf(r.jobs) == nil && err != nil {
		return err
	}
	return errors.Join(f.print(p.out, r.jobs), failedOf(r.jobs))
}

// session is the command that is to be run, or nil.
func (f *replicateFlags) session(p process, r *roster) (*session, error) {
	switch {
	case len(r.process.Exec) == 0:
		return nil, nil //nolint:nilnil // documented
	case f.once:
		return nil, usagef("--once and --exec can't be used together: a command is run while its databases are followed")
	default:
		return newSession(p, r.process.Exec, r.logger)
	}
}

// replicate does what comes first, and replicates until it is told to stop, or until the
// command that is run meanwhile has ended.
func (f *replicateFlags) replicate(ctx context.Context, p process, r *roster) error {
	if err := r.prepare(ctx, p); err != nil {
		return err
	}
	if r.session != nil {
		return r.session.run(ctx, r)
	}
	ctx, release := p.interruptible(ctx, r.logger, notices{
		first:  "stopping: shipping what is left; press Ctrl-C again to stop at once",
		second: "stopped at once; what was not uploaded waits in the state directory",
	})
	defer release()
	return r.run(ctx)
}

// someFailedError is the end of a run in which replications failed that were logged
// already.
type someFailedError struct {
	failed, of int
	what       string
}

// Error implements error.
func (e someFailedError) Error() string {
	return fmt.Sprintf("%d of %d %s failed", e.failed, e.of, e.what)
}

// Hint points to the log.
func (e someFailedError) Hint() string { return "the log above says why" }

func failedOf(jobs []*job) error {
	e := someFailedError{of: len(jobs), what: "databases"}
	for _, j := range jobs {
		if j.err != nil {
			e.failed++
		}
		if j.db.Replica != "" {
			e.what = "replications"
		}
	}
	if e.failed == 0 {
		return nil
	}
	return e
}
