package minio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gofrs/flock"
)

// Version is the MinIO that is built if there is none in PATH: the last
// commit of its open-source repository at the time of writing.
const Version = "v0.0.0-20260212201848-7aac2a2c5b7c"

// find returns the path of a MinIO server program.
func find(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("minio"); err == nil {
		return filepath.Abs(path)
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
	if err := lock.Lock(); err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
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
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build MinIO: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
