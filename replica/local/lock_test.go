package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gofrs/flock"

	"tidemark/replica/disk"
	"tidemark/replica/local"
)

func held(t *testing.T, dir string) bool {
	t.Helper()
	h, err := local.Held(dir)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Whether the lock is held can be told without taking or making anything.
func TestHeld(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if held(t, dir) {
		t.Error("held where nothing is")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a look made the directory: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if held(t, dir) {
		t.Error("held without a lock")
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a look made the lock: %v", err)
	}
	d, err := local.Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !held(t, dir) {
			t.Error("not held by the one that opened it")
		}
	}
	if err := errors.Join(d.Save(sample(), local.Process), d.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if held(t, dir) {
			t.Error("held after it was closed")
		}
	}
}

// A start waits for somebody who looks at the lock, for a while. Another
// replicator is something else: it refuses at once.
func TestLookDoesNotLockOut(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]bool{"a look that ends": false, "a look that is suspended": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				look := flock.New(filepath.Join(dir, "lock"))
				if ok, err := look.TryRLock(); !ok || err != nil {
					t.Fatal(ok, err)
				}
				defer look.Close() //nolint:errcheck // it may be closed already
				var d *local.Dir
				var err error
				done := make(chan struct{})
				go func() { defer close(done); d, err = local.Open(disk.OS{}, dir) }()
				synctest.Wait() // until it pauses
				select {
				case <-done:
					t.Fatal("the start did not wait, but: ", err)
				default:
				}
				if wait {
					if <-done; !errors.Is(err, local.ErrLocked) {
						t.Errorf("beside a suspended look: %v", err)
					}
					return
				}
				if err := look.Close(); err != nil {
					t.Fatal(err)
				}
				if <-done; err != nil {
					t.Fatal("after the look: ", err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// However often others look, each start gets the lock, and each second one is
// refused.
func TestLooksBesideStarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	keep := func(d *local.Dir) error { return d.Save(sample(), local.Process) } // so that it stays
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := local.Held(dir); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 100 {
		d, err := local.Open(disk.OS{}, dir)
		if err != nil {
			t.Error("a look has locked it out: ", err)
			break
		}
		if _, err := local.Open(disk.OS{}, dir); !errors.Is(err, local.ErrLocked) {
			t.Errorf("the second: %v", err)
		}
		if err := errors.Join(keep(d), d.Close()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// A status is replaced whole, is not there before, and goes with a directory in
// which nothing was saved.
func TestStatus(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := local.LoadStatus(dir); !errors.Is(err, local.ErrLost) {
		t.Errorf("before: %v", err)
	}
	d, err := local.Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a long one", "short"} {
		if err := d.SaveStatus([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if b, err := local.LoadStatus(dir); string(b) != want || err != nil {
			t.Errorf("loaded %q, %v, want %q", b, err, want)
		}
	}
	// What can't be replaced goes: it would be wrong from now on.
	tmp := filepath.Join(dir, "status.json.tmp")
	if err := os.MkdirAll(filepath.Join(tmp, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveStatus([]byte("new")); err == nil {
		t.Error("saved without a place to write it")
	}
	if b, err := local.LoadStatus(dir); !errors.Is(err, local.ErrLost) {
		t.Errorf("after a failure: %q, %v", b, err)
	}
	path := filepath.Join(dir, "status.json")
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(filepath.Join(path, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveStatus([]byte("new")); err == nil {
		t.Error("saved in the place of a folder")
	}
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has left what it could not put into its place: %v", err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.SaveStatus([]byte("again")), d.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory without state stays: %v", err)
	}
}
