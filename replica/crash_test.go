package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/disk/disktest"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// A trial is one story, of writes, uploads, hand-offs, an outage and restarts, on
// a disk and a bucket of which one operation fails or is the last.
type trial struct {
	*scene
	disk *disktest.Disk
	// counted is the bucket as tidemark sees it.
	counted *counted
	// following tells that tidemark follows the database: from then on nothing
	// that may pass stops it.
	following atomic.Bool
	// pardons, if not nil, tells of an error that tidemark ends with whether it
	// is started again, as by a supervisor.
	pardons func(error) bool
	ctx     context.Context //nolint:containedctx // a trial's life
	crash   context.CancelFunc
	// failures are the errors of the operations that have failed.
	mu       sync.Mutex
	failures []error
}

// counted makes each request an operation of the disk's.
type counted struct {
	*mem.Bucket
	disk *disktest.Disk
	mu   sync.Mutex
	down bool
}

func (c *counted) do(op string, fn func() error) error {
	c.mu.Lock()
	down := c.down
	c.mu.Unlock()
	if down {
		return fmt.Errorf("%s: %w", op, storage.ErrUnreachable)
	}
	return c.disk.Do(op, fn)
}

func (c *counted) set(down bool) { c.mu.Lock(); defer c.mu.Unlock(); c.down = down }

func (c *counted) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	return c.do("put "+key, func() error { return c.Bucket.Put(ctx, key, body, opts) })
}

func (c *counted) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	err = c.do("get "+key, func() error { r, err = c.Bucket.Get(ctx, key, off, n); return err })
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (c *counted) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	return c.do("list", func() error { return c.Bucket.List(ctx, prefix, after, fn) })
}

func newTrial(t *testing.T, plan disktest.Plan) *trial {
	t.Helper()
	tr := new(trial)
	d := disktest.New(func(n int, op string) disktest.Verdict {
		v := plan(n, op)
		if v.Err != nil {
			tr.mu.Lock()
			tr.failures = append(tr.failures, v.Err)
			tr.mu.Unlock()
		}
		return v
	})
	tr.disk = d
	tr.ctx, tr.crash = context.WithCancel(t.Context())
	d.OnCrash = tr.crash
	tr.scene = newScene(t, func(*scene) {})
	tr.counted = &counted{Bucket: tr.b, disk: d}
	tr.opts.Bucket = tr.counted
	tr.opts.CheckpointPages, tr.opts.StopPatience = 6, 100*time.Millisecond
	tr.opts.SnapshotInterval = time.Nanosecond // incremental ones are in the story, too
	tr.opts = tr.opts.On(d).Packed(upkeep.Packing{Newest: 2, Most: 1, Share: 1})
	var log bytes.Buffer
	tr.opts.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the log: ", log.String())
		}
	})
	return tr
}

// once runs tidemark to its end.
func (tr *trial) once() {
	tr.t.Helper()
	for starts := 1; !tr.disk.Crashed(); starts++ {
		_, err := replica.Once(tr.ctx, tr.opts)
		if err == nil || tr.disk.Crashed() {
			return
		}
		if !tr.again(err, starts) {
			tr.t.Fatalf("Once, start %d: %v", starts, err)
		}
	}
}

// again tells whether tidemark is started again after an error.
func (tr *trial) again(err error, starts int) bool {
	return tr.pardons != nil && tr.pardons(err) && starts < maxStarts
}

// maxStarts is how often tidemark is started again, which is more often than
// operations fail.
const maxStarts = 50

// during runs tidemark while the application does something.
func (tr *trial) during(do func(e *running)) {
	tr.t.Helper()
	if tr.disk.Crashed() {
		return
	}
	ctx, stop := context.WithCancel(tr.ctx)
	defer stop()
	e := &running{trial: tr, done: make(chan struct{})}
	opts := tr.opts
	opts.Ready = func() { tr.following.Store(true) }
	go func() {
		defer close(e.done)
		for starts := 1; ; starts++ {
			_, e.err = replica.Run(ctx, opts)
			if e.err == nil || ctx.Err() != nil || tr.disk.Crashed() || !tr.again(e.err, starts) {
				return
			}
		}
	}()
	// What is committed while it starts can become a part of a resync.
	e.wait(tr.following.Load)
	do(e)
	tr.following.Store(false)
	early := e.ended()
	stop()
	<-e.done
	// A stop that comes while something fails, or in whose last steps it does, says so;
	// the next start goes on.
	if e.err != nil && !tr.disk.Crashed() && (early || !tr.tells(e.err)) && !tr.again(e.err, 0) {
		tr.t.Fatal("Run: ", e.err)
	}
}

// tells tells whether an error is what has failed.
func (tr *trial) tells(err error) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.ContainsFunc(tr.failures, func(f error) bool { return errors.Is(err, f) })
}

// running is tidemark while it runs.
type running struct {
	*trial
	done chan struct{}
	err  error
}

// ended tells whether it has ended.
func (e *running) ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// reach waits until all commits are in the archive, or what they did in a resync,
// or it crashed.
func (e *running) reach() {
	e.t.Helper()
	var seen state.TXID
	e.wait(func() bool {
		newest := newestIn(e.t, e.b)
		if newest >= state.TXID(len(e.states)) {
			return true
		}
		if newest == seen {
			return false
		}
		seen = newest
		if !slices.ContainsFunc(commitsOf(e.t, e.b), func(c archive.Commit) bool { return c.Resync }) {
			return false
		}
		got, _ := restoredFile(e.t, e.b, newest)
		return got == e.states[len(e.states)-1]
	})
}

// wait waits for something, unless it crashed.
func (e *running) wait(ok func() bool) {
	e.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-e.done:
			return
		case <-tick.C:
		case <-deadline:
			e.t.Fatalf("waited for too long; the archive is at TXID %v of %d", newestIn(e.t, e.b), len(e.states))
		}
	}
}

// newestIn is the archive's newest commit, 0 if it can't be read.
func newestIn(t *testing.T, b storage.Bucket) state.TXID {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		return 0
	}
	h, err := a.Head(t.Context())
	if err != nil {
		return 0
	}
	return h.Last
}

// tell tells the story.
func (tr *trial) tell() {
	tr.t.Helper()
	tr.once()
	tr.insert(2)
	tr.during(func(e *running) {
		e.insert(1)
		e.reach()
		e.insert(5) // hands off
		e.commit("INSERT INTO big VALUES(randomblob(30000))")
		e.reach()
		tr.counted.set(true)
		for range 6 { // into the spool, with hand-offs
			e.update(2)
		}
		e.wait(func() bool { fi, err := os.Stat(e.a.path + "-wal"); return err != nil || fi.Size() < 40*4120 })
		tr.counted.set(false)
		e.reach()
	})
	tr.insert(2)
	tr.a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	tr.insert(2)
	tr.once()
}

// leave makes the next run find what a crash leaves. A power cut leaves the
// application's files, and nobody who has them open.
func (tr *trial) leave(t *testing.T, loss disktest.Loss) *scene {
	t.Helper()
	next := *tr.scene
	next.t = t
	next.b = clone(t, tr.b, func(string) bool { return true })
	next.opts = replica.Options{
		Path: tr.a.path, Bucket: next.b, StateDir: filepath.Join(t.TempDir(), "left"), Logger: discard(),
	}
	if err := tr.disk.Leave(tr.opts.StateDir, next.opts.StateDir, loss); err != nil {
		t.Fatal(err)
	}
	if loss != disktest.Nothing {
		path := filepath.Join(t.TempDir(), "app.db")
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(tr.a.path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		next.a = &app{t: t, path: path}
		next.a.open()
		next.opts.Path = path
	}
	return &next
}

// recover runs tidemark again after a crash and compares the history: no commit is
// wrong, what was in the archive is there, and what was committed since is.
func (s *scene) recover() {
	s.t.Helper()
	for range 2 {
		if _, err := replica.Once(s.t.Context(), s.opts); err != nil {
			s.t.Fatalf("the start after the crash: %v", err)
		}
		s.insert(1)
	}
	if _, err := replica.Once(s.t.Context(), s.opts); err != nil {
		s.t.Fatal(err)
	}
	s.traced()
}

// traced compares the commits of the archive with what was committed: without a
// resync each is the next one's state.
func (s *scene) traced() {
	s.t.Helper()
	at := -1
	for _, c := range commitsOf(s.t, s.b) {
		got, _ := restoredFile(s.t, s.b, c.TXID)
		next := at + 1
		if at < 0 || c.Resync || c.Snapshot {
			for next = max(at, 0); next < len(s.states) && s.states[next] != got; {
				next++
			}
		}
		if next >= len(s.states) || s.states[next] != got {
			s.t.Fatalf("TXID %v (resync: %t) is no state that was committed after the one before it, commit %d", c.TXID, c.Resync, at+1)
		}
		at = next
	}
	if at != len(s.states)-1 {
		s.t.Errorf("the history ends with commit %d of %d", at+1, len(s.states))
	}
}

// Whichever operation on local state or storage is the last one before a kill or a
// power cut, the next start goes on rightly.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	most := 0
	for range 3 { // it is not quite the same each time
		ops := 0
		whole := newTrial(t, func(_ int, op string) disktest.Verdict {
			if changes(op) {
				ops++
			}
			return disktest.Verdict{}
		})
		whole.tell()
		whole.traced()
		most = max(most, ops)
	}
	t.Logf("the story has %d operations that change something", most)
	for k := 1; k <= most+20; k++ {
		t.Run(strconv.Itoa(k), func(t *testing.T) {
			t.Parallel()
			var what string
			left := k
			tr := newTrial(t, func(_ int, op string) disktest.Verdict {
				if changes(op) {
					left--
					what = op
				}
				return disktest.Verdict{Crash: left == 0}
			})
			tr.tell()
			if !tr.disk.Crashed() {
				return
			}
			for _, loss := range losses(k) {
				t.Run(loss.String(), func(t *testing.T) {
					defer func() {
						if t.Failed() {
							t.Logf("the last operation was %d, %s", k, what)
						}
					}()
					tr.leave(t, loss).recover()
				})
			}
		})
	}
}

// lengths are how many operations fail, from the k-th on. In CI it is one or
// some, in turn, and few of those that only read.
func lengths(k int, op string) []int {
	all := []int{1, 4}
	switch {
	case os.Getenv("TIDEMARK_TEST_LONG") != "":
		return all
	case !changes(op) && k%8 > 0:
		return nil
	default:
		return all[k%2 : k%2+1]
	}
}

// changes tells whether an operation does: a crash at one that does not is a
// crash at the next.
func changes(op string) bool {
	verb, name, _ := strings.Cut(op, " ")
	switch verb {
	case "read", "list", "get":
		return false
	case "open":
		return strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".part") || strings.HasSuffix(name, ".sums")
	default:
		return true
	}
}

// losses are what is lost at the k-th operation. In CI it is one of three, mostly
// what was not synced.
func losses(k int) []disktest.Loss {
	switch {
	case os.Getenv("TIDEMARK_TEST_LONG") != "":
		return []disktest.Loss{disktest.Unsynced, disktest.UnsyncedContent, disktest.Nothing}
	case k%4 == 0:
		return []disktest.Loss{disktest.Nothing}
	case k%4 == 2:
		return []disktest.Loss{disktest.UnsyncedContent}
	default:
		return []disktest.Loss{disktest.Unsynced}
	}
}

var errNone = errors.New("none")

// Whichever operation fails, for a while, replication reports it, tries again and
// loses nothing: no restart, no resync.
func TestFailureAtEveryOperation(t *testing.T) {
	t.Parallel()
	var ops []string
	whole := newTrial(t, func(_ int, op string) disktest.Verdict {
		ops = append(ops, op)
		return disktest.Verdict{}
	})
	whole.tell()
	errs := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE, syscall.EACCES}
	for k := 1; k <= len(ops); k++ {
		for _, length := range lengths(k, ops[k-1]) {
			t.Run(fmt.Sprintf("%d for %d", k, length), func(t *testing.T) {
				t.Parallel()
				var what []string
				var tr *trial
				tr = newTrial(t, func(n int, op string) disktest.Verdict {
					if n < k || n >= k+length || !tr.following.Load() {
						return disktest.Verdict{}
					}
					what = append(what, op)
					if strings.HasPrefix(op, "put") || strings.HasPrefix(op, "get") || strings.HasPrefix(op, "list") {
						return disktest.Verdict{Err: fmt.Errorf("%w: %w", storage.ErrUnreachable, errNone), Late: n%2 == 0}
					}
					return disktest.Verdict{Err: errs[(k+n)%len(errs)]}
				})
				defer func() {
					if t.Failed() {
						t.Logf("what failed: %q", what)
					}
				}()
				tr.tell()
				tr.traced()
				cs := commitsOf(t, tr.b)
				for _, c := range cs[:len(cs)-1] { // the last was while tidemark was down
					if c.Resync {
						t.Errorf("TXID %v is a resync", c.TXID)
					}
				}
			})
		}
	}
}
