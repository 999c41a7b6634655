package minio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Version is the MinIO that is built if there is none in PATH: the last
// commit of its open-source repository at the time of writing.
const Version = "v0.0.0-20260212201848-7aac2a2c5b7c"

// patience is for how long a process builds MinIO if it can do without: go test
// ends a package after ten minutes, and its other tests need some of them.
const patience = 3 * time.Minute

// deadline is when that ends, counted from the first attempt.
//
//nolint:gochecknoglobals // a process has one
var deadline = sync.OnceValue(func() time.Time { return time.Now().Add(patience) })

// find returns the path of a MinIO server program.
func find(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("minio"); err == nil {
		return filepath.Abs(path)
	}
	if os.Getenv(Variable) != "require" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline(), fmt.Errorf(
			"it was not built after %v; what is built is kept, so that the next attempt goes on: %s=require go test -timeout 60m -run TestStorageMinIOStops ./integration",
			patience, Variable))
		defer cancel()
	}
	return build(ctx)
}

// build builds MinIO into the user's cache folder, unless it is there. Of
// several test processes one builds, and the others wait for it.
func build(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to build in: %w", err)
	}
	dir := filepath.Join(cache, "tidemark-test", "minio-"+Version)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if _, err := lock.TryLockContext(ctx, pollInterval); err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, cmp.Or(context.Cause(ctx), err))
	}
	defer func() { _ = lock.Close() }()

	program := filepath.Join(dir, "minio")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	return program, install(ctx, dir)
}

// install builds MinIO into dir. The go command gives the program its name
// only when it is complete.
func install(ctx context.Context, dir string) error {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return errors.New("there is neither minio nor go in PATH")
	}
	cmd := exec.CommandContext(ctx, goCommand, "install", "github.com/minio/minio@"+Version)
	// Outside of this module, and without what the tests themselves were
	// built with.
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0", "GOOS=", "GOARCH=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("build MinIO: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("build MinIO: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
