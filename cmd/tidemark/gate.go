package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
	"tidemark/replica/check"
	"tidemark/replica/restore"
	"tidemark/storage"
)

// gateError says that nothing was started since a check failed.
type gateError struct{ failed []string }

// Error implements error.
func (e gateError) Error() string {
	return "nothing was started: " + strings.Join(e.failed, "; ")
}

// Hint says what to do.
func (gateError) Hint() string {
	return "the log above says what to do about each item; tidemark check shows all of them"
}

// exitWith implements [coded].
func (gateError) exitWith() int { return exitBadData }

// prepare does what is to be done before anything has a database open: it restores
// those that are missing, and checks all. The process must have none of them open, since
// both open them by hand.
func (r *roster) prepare(ctx context.Context, p process) error {
	if !r.process.Check && !r.process.RestoreIfMissing && r.session == nil {
		return nil
	}
	ctx, release := p.interruptible(ctx, r.logger, notices{first: "stopping: nothing was started", second: "stopped at once"})
	defer release()
	dbs := make([]config.Database, 0, len(r.jobs))
	for _, j := range r.jobs {
		dbs = append(dbs, j.db)
	}
	if err := r.restoreMissing(ctx, dbs); err != nil {
		return err
	}
	dbs, err := allDatabases(ctx, dbs, r.folders)
	if err != nil {
		return err
	}
	for _, db := range dbs[len(r.jobs):] {
		if r.session != nil {
			r.session.expect(db.Path, db.URL)
		}
	}
	if r.process.Check {
		return r.gate(ctx, dbs)
	}
	return nil
}

// restoreMissing restores the listed databases that are missing and have a replica.
// What has none is for the command to make.
func (r *roster) restoreMissing(ctx context.Context, dbs []config.Database) error {
	if !r.process.RestoreIfMissing {
		return nil
	}
	tried := map[string]bool{}
	for i, db := range dbs {
		if tried[db.Path] || !absent(db.Path) {
			continue
		}
		tried[db.Path] = true
		from, at, err := newestReplica(ctx, r.jobs[i:], db.Path)
		if err != nil {
			return err
		}
		switch {
		case from != nil:
			if err := r.restore(ctx, db.Path, at, *from); err != nil {
				return atPlace(at, fmt.Errorf("restore %s, which is missing: %w", db.Path, err))
			}
		case orphanOf(db.Path) != "":
			return advisedError{
				err:  fmt.Errorf("nothing was started: %s is missing, there is no replica of it, and %s is there", db.Path, orphanOf(db.Path)),
				hint: "SQLite would delete it with the next database of that name: take out what it has with tidemark salvage, or move it away",
			}
		case r.session != nil:
			r.session.mayBeBorn(db.Path)
		}
	}
	return nil
}

// newestReplica finds, among a database's replicas, the one with the newest commit. from
// is nil if none holds anything.
func newestReplica(ctx context.Context, jobs []*job, path string) (from *storage.Bucket, at location.Location, err error) {
	var newest archive.Head
	for _, j := range jobs {
		if j.db.Path != path {
			continue
		}
		bucket, err := j.place.Open(ctx, location.Options{})
		var head archive.Head
		if err == nil {
			head, err = headOf(ctx, bucket)
		}
		switch {
		case isAny(err, archive.ErrNoReplica, storage.ErrNoBucket):
			continue
		case err != nil:
			return nil, at, atPlace(j.place, fmt.Errorf("look for a replica of %s, which is missing: %w", path, err))
		}
		if head.Last != 0 && (from == nil || head.Commit.Time.After(newest.Commit.Time)) {
			from, at, newest = &bucket, j.place, head
		}
	}
	return from, at, nil
}

func headOf(ctx context.Context, bucket storage.Bucket) (archive.Head, error) {
	a, err := archive.Open(ctx, bucket)
	if err != nil {
		return archive.Head{}, err
	}
	return a.Head(ctx)
}

// restore brings a database back.
func (r *roster) restore(ctx context.Context, path string, at location.Location, from storage.Bucket) error {
	res, err := restore.Run(ctx, restore.Options{
		Bucket: from, Output: path, Integrity: restore.Quick, WithoutDamaged: true, Logger: r.logger, Progress: r.con.progress("restoring"),
	})
	r.con.endProgress()
	if err != nil {
		return err
	}
	r.logger.Info("the database was missing; restored it", slog.String("db", res.Output), slog.String("replica", at.String()),
		slog.Uint64("txid", uint64(res.TXID)), slog.String("time", formatTime(res.Time)))
	return nil
}

// gate checks databases, and fails if an item does.
func (r *roster) gate(ctx context.Context, dbs []config.Database) error {
	var e gateError
	for _, db := range dbs {
		if absent(db.Path) {
			continue // the command makes it, or it is an error soon
		}
		items, err := r.checkOne(ctx, db)
		if err != nil {
			return fmt.Errorf("check %s: %w", db.Path, err)
		}
		for _, i := range items {
			if i.ID == check.Replica && i.Level == check.Fail && r.takeover {
				i.Level = check.Warn // that is what was asked for
			}
			attrs := []any{slog.String("db", db.Path), slog.String("item", string(i.ID)), slog.String("finding", i.Finding), slog.String("advice", i.Advice)}
			switch i.Level {
			case check.OK:
				r.logger.Debug("checked", attrs[:len(attrs)-1]...)
			case check.Warn:
				r.logger.Warn("checked: "+string(i.Level), attrs...)
			case check.Fail:
				r.logger.Error("checked: "+string(i.Level), attrs...)
				e.failed = append(e.failed, fmt.Sprintf("%s of %s: %s", i.ID, db.Path, i.Finding))
			}
		}
	}
	if len(e.failed) > 0 {
		return e
	}
	return nil
}

// checkOne checks a database and one of its replicas.
func (r *roster) checkOne(ctx context.Context, db config.Database) ([]check.Item, error) {
	place, err := location.Parse(db.URL)
	if err != nil {
		return nil, err
	}
	opts := check.Options{
		Path: db.Path, Quick: true, StateDir: db.StateDir, AllowNetworkFS: db.AllowNetworkFS, Unfenced: db.Unfenced,
	}
	if err := openForCheck(ctx, place, &opts); err != nil {
		return nil, err
	}
	items, err := check.Run(ctx, opts)
	if errors.Is(err, check.ErrNoDatabase) {
		return nil, nil // it was there a moment ago; a folder's come and go
	}
	return items, err
}
