package replica_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Every commit is restorable, whatever hand-offs and segment borders lie
// between.
func TestEveryCommit(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]replica.Options{
		"at once":            {SyncInterval: 0, CheckpointPages: 7},
		"few hand-offs":      {SyncInterval: time.Millisecond, CheckpointPages: 200},
		"shipped at the end": {SyncInterval: time.Hour, CheckpointPages: 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newApp(t), mem.New()
			opts.Path, opts.Bucket = a.path, b
			e := launch(t, opts)
			want := []string{"", a.digest()}
			for range 60 {
				a.insert(1)
				want = append(want, a.digest())
			}
			a.exec("DELETE FROM t WHERE id % 3 = 0")
			want = append(want, a.digest())
			if rep := e.stop(); int(rep.TXID) != len(want)-1 || int(rep.Commits) != len(want)-1 {
				t.Errorf("report %+v, want %d commits", rep, len(want)-1)
			}
			if n := len(commitsOf(t, b)); n != len(want)-1 {
				t.Errorf("%d commits in the archive, want %d", n, len(want)-1)
			}
			for id := 1; id < len(want); id++ {
				if got := restored(t, b, state.TXID(id)); got != want[id] {
					t.Errorf("TXID %d: digest %s, want %s", id, got, want[id])
				}
			}
			assertHealthy(t, a)
		})
	}
}

// assertHealthy checks that the application's database is as it should be.
func assertHealthy(t *testing.T, a *app) {
	t.Helper()
	var verdict string
	if err := a.db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %v %v", verdict, err)
	}
	var tables int
	if err := a.db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables != 1 {
		t.Errorf("%d schema entries (%v), want the application's one", tables, err)
	}
}

// A replicator that starts again carries on from the WAL's position, commit by
// commit, as long as the WAL or the database file proves it.
func TestCarryOn(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Millisecond}
	launch(t, opts).stop()
	for i := range 4 {
		if i >= 2 { // a new WAL, of which nothing is in the database file yet
			a.close()
			a.open()
		}
		a.insert(5)
		e := launch(t, opts)
		a.insert(5)
		e.stop()
	}
	cs := commitsOf(t, b)
	if len(cs) != a.commits+1 {
		t.Errorf("%d commits, the application made %d and the replica began with 1", len(cs), a.commits)
	}
	for _, c := range cs {
		if c.Resync {
			t.Errorf("TXID %v is a resync", c.TXID)
		}
	}
	if got := restored(t, b, 0); got != a.digest() {
		t.Error("the newest state differs")
	}
}

// When the WAL can't prove what happened while the replicator was down, the
// pages that differ become one commit; if none do, nothing is uploaded.
func TestResync(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(a *app){
		"nothing":       func(*app) {},
		"closed":        func(a *app) { a.close(); a.open() },
		"written":       func(a *app) { a.insert(5); a.close(); a.open() },
		"WAL restarted": func(a *app) { a.insert(3); a.exec("PRAGMA wal_checkpoint(RESTART)"); a.insert(3) },
		"truncated":     func(a *app) { a.insert(3); a.exec("PRAGMA wal_checkpoint(TRUNCATE)") },
		"shrunk":        func(a *app) { a.exec("DELETE FROM t"); a.exec("VACUUM"); a.close(); a.open() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newApp(t), mem.New()
			opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Millisecond}
			e := launch(t, opts)
			a.insert(20)
			e.stop()
			before, was := last(t, b), a.digest()
			down(a)
			changed := a.digest() != was
			e = launch(t, opts)
			a.insert(1)
			e.stop()
			cs := commitsOf(t, b)
			want := int(before) + 1
			if changed {
				want++
				if !cs[before].Resync {
					t.Errorf("TXID %v is no resync", cs[before].TXID)
				}
			}
			if len(cs) != want {
				t.Errorf("%d commits, want %d", len(cs), want)
			}
			if got := restored(t, b, 0); got != a.digest() {
				t.Error("the newest state differs")
			}
			if got := restored(t, b, before); got != was {
				t.Error("the state before differs")
			}
		})
	}
}

// Without its local state, a database that is at the replica's newest commit
// goes on without an upload; another one is refused unless told to take over.
func TestLostState(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Millisecond}
	e := launch(t, opts)
	a.insert(10)
	e.stop()
	before := last(t, b)

	lose(t, a)
	launch(t, opts).stop()
	if now := last(t, b); now != before {
		t.Errorf("TXID went from %v to %v though nothing changed", before, now)
	}
	a.insert(3)
	lose(t, a)
	if _, err := replica.Once(t.Context(), opts); !errors.Is(err, replica.ErrRefused) {
		t.Errorf("a database that differs: %v, want ErrRefused", err)
	}
	if now := last(t, b); now != before {
		t.Errorf("TXID went from %v to %v by a refused database", before, now)
	}
	opts.Takeover = true
	if _, err := replica.Once(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if got := restored(t, b, 0); got != a.digest() {
		t.Error("the newest state differs")
	}
	if cs := commitsOf(t, b); len(cs) != int(before)+1 || !cs[before].Resync {
		t.Errorf("%d commits, want %d with a resync at the end", len(cs), before+1)
	}
}

func lose(t *testing.T, a *app) {
	t.Helper()
	if err := os.RemoveAll(local.DefaultPath(a.path)); err != nil {
		t.Fatal(err)
	}
}

// Two replicators of one database, or one replica, don't get into each other's
// way.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Millisecond}
	first := launch(t, opts)
	if _, err := replica.Once(t.Context(), opts); !errors.Is(err, replica.ErrLocked) {
		t.Errorf("a second replicator: %v, want ErrLocked", err)
	}
	a.insert(1)
	shipped(t, b, 2)
	second := opts
	second.StateDir = filepath.Join(t.TempDir(), "other")
	e := launch(t, second) // at the newest commit, so it may
	a.insert(1)
	errs := []error{}
	for _, e := range []*engine{first, e} {
		select {
		case err := <-e.done:
			errs = append(errs, err)
		case <-time.After(300 * time.Millisecond):
		}
	}
	// The same commit becomes the same bytes only if it was seen in the same
	// millisecond: then neither could tell, and no harm is done.
	for _, err := range errs {
		if !errors.Is(err, replica.ErrFenced) {
			t.Errorf("the loser stopped with %v, want ErrFenced", err)
		}
	}
	if len(errs) > 1 {
		t.Error("both stopped")
	}
	first.end() //nolint:errcheck // either
	e.end()     //nolint:errcheck // either
	commitsOf(t, b)
	if got := restored(t, b, 0); got != a.digest() {
		t.Error("the newest state differs")
	}
}

// Commits made while the first snapshot is being written are all there, with
// the times at which they were made.
func TestCommitsDuringFirstSnapshot(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), &faulty{Bucket: mem.New(), hold: make(chan struct{})}
	a.insert(10)
	done := make(chan error, 1)
	start := time.Now()
	go func() {
		_, err := replica.Once(t.Context(), replica.Options{Path: a.path, Bucket: b, SyncInterval: 0})
		done <- err
	}()
	waitFor(t, func() bool { return has(t, b, "tidemark.json") })
	var want []string
	for range 30 {
		a.insert(1)
		want = append(want, a.digest())
	}
	close(b.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cs := commitsOf(t, b)
	if len(cs) < 2 {
		t.Fatalf("%d commits", len(cs))
	}
	for i := range min(len(cs)-1, 30) {
		id := cs[len(cs)-1-i].TXID
		if got := restored(t, b, id); got != want[29-i] {
			t.Errorf("TXID %v: digest %s, want %s", id, got, want[29-i])
		}
	}
	if cs[0].Time.Before(start.Add(-time.Second)) {
		t.Error("the first state is older than the test")
	}
}

func has(t *testing.T, b storage.Bucket, key string) bool {
	t.Helper()
	r, err := b.Get(t.Context(), key, 0, 0)
	if err != nil {
		return false
	}
	return r.Close() == nil
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("waited for too long")
		}
		<-tick.C
	}
}

// A second run without commits costs one List, two Gets (what the replica is, and
// that its newest segment is ours) and one Put that finds out whether conditional
// writes are honoured.
func TestOnceRequests(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	if _, err := replica.Once(t.Context(), replica.Options{Path: a.path, Bucket: b}); err != nil {
		t.Fatal(err)
	}
	for _, commits := range []int{0, 5} {
		a.insert(commits)
		c := storage.Count(b)
		rep, err := replica.Once(t.Context(), replica.Options{Path: a.path, Bucket: c})
		if err != nil {
			t.Fatal(err)
		}
		want := storage.Requests{List: 1, Get: 2, Put: 1}
		if commits > 0 {
			want.Put = 2
		}
		if got := c.Requests(); got != want || int(rep.Commits) != commits {
			t.Errorf("%d commits: requests %+v, want %+v; report %+v", commits, got, want, rep)
		}
	}
}

// What can't be followed is refused before anything changes.
func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := newApp(t)
	old.exec("PRAGMA journal_mode=DELETE")
	exclusive := newApp(t, "PRAGMA locking_mode=EXCLUSIVE")
	exclusive.insert(1)
	for name, c := range map[string]struct {
		opts replica.Options
		want error
	}{
		"no file":      {replica.Options{Path: filepath.Join(dir, "none.db")}, os.ErrNotExist},
		"directory":    {replica.Options{Path: dir}, replica.ErrRefused},
		"text":         {replica.Options{Path: write("text", string(make([]byte, 4096)))}, replica.ErrNotDatabase},
		"empty":        {replica.Options{Path: write("empty", "")}, replica.ErrNotDatabase},
		"cut off":      {replica.Options{Path: write("short", "SQLite format 3\x00")}, replica.ErrNotDatabase},
		"journal mode": {replica.Options{Path: old.path, KeepJournalMode: true}, replica.ErrRefused},
		"exclusive":    {replica.Options{Path: exclusive.path}, replica.ErrRefused},
	} {
		b := mem.New()
		c.opts.Bucket = b
		if _, err := replica.Once(t.Context(), c.opts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if has(t, b, "tidemark.json") {
			t.Errorf("%s: a replica was created", name)
		}
	}
	b := mem.New()
	if _, err := replica.Once(t.Context(), replica.Options{Path: old.path, Bucket: b}); err != nil {
		t.Errorf("a rollback-journal database: %v", err)
	}
}

// A replicator that follows a file which is no longer the database says so.
func TestReplaced(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	e := launch(t, replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Hour})
	a.insert(3)
	want := a.digest()
	if err := os.Rename(a.path, a.path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := <-e.done; !errors.Is(err, replica.ErrReplaced) {
		t.Errorf("the database was moved away: %v, want ErrReplaced", err)
	}
	if got := restored(t, b, 0); got != want {
		t.Error("what was read before is not shipped")
	}
}

// A first snapshot that a stop interrupts is no success.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), &faulty{Bucket: mem.New(), hold: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := replica.Run(ctx, replica.Options{Path: a.path, Bucket: b})
		done <- err
	}()
	waitFor(t, func() bool { return has(t, b, "tidemark.json") })
	cancel()
	close(b.hold)
	if err := <-done; err != nil && !errors.Is(err, replica.ErrUnfinished) {
		t.Errorf("stopped in the first snapshot: %v, want ErrUnfinished", err)
	}
	if _, err := replica.Once(t.Context(), replica.Options{Path: a.path, Bucket: b.Bucket}); err != nil {
		t.Errorf("the next run: %v", err)
	}
	if got := restored(t, b, 0); got != a.digest() {
		t.Error("the newest state differs")
	}
}
