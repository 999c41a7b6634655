package restore_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// small is a replica of a few commits.
func small(t *testing.T) *history {
	t.Helper()
	h := begin(t, 512, 6)
	h.commits(6)
	h.segmentUpTo(4)
	h.segment()
	return h
}

// folder writes files to a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// assertContents checks a folder's files and what is in them.
func assertContents(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	assertFiles(t, dir, slices.Sorted(maps.Keys(want))...)
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != content {
			t.Errorf("%s: other content (%v)", name, err)
		}
	}
}

// What lies at the output, or beside it, is never touched.
func TestOccupied(t *testing.T) {
	t.Parallel()
	h := small(t)
	for name, tc := range map[string]struct {
		files   map[string]string
		opts    restore.Options
		want    error
		skipped bool
	}{
		"exists":                 {map[string]string{"out.db": "old"}, restore.Options{}, restore.ErrExists, false},
		"exists, empty":          {map[string]string{"out.db": ""}, restore.Options{}, restore.ErrExists, false},
		"exists with its WAL":    {map[string]string{"out.db": "old", "out.db-wal": "w"}, restore.Options{}, restore.ErrExists, false},
		"exists, dry run":        {map[string]string{"out.db": "old"}, restore.Options{DryRun: true}, restore.ErrExists, false},
		"if it does not":         {map[string]string{"out.db": "old"}, restore.Options{IfNotExists: true}, nil, true},
		"if it does not, dry":    {map[string]string{"out.db": "old"}, restore.Options{IfNotExists: true, DryRun: true}, nil, true},
		"stray WAL":              {map[string]string{"out.db-wal": "w"}, restore.Options{}, restore.ErrStray, false},
		"stray shm":              {map[string]string{"out.db-shm": "s"}, restore.Options{}, restore.ErrStray, false},
		"stray journal":          {map[string]string{"out.db-journal": "j"}, restore.Options{}, restore.ErrStray, false},
		"stray, if it does not":  {map[string]string{"out.db-wal": "w"}, restore.Options{IfNotExists: true}, restore.ErrStray, false},
		"stray, even with a dry": {map[string]string{"out.db-wal": "w"}, restore.Options{DryRun: true}, restore.ErrStray, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, tc.files)
			opts := options(t, h.bucket)
			opts.IfNotExists, opts.DryRun, opts.Output = tc.opts.IfNotExists, tc.opts.DryRun, filepath.Join(dir, "out.db")
			res, err := restore.Run(t.Context(), opts)
			if !errors.Is(err, tc.want) || res.Skipped != tc.skipped || err != nil && !strings.Contains(err.Error(), opts.Output) {
				t.Errorf("result %+v, %v", res, err)
			}
			assertContents(t, dir, tc.files)
		})
	}
}

// Files of other names are none of its business.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	h := small(t)
	files := map[string]string{"out.db2": "a", "out.db-old": "b", "out-wal": "c", "other.db-wal": "d", ".out.db-tidemark": "e"}
	dir := folder(t, files)
	opts := options(t, h.bucket)
	opts.Output = filepath.Join(dir, "out.db")
	if _, err := restore.Run(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	files["out.db"] = string(h.want(h.last()))
	assertContents(t, dir, files)
}

// With Force what is there moves aside as a set, under one name that is told.
func TestForce(t *testing.T) {
	t.Parallel()
	h := small(t)
	for name, files := range map[string]map[string]string{
		"nothing":         {},
		"alone":           {"out.db": "old"},
		"with its files":  {"out.db": "old", "out.db-wal": "w", "out.db-shm": "s"},
		"with a journal":  {"out.db": "old", "out.db-journal": "j"},
		"only a WAL":      {"out.db-wal": "w"},
		"beside another":  {"out.db": "old", "out.db2": "x", "out.db2-wal": "y"},
		"beside a backup": {"out.db": "old", "out.db.before-restore-20260101T000000.000Z": "older"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, files)
			opts := options(t, h.bucket)
			opts.Force, opts.Output = true, filepath.Join(dir, "out.db")
			res, err := restore.Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for name, content := range files {
				if name == "out.db" || strings.HasPrefix(name, "out.db-") {
					name = filepath.Base(res.MovedAside) + strings.TrimPrefix(name, "out.db")
				}
				want[name] = content
			}
			if (res.MovedAside == "") != (len(files) == 0) || res.MovedAside != "" && !strings.HasPrefix(res.MovedAside, opts.Output+".before-restore-") {
				t.Errorf("moved aside to %q", res.MovedAside)
			}
			want["out.db"] = string(h.want(h.last()))
			assertContents(t, dir, want)
		})
	}
}

// A restore that fails moves nothing aside.
func TestForceFails(t *testing.T) {
	t.Parallel()
	h := small(t)
	files := map[string]string{"out.db": "old", "out.db-wal": "w"}
	dir := folder(t, files)
	opts := options(t, h.with(archive.SegmentKey(5), []byte("damaged")))
	opts.Force, opts.Output = true, filepath.Join(dir, "out.db")
	if res, err := restore.Run(t.Context(), opts); err == nil || res.MovedAside != "" {
		t.Errorf("result %+v", res)
	}
	assertContents(t, dir, files)
}

func TestOtherPlaces(t *testing.T) {
	t.Parallel()
	h := small(t)
	opts := options(t, h.bucket)
	dir := filepath.Dir(opts.Output)
	opts.Output = filepath.Join(dir, "none", "out.db")
	if _, err := restore.Run(t.Context(), opts); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(dir, "none")) {
		t.Errorf("missing folder: %v", err)
	}
	assertFiles(t, dir)
	opts.Output = dir
	for _, opts.Force = range []bool{false, true} {
		if _, err := restore.Run(t.Context(), opts); !errors.Is(err, restore.ErrExists) {
			t.Errorf("a folder: %v", err)
		}
	}
	assertFiles(t, dir)
	if err := os.Symlink("elsewhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	opts.Force, opts.Output = false, filepath.Join(dir, "link")
	if _, err := restore.Run(t.Context(), opts); !errors.Is(err, restore.ErrExists) {
		t.Errorf("a dangling link: %v", err)
	}
	assertFiles(t, dir, "link")
}

// A dry run tells what would be read and made, and makes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	h := small(t)
	for _, target := range []restore.Target{{}, {TXID: 3}, {Time: at(3)}, {TXID: 99}, {TXID: 1}} {
		opts := options(t, h.bucket)
		opts.Target = target
		done, err := restore.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		opts = options(t, h.bucket)
		opts.Target, opts.DryRun = target, true
		dry, err := restore.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if dry.TXID != done.TXID || !dry.Time.Equal(done.Time) || dry.AfterLast != done.AfterLast {
			t.Errorf("dry run %+v, run %+v", dry, done)
		}
		if diff := cmp.Diff(done.Plan, dry.Plan); diff != "" {
			t.Errorf("plan (-run +dry run):\n%s", diff)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// blocking is a bucket that answers a number of Gets and then, instead of the
// next one, cancels what waits for it.
type blocking struct {
	storage.Bucket
	left   chan struct{}
	cancel context.CancelFunc
}

func (b *blocking) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	select {
	case <-b.left:
		return b.Bucket.Get(ctx, key, off, n)
	default:
	}
	b.cancel()
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Wherever a restore is cancelled, it ends and leaves nothing.
func TestCancelled(t *testing.T) {
	t.Parallel()
	h := begin(t, 4096, 1500)
	h.commits(12)
	for _, id := range []state.TXID{4, 8, 13} {
		h.segmentUpTo(id)
	}
	for gets := 0; ; gets++ {
		ctx, cancel := context.WithCancel(t.Context())
		b := &blocking{h.bucket, make(chan struct{}, gets), cancel}
		for range gets {
			b.left <- struct{}{}
		}
		opts := options(t, b)
		_, err := restore.Run(ctx, opts)
		cancel()
		if err == nil {
			if gets < 6 {
				t.Errorf("only %d Gets", gets)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d Gets: %v", gets, err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// failing is a bucket whose Gets fail after a number of them.
type failing struct {
	storage.Bucket
	left chan struct{}
}

var errDown = errors.New("storage is down")

func (b *failing) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	select {
	case <-b.left:
		return b.Bucket.Get(ctx, key, off, n)
	default:
		return nil, errDown
	}
}

// A storage that fails is not taken for a damaged replica, and leaves nothing.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	h := small(t)
	for gets := 0; ; gets++ {
		b := &failing{h.bucket, make(chan struct{}, gets)}
		for range gets {
			b.left <- struct{}{}
		}
		opts := options(t, b)
		_, err := restore.Run(t.Context(), opts)
		if err == nil {
			break
		}
		if !errors.Is(err, errDown) || errors.Is(err, archive.ErrBroken) {
			t.Errorf("after %d Gets: %v", gets, err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// A restored database that SQLite rejects is no output, although it is what was
// committed.
func TestIntegrity(t *testing.T) {
	t.Parallel()
	h := small(t)
	for _, how := range []restore.Integrity{restore.Quick, restore.Full, "thorough"} {
		opts := options(t, h.bucket)
		opts.Integrity = how
		_, err := restore.Run(t.Context(), opts)
		if err == nil || how != "thorough" && !errors.Is(err, restore.ErrIntegrity) {
			t.Errorf("%s: %v", how, err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// Nothing to restore is said as it is.
func TestNoReplica(t *testing.T) {
	t.Parallel()
	begun := bare(t, 512, 3)
	for name, b := range map[string]storage.Bucket{"empty": mem.New(), "begun": begun.bucket} {
		opts := options(t, b)
		if _, err := restore.Run(t.Context(), opts); !errors.Is(err, archive.ErrNoReplica) {
			t.Errorf("%s: %v", name, err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// An output that appears while the restore is under way is not replaced.
func TestAppears(t *testing.T) {
	t.Parallel()
	h := small(t)
	opts := options(t, h.bucket)
	opts.Progress = func(int64, int64) {
		if err := os.WriteFile(opts.Output, []byte("new"), 0o600); err != nil {
			t.Error(err)
		}
	}
	if _, err := restore.Run(t.Context(), opts); !errors.Is(err, restore.ErrExists) {
		t.Errorf("got %v", err)
	}
	assertContents(t, filepath.Dir(opts.Output), map[string]string{"out.db": "new"})
}

// Any name of a file will do.
func TestNames(t *testing.T) {
	t.Parallel()
	h := small(t)
	for _, name := range []string{"a b.db", "what?.db", "100%.db", "#.db", "*.db", "ä.db", "-wal", strings.Repeat("long", 50)} {
		opts := options(t, h.bucket)
		opts.Output = filepath.Join(filepath.Dir(opts.Output), name)
		res, err := restore.Run(t.Context(), opts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		h.compare(h.last(), res)
	}
}
