package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// litestreamAt is a database whose replica is under a prefix of a bucket, behind an
// endpoint that need not be MinIO's own.
func litestreamAt(db, endpoint, bucket, prefix string) litestreamDB {
	return litestreamDB{Path: db, Replica: litestreamReplica{
		Type: "s3", Bucket: bucket, Path: prefix, Endpoint: endpoint, Region: "us-east-1", ForcePathStyle: true, SyncInterval: "1s",
	}}
}

// writeLitestream writes a configuration into a folder and gives its path.
func writeLitestream(dir string, dbs ...litestreamDB) (path string, err error) {
	text, err := yaml.Marshal(litestreamConfig{DBs: dbs})
	if err != nil {
		return "", fmt.Errorf("encode Litestream's configuration: %w", err)
	}
	path = filepath.Join(dir, "litestream.yml")
	return path, os.WriteFile(path, text, 0o600)
}

// litestreamCopy has Litestream ship all there is, and end: replicate -once, which the
// first versions of 0.5 don't know. What it remembers of the database is removed, so
// that it can be done again.
func (b *bench) litestreamCopy(ctx context.Context, db string, at place, dir string) (figures []figure, err error) {
	config, err := writeLitestream(dir, litestreamAt(db, b.minio.Endpoint, at.bucket, bucketPrefix))
	if err != nil {
		return nil, err
	}
	memory := filepath.Join(filepath.Dir(db), "."+filepath.Base(db)+"-litestream")
	defer func() { err = errors.Join(err, os.RemoveAll(memory)) }()
	figures, err = b.measured(ctx, b.litestream, replicateCommand, "-once", "-config", config)
	if err != nil {
		return nil, fmt.Errorf("a first copy by Litestream: %w", err)
	}
	return figures, nil
}

// litestreamRestore has Litestream restore what litestreamCopy has made.
func (b *bench) litestreamRestore(ctx context.Context, endpoint, db string, at place, dir, out string) ([]figure, error) {
	config, err := writeLitestream(dir, litestreamAt(db, endpoint, at.bucket, bucketPrefix))
	if err != nil {
		return nil, err
	}
	return b.measured(ctx, b.litestream, restoreCommand, "-config", config, "-o", out, db)
}
