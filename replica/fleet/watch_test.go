package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tidemark/replica/fleet"
	"tidemark/replica/source"
)

// The system's watcher tells of new databases and folders, with no look at
// everything in between.
func TestSystemWatcher(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	began, ended := make(chan string), make(chan error)
	fail := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ended <- fleet.Run(ctx, fleet.Options{Rescan: time.Hour, Folders: []fleet.Folder{{
			Dir: dir, Recursive: true, Pattern: "*.db",
			Replications: func(_, rel string) ([]fleet.Replication, error) {
				return []fleet.Replication{{Run: func(ctx context.Context) error {
					began <- rel
					select {
					case err := <-fail:
						return err
					case <-ctx.Done():
						return nil
					}
				}}}, nil
			},
		}}})
	}()
	await := func(want string) {
		t.Helper()
		select {
		case got := <-began:
			if got != want {
				t.Fatalf("%s has begun, not %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s has not begun", want)
		}
	}
	path := func(rel string) string { return filepath.Join(dir, filepath.FromSlash(rel)) }
	write := func(rel, text string) {
		t.Helper()
		if err := os.WriteFile(path(rel), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first.db", header)
	await("first.db")
	for i := range 100 { // the noise of a WAL
		write("first.db-wal", strconv.Itoa(i))
	}
	write("second.db", "")
	write("second.db", header)
	await("second.db")
	if err := errors.Join(os.MkdirAll(path("new/deep"), 0o700), os.WriteFile(path("new/deep/third.db"), []byte(header), 0o600)); err != nil {
		t.Fatal(err)
	}
	await("new/deep/third.db")
	write("new/deep/fourth.db", header)
	await("new/deep/fourth.db")
	if err := os.Rename(path("new"), path("moved")); err != nil {
		t.Fatal(err)
	}
	fail <- source.ErrReplaced
	fail <- source.ErrReplaced
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A look at everything asks for the facts of files that are known, and opens none.
func BenchmarkRescan(b *testing.B) {
	dir := b.TempDir()
	old := time.Now().Add(-time.Hour)
	for i := range 10_000 {
		name := filepath.Join(dir, fmt.Sprintf("%02d", i%100), fmt.Sprintf("%d.db", i))
		text := "SQLite format 3\x00"
		if i%2 == 0 {
			text = "something else, but long enough"
		}
		err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600), os.Chtimes(name, old, old))
		if err != nil {
			b.Fatal(err)
		}
	}
	folder := fleet.Folder{Dir: dir, Recursive: true, Replications: func(string, string) ([]fleet.Replication, error) {
		return []fleet.Replication{{Run: func(ctx context.Context) error { <-ctx.Done(); return nil }}}, nil
	}}
	told := fleet.NewTold()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() {
		done <- fleet.Run(ctx, told.Watch(fleet.Options{Rescan: time.Hour, Folders: []fleet.Folder{folder}}))
	}()
	told.Tell()
	for b.Loop() {
		told.Tell() // is taken when the one before is done
	}
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
