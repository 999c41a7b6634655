package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// litestreamConfig is what a litestream.yml has to say for one database; all else is
// left at Litestream's own defaults. The keys are those of its reference for 0.5,
// https://litestream.io/reference/config. Its credentials are in the environment.
type litestreamConfig struct {
	DBs []litestreamDB `yaml:"dbs"`
}

type litestreamDB struct {
	Path    string            `yaml:"path"`
	Replica litestreamReplica `yaml:"replica"`
}

type litestreamReplica struct {
	Type           string `yaml:"type"`
	Bucket         string `yaml:"bucket"`
	Path           string `yaml:"path"`
	Endpoint       string `yaml:"endpoint"`
	Region         string `yaml:"region"`
	ForcePathStyle bool   `yaml:"force-path-style"`
	// SyncInterval is the default too, and tidemark's.
	SyncInterval string `yaml:"sync-interval"`
}

// litestreamRun is a Litestream that replicates.
type litestreamRun struct {
	*proc
	b  *bench
	at place
	// before is what the first copy has cost, points how many states that has.
	before costs
	points int
}

// attachLitestream starts Litestream and waits until the first LTX file is in the bucket.
func (b *bench) attachLitestream(ctx context.Context, db string, at place) (replicator, error) {
	config, err := writeLitestream(filepath.Dir(db), litestreamAt(db, b.minio.Endpoint, at.bucket, bucketPrefix))
	if err != nil {
		return nil, err
	}
	l := &litestreamRun{b: b, at: at}
	if l.proc, err = b.start(ctx, b.litestream, "replicate", "-config", config); err != nil {
		return nil, err
	}
	if err := l.begun(ctx); err != nil {
		l.kill()
		return nil, err
	}
	return l, nil
}

func (l *litestreamRun) begun(ctx context.Context) error {
	var failed error
	err := l.until(ctx, func() bool {
		files, err := ltxFiles(ctx, l.at)
		failed, l.points = err, points(files)
		return err != nil || len(files) > 0
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	l.before.cpu, _ = l.cpu()
	l.before.traffic, err = l.b.minioTraffic(ctx)
	return err
}

// figures implements replicator.
func (l *litestreamRun) figures(ctx context.Context, commits []time.Time) (all []figure, err error) {
	if err := l.stop(); err != nil { // what it has written counts all the same
		l.b.log.Warn("Litestream did not end well", slog.Any("error", err))
	}
	spent, err := l.b.minioTraffic(ctx)
	if err != nil {
		return nil, err
	}
	all = expenses(l.proc, l.before.cpu, spent.since(l.before.traffic), len(commits))
	files, err := ltxFiles(ctx, l.at)
	if err != nil {
		return nil, err
	}
	restorable := points(files)
	all = append(all,
		figure{"restorable points", "count", float64(restorable)},
		figure{"commits not restorable", "count", float64(len(commits)) - float64(restorable-l.points)})
	stored, err := ltxStored(ctx, l.at, files)
	if errors.Is(err, errHeader) {
		l.b.log.Warn("Litestream's lag is not known", slog.Any("since", err))
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("read Litestream's LTX files: %w", err)
	}
	if found, ok := lagsByTime(commits, stored); ok {
		all = append(all, lagFigures("lag", found)...)
	}
	return all, nil
}
