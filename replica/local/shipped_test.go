package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tidemark/replica/disk"
	"tidemark/replica/disk/disktest"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
)

// nth is the n-th of the things that are remembered in a test.
func nth(n int) local.Shipped {
	return local.Shipped{
		Replica: replicaID(), Newest: local.Object{First: state.TXID(n), Last: state.TXID(n), Sum: ^uint64(n)},
		Next: local.Object{First: state.TXID(n + 1), Last: 1 << 60, Sum: uint64(n)},
	}
}

func saveShipped(t *testing.T, d *local.Dir, s local.Shipped) {
	t.Helper()
	if err := d.SaveShipped(s); err != nil {
		t.Fatal(err)
	}
}

// on opens a state directory on a disk with a plan.
func on(t *testing.T, plan disktest.Plan) (*local.Dir, *disktest.Disk) {
	t.Helper()
	fs := disktest.New(plan)
	d, err := local.Open(fs, filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, fs
}

// A write that ended anywhere leaves what was remembered before it, or what it was
// to remember; and the next one is in nobody's way.
func TestShippedTorn(t *testing.T) {
	t.Parallel()
	d := open(t)
	path := filepath.Join(d.Path(), "shipped.json")
	image := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	saveShipped(t, d, nth(1))
	for n := 2; n < 5; n++ {
		before := image()
		saveShipped(t, d, nth(n))
		after := image()
		if len(before) != len(after) {
			t.Fatalf("the file had %d bytes, and has %d", len(before), len(after))
		}
		for at := range after {
			if at > 0 && before[at-1] == after[at-1] {
				continue
			}
			if err := os.WriteFile(path, append(append([]byte(nil), after[:at]...), before[at:]...), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := d.LoadShipped(replicaID()); err != nil || got != nth(n-1) && got != nth(n) {
				t.Fatalf("written up to byte %d: got %+v, %v", at, got, err)
			}
			saveShipped(t, d, nth(n+100))
			if got, err := d.LoadShipped(replicaID()); err != nil || got != nth(n+100) {
				t.Fatalf("after a write up to byte %d: got %+v, %v", at, got, err)
			}
		}
		if err := os.WriteFile(path, after, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// On a disk that is full it is remembered all the same, and where one place can't
// be written to it is remembered in another.
func TestShippedFailures(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(op string) error{
		"full": func(op string) error {
			if strings.HasPrefix(op, "open") && strings.HasSuffix(op, ".tmp") {
				return syscall.ENOSPC
			}
			return nil
		},
		"damaged": func(op string) error {
			if op == "write shipped.json" {
				return syscall.EIO
			}
			return nil
		},
		"can't be synced": func(op string) error {
			if op == "sync shipped.json" {
				return syscall.EIO
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := false
			d, _ := on(t, func(_ int, op string) disktest.Verdict {
				if !began {
					return disktest.Verdict{}
				}
				return disktest.Verdict{Err: fails(op)}
			})
			saveShipped(t, d, nth(1))
			began = true
			for n := 2; n < 6; n++ {
				saveShipped(t, d, nth(n))
				if got, err := d.LoadShipped(replicaID()); err != nil || got != nth(n) {
					t.Errorf("got %+v, %v, want %+v", got, err, nth(n))
				}
			}
		})
	}
}

// Whichever operation fails, and whichever after it is the last one before a power
// cut, what was remembered last is there, or something that was to be remembered after it.
func TestShippedPowerCut(t *testing.T) {
	t.Parallel()
	const saves = 3
	for fail := 1; ; fail++ {
		crashed := false
		for crash := fail + 1; crash == fail+1 || crashed; crash++ {
			d, fs := on(t, func(n int, _ string) disktest.Verdict {
				if n == fail+1 { // the first one makes the directory
					return disktest.Verdict{Err: syscall.EIO}
				}
				return disktest.Verdict{Crash: n == crash+1}
			})
			saved, tried := 0, 0
			for n := 1; n <= saves; n++ {
				tried = n
				if d.SaveShipped(nth(n)) == nil {
					saved = n
				}
				if fs.Crashed() {
					break
				}
			}
			if crashed = fs.Crashed(); !crashed && crash == fail+1 && fs.Ops() <= fail {
				return // the failure came after all
			}
			for _, loss := range []disktest.Loss{disktest.Nothing, disktest.Unsynced, disktest.UnsyncedContent} {
				checkLeft(t, fs, d, loss, saved, tried)
			}
		}
	}
}

// checkLeft looks at what a crash leaves.
func checkLeft(t *testing.T, fs *disktest.Disk, d *local.Dir, loss disktest.Loss, saved, tried int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "left")
	if err := fs.Leave(d.Path(), dir, loss); err != nil {
		t.Fatal(err)
	}
	left, err := local.Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := left.LoadShipped(replicaID())
	if saved == 0 && errors.Is(err, local.ErrLost) {
		got, err = nth(tried), nil
	}
	if n := int(got.Newest.First); err != nil || n < saved || n > tried || got != nth(n) {
		t.Errorf("%v after %d operations: got %+v, %v, want the one of save %d, or up to %d", loss, fs.Ops(), got, err, saved, tried)
	}
	if err := left.Close(); err != nil {
		t.Error(err)
	}
}
