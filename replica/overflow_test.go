package replica_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/storage/storagetest"
)

// Past the spool's limit the commits in it are given up for one resync: the disk
// and the WAL stay bounded while storage is away, and nothing is wrong after.
func TestSpoolOverflow(t *testing.T) {
	t.Parallel()
	const limit = 32 << 10
	a, b := newApp(t, "PRAGMA wal_autocheckpoint=0"), &outOfReach{faulty: faulty{Bucket: mem.New()}}
	opts := replica.Options{
		Path: a.path, Bucket: b, StateDir: filepath.Join(t.TempDir(), "state"),
		SyncInterval: time.Millisecond, CheckpointPages: 10, SpoolLimit: limit,
	}.On(nil)
	e := launch(t, opts)
	a.insert(5)
	shipped(t, b.Bucket, 6)
	before := a.digest()
	b.set(true)
	waitFor(t, func() bool { a.insert(1); return !exists(filepath.Join(opts.StateDir, "state.json")) })
	waitFor(t, func() bool { a.insert(1); return folderSize(t, filepath.Join(opts.StateDir, "spool")) == 0 })
	was := header(t, a.path+"-wal").Salts
	waitFor(t, func() bool { a.insert(1); return header(t, a.path+"-wal").Salts != was }) // nothing is pinned: it restarts
	b.set(false)
	shipped(t, b.Bucket, 7)
	e.stop()
	cs := commitsOf(t, b)
	resyncs := 0
	for _, c := range cs {
		if c.Resync {
			resyncs++
		}
	}
	if resyncs != 1 || restored(t, b, 0) != a.digest() || restored(t, b, 6) != before {
		t.Errorf("%d resyncs of %d commits, want 1, and the states before and after it", resyncs, len(cs))
	}
	a.insert(2)
	launch(t, opts).stop()
	if now := commitsOf(t, b); len(now) != len(cs)+2 {
		t.Errorf("%d commits, want %d: the next ones are single again", len(now), len(cs)+2)
	}
}

// outOfReach is a bucket that can be away as a whole.
type outOfReach struct{ faulty }

func (a *outOfReach) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return storage.ErrUnreachable
	}
	return nil
}

// Put implements [storage.Bucket].
func (a *outOfReach) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.faulty.Put(ctx, key, body, opts)
}

// List implements [storage.Bucket].
func (a *outOfReach) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.faulty.List(ctx, prefix, after, fn)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// folderSize sums up the files in a folder.
func folderSize(t *testing.T, path string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}

// Storage that ignores or refuses conditional writes is found out at the start,
// and used only if that is allowed.
func TestUnfenceable(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(storage.Bucket) storage.Bucket{
		"ignores": storagetest.IgnoreConditions, "refuses": storagetest.RefuseConditions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newApp(t), wrap(mem.New())
			opts := replica.Options{Path: a.path, Bucket: b, StateDir: filepath.Join(t.TempDir(), "state")}
			if _, err := replica.Once(t.Context(), opts); !errors.Is(err, replica.ErrUnfenceable) {
				t.Fatalf("got %v, want ErrUnfenceable", err)
			}
			opts.Unfenced = true
			for n := range 3 {
				if _, err := replica.Once(t.Context(), opts); err != nil {
					t.Fatal(err)
				}
				if got := last(t, b); got != state.TXID(n+1) {
					t.Errorf("TXID %v, want %d", got, n+1)
				}
				a.insert(1)
			}
		})
	}
}
