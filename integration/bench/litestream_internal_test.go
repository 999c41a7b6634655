package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"tidemark/storage"
	"tidemark/storage/s3"
)

// fakeVersion is what the Litestream of the tests says of itself.
const fakeVersion = "v0.5.0-fake"

// fakeName is how the test program is called to be it.
const fakeName = "litestream-fake"

func isFakeLitestream(name string) bool { return filepath.Base(name) == fakeName }

// linkLitestream makes the test program one by its name.
func linkLitestream(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), fakeName)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeLitestream knows version and replicate. It puts LTX files without pages: one at
// once, one now and then, one at its end.
func fakeLitestream(args []string) int {
	if err := playLitestream(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func playLitestream(args []string) error {
	if len(args) == 1 && args[0] == "version" {
		fmt.Println(fakeVersion) //nolint:forbidigo // what it prints
		return nil
	}
	if len(args) != 3 || args[0] != "replicate" || args[1] != "-config" {
		return fmt.Errorf("it was called with %q", args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	bucket, err := configured(args[2])
	if err != nil {
		return err
	}
	for id := uint64(1); ; id++ {
		if err := putLTX(context.WithoutCancel(ctx), bucket, id, time.Now()); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// configured opens the bucket of a configuration, as strictly as it can.
func configured(path string) (storage.Bucket, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var c litestreamConfig
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		return nil, err
	}
	if len(c.DBs) != 1 || c.DBs[0].Replica.Type != "s3" || !c.DBs[0].Replica.ForcePathStyle || c.DBs[0].Replica.SyncInterval != "1s" {
		return nil, fmt.Errorf("the configuration is %+v", c)
	}
	if _, err := os.Stat(c.DBs[0].Path); err != nil {
		return nil, err
	}
	r := c.DBs[0].Replica
	return s3.Open(context.Background(), s3.Config{
		Bucket: r.Bucket, Prefix: r.Path, Endpoint: r.Endpoint, Region: r.Region, PathStyle: r.ForcePathStyle,
		AccessKeyID: os.Getenv("LITESTREAM_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("LITESTREAM_SECRET_ACCESS_KEY"),
	})
}

// putLTX puts the header of an LTX file with one transaction.
func putLTX(ctx context.Context, b storage.Bucket, id uint64, at time.Time) error {
	header := make([]byte, 100)
	copy(header, "LTX1")
	binary.BigEndian.PutUint64(header[16:], id)
	binary.BigEndian.PutUint64(header[24:], id)
	binary.BigEndian.PutUint64(header[32:], uint64(at.UnixMilli()))
	return b.Put(ctx, fmt.Sprintf("ltx/0/%016x-%016x.ltx", id, id), strings.NewReader(string(header)), storage.PutOptions{Size: int64(len(header))})
}
