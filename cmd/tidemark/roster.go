package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/cmd/tidemark/metrics"
	"tidemark/replica"
	"tidemark/replica/fleet"
	"tidemark/storage"
)

// roster has the jobs of one run: those that are listed, and those of databases that
// are found in folders meanwhile. It is not safe for concurrent use.
type roster struct {
	once, takeover bool
	con            *console
	logger         *slog.Logger
	process        config.Process
	shared         *replica.Process
	limits         *storage.Limits
	clients        location.Clients
	// session is the command that is run meanwhile, nil: none.
	session *session

	// jobs are all of them, in the order in which they came. What is found again is
	// the same job.
	jobs    []*job
	folders []config.Folder
	// found are those of databases in folders, by path.
	found map[string][]*job
}

// list takes what is configured, and checks every URL and folder before anything
// starts.
func (r *roster) list(s config.Settings) error {
	for _, db := range s.Databases {
		j, err := newJob(db)
		if err != nil {
			return err
		}
		r.jobs = append(r.jobs, j)
	}
	for _, f := range s.Folders {
		if err := checkFolder(f); err != nil {
			return err
		}
	}
	r.folders, r.found = s.Folders, map[string][]*job{}
	return nil
}

// alone tells whether there is one job, and never another: then its error is the
// command's. Else it is logged when it happens.
func (r *roster) alone() bool { return len(r.jobs) == 1 && len(r.folders) == 0 }

// gcPercent is how far memory grows between two collections; Go's default is 100.
const gcPercent = 50

// run runs the jobs side by side and returns when all have ended. An error is about
// a folder, or the address of the metrics.
func (r *roster) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		// Little is in memory for long: it costs next to nothing to keep it small.
		defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	}
	r.shared, r.limits = replica.NewProcess(), storage.NewLimits(r.process.MaxUploads, r.process.MaxRequestRate)
	r.shared.SetSnapshotRate(r.process.SnapshotRate)
	defer func() {
		if err := r.shared.Close(); err != nil {
			r.logger.Warn("what the databases shared is still open", slog.Any("err", err))
		}
	}()
	follow := fleet.Run
	if r.once {
		follow = fleet.Once
	} else if addr := r.process.MetricsAddr; addr != "" {
		server, err := metrics.Serve(ctx, addr, r.shared, r.logger)
		if err != nil {
			return err
		}
		defer server.Stop() //nolint:contextcheck // it stops when ctx has ended
		r.logger.Info("serving metrics", slog.String("addr", server.Addr()))
	}
	return follow(ctx, fleet.Options{
		Databases: r.databases(), Folders: r.watched(),
		Final: needsPerson, Failed: r.failed, Gone: r.gone, Logger: r.logger,
	})
}

// needsPerson tells whether trying again can only do harm: where data is bad, but
// for a database that may be damaged since it is still being written.
func needsPerson(err error) bool {
	return exitCode(err) == exitBadData && !errors.Is(err, replica.ErrDamaged)
}

// mayPass tells whether a listed database is tried again beside others. One that is
// alone is left to whoever started it.
func mayPass(err error) bool { return errors.Is(err, storage.ErrUnreachable) }

// databases are those that are listed, each with its replicas.
func (r *roster) databases() []fleet.Database {
	var out []fleet.Database
	for rest := r.jobs; len(rest) > 0; {
		other := func(j *job) bool { return j.db.Path != rest[0].db.Path }
		n := slices.IndexFunc(rest, other)
		if n < 0 {
			n = len(rest)
		}
		db := fleet.Database{Path: rest[0].db.Path, Replications: r.replications(rest[:n])}
		if !r.alone() && r.session == nil { // a command needs all of them
			db.Retry = mayPass
		}
		out = append(out, db)
		rest = rest[n:]
	}
	return out
}

// watched are the folders.
func (r *roster) watched() []fleet.Folder {
	listed := make([]config.Database, 0, len(r.jobs))
	for _, j := range r.jobs {
		listed = append(listed, j.db)
	}
	out := searched(listed, r.folders)
	for i, f := range r.folders {
		out[i].Replications = func(path, rel string) ([]fleet.Replication, error) { return r.find(f, path, rel) }
	}
	return out
}

// searched are the folders as package fleet searches them.
func searched(listed []config.Database, folders []config.Folder) []fleet.Folder {
	skip := config.Private(listed, folders)
	out := make([]fleet.Folder, 0, len(folders))
	for _, f := range folders {
		out = append(out, fleet.Folder{Dir: f.Dir, Pattern: f.Pattern, Recursive: f.Recursive, Skip: skip})
	}
	return out
}

// checkFolder refuses a folder that is none. It may be one that is mounted late: so
// that is no mistake of the configuration, which nobody would try again.
func checkFolder(f config.Folder) error {
	info, err := os.Stat(f.Dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: f.Dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return advisedError{err: fmt.Errorf("%s: dir: %w", f.Origin, err), hint: "check the path; the folder must be there when tidemark starts"}
	}
	return nil
}

// find gives the jobs of a database that was found.
func (r *roster) find(f config.Folder, path, rel string) ([]fleet.Replication, error) {
	if r.found[path] == nil {
		dbs, err := f.Databases(rel)
		if err != nil {
			return nil, err
		}
		for _, db := range dbs {
			j, err := newJob(db)
			if err != nil {
				return nil, err
			}
			r.found[path] = append(r.found[path], j)
		}
		r.jobs = append(r.jobs, r.found[path]...)
	}
	return r.replications(r.found[path]), nil
}

// replications runs all jobs of a database as part of the fleet.
func (r *roster) replications(jobs []*job) []fleet.Replication {
	how := jobOptions{once: r.once, takeover: r.takeover, logger: r.logger, limits: r.limits, clients: &r.clients}
	if r.alone() && (r.session == nil || !absent(jobs[0].db.Path)) { // else the terminal is the command's
		how.progress = r.con.progress("first copy")
	}
	out := make([]fleet.Replication, 0, len(jobs))
	for _, j := range jobs {
		j.shared, j.replicas = r.shared, len(jobs)
		run := func(ctx context.Context) error { return j.run(ctx, how) }
		if r.session != nil {
			run = r.session.around(j, run)
			j.session = r.session
		}
		out = append(out, fleet.Replication{Name: j.db.URL, Run: run})
	}
	return out
}

// failed logs that a job has failed.
func (r *roster) failed(f fleet.Failure) {
	if errors.Is(f.Err, fleet.ErrTwice) { // the job was not begun
		f.Err = advisedError{err: f.Err, hint: "list each database once, and not by links to it"}
		for _, j := range r.jobs {
			if j.db.Path == f.Path && j.db.URL == f.Replication {
				j.err = f.Err
				r.shared.Failed(j.db.Path, j.place.String(), f.Err)
			}
		}
	}
	if r.alone() && r.session == nil {
		return
	}
	var placed placedError
	if errors.As(f.Err, &placed) && !f.Closed {
		placed.open = true
		f.Err = placed
	}
	d := describe(f.Err, "tidemark replicate")
	attrs := []any{
		slog.String("db", f.Path), slog.String("replica", f.Replication), slog.String("error", d.Message), slog.String("hint", d.Hint),
	}
	if f.Again > 0 {
		attrs = append(attrs, slog.Duration("in", f.Again.Round(time.Millisecond)))
	}
	r.logger.Error("replication failed", attrs...)
	if r.session != nil && r.session.running() {
		r.logger.Error("the command goes on; what it commits from here on is not replicated", slog.String("db", f.Path), slog.String("replica", f.Replication))
	}
}

// gone notes that a database of a folder is gone, which is no failure.
func (r *roster) gone(path string) {
	for _, j := range r.found[path] {
		j.err = nil
		r.shared.Forget(j.db.Path, j.place.String())
	}
}
