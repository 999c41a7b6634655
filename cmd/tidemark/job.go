package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/storage"
)

// job is the replication of one database to one replica. It runs once, or again and
// again; what came of it is read between two runs.
type job struct {
	db    config.Database
	place location.Location
	// shared is what all jobs share, replicas how many jobs the database has.
	shared   *replica.Process
	replicas int
	// snapshot is which one is asked for.
	snapshot replica.SnapshotKind
	// session is the command that is run meanwhile, nil: none.
	session *session
	// bucket is nil before the first run.
	bucket *storage.Counter

	// ready is set when it follows the database, by its own goroutine.
	ready bool
	// report is what all its runs have shipped, err what the last one ended with.
	report replica.Report
	err    error
}

// newJob checks the URL before anything starts.
func newJob(db config.Database) (*job, error) {
	place, err := location.Parse(db.URL)
	if err != nil && db.Origin != "" {
		err = fmt.Errorf("%s: url: %w", db.Origin, err)
	}
	if err != nil {
		return nil, err
	}
	return &job{db: db, place: place}, nil
}

// jobOptions are what is the same for all jobs of a run.
type jobOptions struct {
	once, takeover bool
	logger         *slog.Logger
	// limits are those of all of them together.
	limits *storage.Limits
	// clients are shared by all replicas.
	clients *location.Clients
	// progress is told how much of a first copy is read; nil: nobody is told.
	progress func(done, total int64)
}

// run replicates until ctx ends, or once. Its error is kept, explained.
func (j *job) run(ctx context.Context, how jobOptions) error {
	j.err, j.ready = nil, false
	report, err := j.replicate(ctx, how)
	if report.TXID != 0 {
		j.report.TXID = report.TXID
	}
	j.report.Commits += report.Commits
	j.report.UploadedBytes += report.UploadedBytes
	j.err = j.explain(ctx, err)
	return j.err
}

func (j *job) replicate(ctx context.Context, how jobOptions) (replica.Report, error) {
	if j.bucket == nil {
		bucket, err := j.place.Open(ctx, location.Options{Create: true, Clients: how.clients})
		if err != nil {
			j.shared.Failed(j.db.Path, j.place.String(), err)
			return replica.Report{}, err
		}
		j.bucket = storage.Count(how.limits.Bucket(bucket))
	}
	opts := j.options()
	opts.Bucket, opts.Takeover, opts.Logger = j.bucket, how.takeover, how.logger
	logger := how.logger.With(slog.String("db", j.db.Path), slog.String("replica", j.place.String()))
	var copied atomic.Int64
	opts.Progress = func(done, total int64) {
		copied.Store(total)
		if j.session != nil {
			j.session.progressed()
		}
		if how.progress != nil {
			how.progress(done, total)
		}
	}
	opts.Ready = func() {
		j.ready = true
		if n := copied.Load(); n > 0 {
			logger.Info("the first copy is complete", slog.Int64("bytes", n))
		}
		if !how.once {
			logger.Info("following")
		}
		if j.session != nil {
			j.session.set(j, followed)
		}
	}
	if how.once {
		return replica.Once(ctx, opts)
	}
	report, err := replica.Run(ctx, opts)
	if err == nil {
		logger.Info("stopped", slog.Uint64("txid", uint64(report.TXID)), slog.Uint64("commits", report.Commits),
			slog.Int64("bytes", report.UploadedBytes))
	}
	return report, err
}

// requests are those of all its runs.
func (j *job) requests() storage.Requests {
	if j.bucket == nil {
		return storage.Requests{}
	}
	return j.bucket.Requests()
}

// options are the engine's options as far as the database's settings go.
func (j *job) options() replica.Options {
	return replica.Options{
		Path: j.db.Path, Name: j.place.String(), Replica: j.db.Replica, Replicas: j.replicas,
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
