package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"tidemark/integration/minio"
	"tidemark/storage"
	"tidemark/storage/file"
	"tidemark/storage/s3"
)

// bench is what every work can use. Works run one at a time, and their sides do, too.
type bench struct {
	// dir is a folder of this run's own, which is removed at its end.
	dir string
	// tidemark is the path of the program, litestream that of the other one, "" if
	// there is none. self is this program's.
	tidemark, litestream, self string
	// minio is nil if there is none. It is idle unless a side uses it.
	minio   *minio.Server
	profile profile
	log     *slog.Logger
	// built tells that tidemark was built here.
	built bool
}

// place is where a replica goes.
type place struct {
	// url is how tidemark's commands name it.
	url string
	// store reads what is there, past what the replicator counts.
	store storage.Bucket
	// bucket is the bucket's name in MinIO, or "" for a folder, which is at folder.
	bucket, folder string
}

// bucketPrefix is the prefix of each replica in its bucket.
const bucketPrefix = "app"

// bucket makes a new and empty bucket in MinIO. Without MinIO that is errUnmeasured.
func (b *bench) bucket(ctx context.Context) (place, error) {
	if b.minio == nil {
		return place{}, fmt.Errorf("%w: there is no MinIO", errUnmeasured)
	}
	name, err := b.minio.CreateBucket(ctx)
	if err != nil {
		return place{}, err
	}
	store, err := s3.Open(ctx, s3.Config{
		Bucket: name, Prefix: bucketPrefix, Endpoint: b.minio.Endpoint, PathStyle: true,
		AccessKeyID: b.minio.AccessKey, SecretAccessKey: b.minio.SecretKey,
	})
	if err != nil {
		return place{}, err
	}
	return place{url: b.minio.URL(name, bucketPrefix), store: store, bucket: name}, nil
}

// folder makes an empty folder for a replica below dir.
func (b *bench) folder(dir string) (place, error) {
	root := filepath.Join(dir, "replica")
	store, err := file.Open(root, file.Options{Create: true})
	if err != nil {
		return place{}, err
	}
	path := filepath.ToSlash(root)
	if path[0] != '/' {
		path = "/" + path // C:/…
	}
	return place{url: "file://" + path, store: store, folder: root}, nil
}

// place makes what a side of tidemark's or Litestream's replicates to: a folder below
// dir, or a bucket.
func (b *bench) place(ctx context.Context, s side, dir string) (place, error) {
	if s == folder {
		return b.folder(dir)
	}
	return b.bucket(ctx)
}

// empty deletes what is in a place, so that the disk has room for the next one.
func (b *bench) empty(ctx context.Context, at place) error {
	if at.folder != "" {
		return os.RemoveAll(at.folder)
	}
	var keys []string
	err := at.store.List(ctx, "", "", func(o storage.Info) error {
		keys = append(keys, o.Key)
		return nil
	})
	for _, key := range keys {
		err = errors.Join(err, at.store.Delete(ctx, key))
	}
	return err
}

// scratch makes an empty folder, for one side of one round. Who has it removes it.
func (b *bench) scratch(name string) (dir string, err error) {
	return os.MkdirTemp(b.dir, strings.ReplaceAll(name, " ", "-")+"-")
}

// env is what the programs need in their environment to reach MinIO.
func (b *bench) env() []string {
	if b.minio == nil {
		return nil
	}
	id, secret := b.minio.AccessKey, b.minio.SecretKey
	return []string{
		"TIDEMARK_S3_ACCESS_KEY_ID=" + id, "TIDEMARK_S3_SECRET_ACCESS_KEY=" + secret,
		"LITESTREAM_ACCESS_KEY_ID=" + id, "LITESTREAM_SECRET_ACCESS_KEY=" + secret,
		"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret,
	}
}

// build builds tidemark into the folder of the run: the sources that this program
// belongs to, without the race detector.
func (b *bench) build(ctx context.Context) error {
	b.log.Info("building tidemark")
	b.built = true
	b.tidemark = filepath.Join(b.dir, "tidemark")
	if runtime.GOOS == "windows" {
		b.tidemark += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.tidemark, "tidemark/cmd/tidemark")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build tidemark; run this in its checkout: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// copyFile copies a file to where there is none.
func copyFile(to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	_, err = io.Copy(dst, src)
	return err
}
