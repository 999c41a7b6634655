package file_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"tidemark/storage"
	"tidemark/storage/file"
	"tidemark/storage/storagetest"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		t.Helper()
		return open(t, t.TempDir())
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := filepath.Join(dir, "one", "two")
	if _, err := file.Open(missing, file.Options{}); !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("Open of a missing folder = %v, want ErrNoBucket", err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Open(plain, file.Options{}); !errors.Is(err, storage.ErrNoBucket) {
		t.Errorf("Open of a file = %v, want ErrNoBucket", err)
	}
	for range 2 {
		if _, err := file.Open(missing, file.Options{Create: true}); err != nil {
			t.Errorf("Open with Create: %v", err)
		}
	}
}

// TestRootVanishes unmounts, in effect, the folder below an open bucket.
func TestRootVanishes(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root")
	b, err := file.Open(root, file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "log/1", "one")
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	_, getErr := b.Get(t.Context(), "log/1", 0, -1)
	for call, err := range map[string]error{
		"Put":    b.Put(t.Context(), "log/2", strings.NewReader("two"), storage.PutOptions{Size: 3}),
		"Get":    getErr,
		"List":   b.List(t.Context(), "", "", func(storage.Info) error { return nil }),
		"Delete": b.Delete(t.Context(), "log/1"),
	} {
		if !errors.Is(err, storage.ErrNoBucket) {
			t.Errorf("%s = %v, want ErrNoBucket", call, err)
		}
	}
	// A folder that comes back, empty, works again.
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "log/2", "two")
}

// TestForeignFiles lists only what Put can have made.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := open(t, root)
	mustPut(t, b, "log/1", "one")
	for _, name := range []string{"with blank", "log/back~", "~tmp/put-1", "ünicode"} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "log"), filepath.Join(root, "loop")); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	var got []string
	err := b.List(t.Context(), "", "", func(info storage.Info) error {
		got = append(got, info.Key)
		return nil
	})
	if err != nil || len(got) != 1 || got[0] != "log/1" {
		t.Errorf("List = %q, %v, want log/1 alone", got, err)
	}
}

// TestLeftovers leaves nothing behind itself and removes what a killed process
// left a day ago, but nothing younger.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := open(t, root)
	mustPut(t, b, "a", "one")
	_ = b.Put(t.Context(), "a", strings.NewReader("one"), storage.PutOptions{Size: 4})
	_ = b.Put(t.Context(), "a", strings.NewReader("one"), storage.PutOptions{Size: 3, IfAbsent: true})
	temp := filepath.Join(root, "~tmp")
	if names := dirNames(t, temp); len(names) != 0 {
		t.Errorf("Put left %q", names)
	}
	for name, age := range map[string]time.Duration{"put-old": 25 * time.Hour, "put-young": 23 * time.Hour} {
		path := filepath.Join(temp, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	open(t, root)
	if names := dirNames(t, temp); len(names) != 1 || names[0] != "put-young" {
		t.Errorf("Open left %q, want put-young alone", names)
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("nothing is denied to this user by a mode")
	}
	root := t.TempDir()
	b := open(t, root)
	mustPut(t, b, "log/1", "one")
	log := filepath.Join(root, "log")
	if err := os.Chmod(log, 0o000); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(log, 0o700) }) //nolint:gosec // The test's own folder.
	_, getErr := b.Get(t.Context(), "log/1", 0, -1)
	for call, err := range map[string]error{
		"Put":    b.Put(t.Context(), "log/2", strings.NewReader("two"), storage.PutOptions{Size: 3}),
		"Get":    getErr,
		"List":   b.List(t.Context(), "", "", func(storage.Info) error { return nil }),
		"Delete": b.Delete(t.Context(), "log/1"),
	} {
		if !errors.Is(err, storage.ErrDenied) {
			t.Errorf("%s = %v, want ErrDenied", call, err)
		}
	}
}

// TestTruncatedUnderReader cuts a file short while it is read.
func TestTruncatedUnderReader(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := open(t, root)
	mustPut(t, b, "object", strings.Repeat("x", 100_000))
	r, err := b.Get(t.Context(), "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := os.Truncate(filepath.Join(root, "object"), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("ReadAll = %v, want that the file was cut short", err)
	}
}

// TestGetCancelled ends a read with its context.
func TestGetCancelled(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	mustPut(t, b, "object", "content")
	ctx, cancel := context.WithCancel(t.Context())
	r, err := b.Get(ctx, "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAll = %v, want context.Canceled", err)
	}
}

func open(t *testing.T, root string) *file.Bucket {
	t.Helper()
	b, err := file.Open(root, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustPut(t *testing.T, b storage.Bucket, key, data string) {
	t.Helper()
	if err := b.Put(t.Context(), key, strings.NewReader(data), storage.PutOptions{Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
}

func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
