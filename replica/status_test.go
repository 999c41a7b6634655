package replica_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// watched is an application and the options of its replication.
type watched struct {
	*app
	opts replica.Options
	dir  string
}

func newWatched(t *testing.T, opts replica.Options) *watched {
	t.Helper()
	w := &watched{app: newApp(t, "PRAGMA wal_autocheckpoint=0"), opts: opts}
	w.dir = filepath.Join(t.TempDir(), "state")
	w.opts.Path, w.opts.StateDir, w.opts.Name, w.opts.SyncInterval = w.path, w.dir, "file:///replica", time.Millisecond
	w.opts = w.opts.On(nil)
	return w
}

func (w *watched) status() replica.Status {
	w.t.Helper()
	s, err := replica.ReadStatus(w.path, w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// until waits for a status.
func (w *watched) until(what string, ok func(replica.Status) bool) replica.Status {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		s := w.status()
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("it never told %s, but %+v", what, s)
		}
		<-tick.C
	}
}

// idle waits until all commits are shipped and told to be.
func (w *watched) idle() replica.Status {
	w.t.Helper()
	return w.until("that all is shipped", func(s replica.Status) bool {
		return s.State == replica.StatusFollowing && s.Read.TXID > 0 && int(s.Shipped.TXID) == w.commits+1 && s.WaitingBytes == 0
	})
}

// assertLag checks how far a status says that the replica is behind, an hour on.
func assertLag(t *testing.T, s replica.Status, lags bool) { //nolint:revive // lags is what is expected
	t.Helper()
	lag, known := s.Lag(time.Now().Add(time.Hour))
	if !known || (lag > time.Hour-time.Minute) != lags || !lags && lag != 0 {
		t.Errorf("lag %v (known: %t) in an hour, want some: %t; %+v", lag, known, lags, s)
	}
}

// A replication that goes well says so, and then that it was stopped.
func TestStatusFollowing(t *testing.T) {
	t.Parallel()
	w := newWatched(t, replica.Options{Bucket: mem.New()})
	if s := w.status(); s.State != replica.StatusNone || s.Running {
		t.Errorf("before: %+v", s)
	}
	e := launch(t, w.opts)
	w.insert(5)
	s := w.idle()
	if !s.Running || s.PID != os.Getpid() || s.Replica != "file:///replica" || s.Started.IsZero() || s.Since.Before(s.Started) || s.Updated.Before(s.Since) {
		t.Errorf("who, since when: %+v", s)
	}
	if s.Read != s.Shipped || s.Read.Time.IsZero() || s.Uploaded.Before(s.Read.Time) || s.WaitingCommits != 0 || s.Error != "" || s.Repair != nil {
		t.Errorf("what: %+v", s)
	}
	if s.Database.Bytes == 0 || s.WAL.Modified.IsZero() {
		t.Errorf("files: %+v", s)
	}
	assertLag(t, s, false)
	e.stop()
	s = w.status()
	if _, known := s.Lag(time.Now()); s.State != replica.StatusStopped || s.Running || s.Error != "" || known || s.Shipped.TXID != 6 {
		t.Errorf("after: %+v", s)
	}
	if at := s.Unseen(time.Now()); !at.IsZero() {
		t.Errorf("nothing was written since, but at %v (%+v)", at, s)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(w.path+"-wal", later, later); err != nil {
		t.Fatal(err)
	}
	if at := w.status().Unseen(time.Now()); at.Sub(later).Abs() > time.Millisecond {
		t.Errorf("written at %v, want %v", at, later)
	}
}

// beginning tells when the first snapshot is being put.
type beginning struct {
	faulty
	began chan struct{}
}

// Put implements [storage.Bucket].
func (b *beginning) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if strings.HasPrefix(key, "snapshot/") {
		close(b.began)
	}
	return b.faulty.Put(ctx, key, body, opts)
}

// Until the first snapshot is in storage a run is starting, and lags however few
// commits there are. What was committed meanwhile waits then.
func TestStatusStarting(t *testing.T) {
	t.Parallel()
	b := &beginning{faulty: faulty{Bucket: mem.New(), hold: make(chan struct{})}, began: make(chan struct{})}
	w := newWatched(t, replica.Options{Bucket: b})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := replica.Run(ctx, w.opts); done <- err }()
	s := w.until("that it runs", func(s replica.Status) bool { return s.Running && s.State != replica.StatusUnknown })
	if s.State != replica.StatusStarting || s.UnreadSince.IsZero() || s.Shipped.TXID != 0 {
		t.Errorf("before the first snapshot: %+v", s)
	}
	assertLag(t, s, true)
	<-b.began
	w.insert(3)
	assertLag(t, w.status(), true)
	b.set(true)
	close(b.hold)
	s = w.until("of what waits", func(s replica.Status) bool { return s.State == replica.StatusRetrying && s.WaitingCommits == 3 })
	if s.Shipped.TXID != 1 || s.Shipped.Time.IsZero() || s.Uploaded.Before(s.Shipped.Time) || s.WaitingBytes == 0 || s.OldestWaiting.IsZero() {
		t.Errorf("after the first snapshot: %+v", s)
	}
	assertLag(t, s, true)
	b.set(false)
	assertLag(t, w.idle(), false)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// While storage is away, what waits is counted, and its age is the lag.
func TestStatusStorageAway(t *testing.T) {
	t.Parallel()
	b := &faulty{Bucket: mem.New()}
	w := newWatched(t, replica.Options{Bucket: b, StopPatience: time.Millisecond})
	e := launch(t, w.opts)
	w.insert(1)
	before := w.idle()
	b.set(true)
	w.insert(7)
	s := w.until("of the failure, and of all that waits", func(s replica.Status) bool {
		return s.State == replica.StatusRetrying && s.WaitingCommits == 7
	})
	if !strings.Contains(s.Error, errDown.Error()) || s.Since.Before(before.Updated) || s.Shipped != before.Shipped ||
		s.WaitingBytes == 0 || s.OldestWaiting.Before(before.Read.Time) || s.OldestWaiting.After(s.Read.Time) {
		t.Errorf("storage is away: %+v", s)
	}
	assertLag(t, s, true)
	b.set(false)
	if s = w.idle(); s.Error != "" || !s.Uploaded.After(before.Uploaded) {
		t.Errorf("storage is back: %+v", s)
	}
	assertLag(t, s, false)
	b.set(true)
	w.insert(1)
	if err := e.end(); err == nil {
		t.Error("it stopped well")
	}
	if s = w.status(); s.State != replica.StatusStopped || !strings.Contains(s.Error, "stopped before TXID 10") || s.WaitingCommits != 1 || s.WaitingBytes == 0 {
		t.Errorf("stopped meanwhile: %+v", s)
	}
	b.set(false)
	launch(t, w.opts)
	w.idle()
}

// A full spool is told of, with what was given up, until what it did is in
// storage: also by a process that is started again meanwhile.
func TestStatusOverflow(t *testing.T) {
	t.Parallel()
	b := &outOfReach{faulty: faulty{Bucket: mem.New()}}
	w := newWatched(t, replica.Options{Bucket: b, SpoolLimit: 32 << 10})
	e := launch(t, w.opts)
	w.insert(5)
	w.idle()
	b.set(true)
	waitFor(t, func() bool { w.insert(1); return w.status().State == replica.StatusOverflowed })
	s := w.until("that the spool is dropped", func(s replica.Status) bool { return s.WaitingBytes == 0 })
	given := s.Overflow
	if given == nil || given.First != 7 || given.Last <= given.First || given.Repair != 0 || given.Since.IsZero() || s.Shipped.TXID != 6 || s.WaitingCommits != 0 {
		t.Fatalf("overflowed: %+v, %+v", s, given)
	}
	if given.Oldest.IsZero() || given.Oldest.After(given.Since) {
		t.Errorf("overflowed: %+v", given)
	}
	assertLag(t, s, true)
	_ = e.end()
	if s = w.status(); s.State != replica.StatusStopped || s.Overflow == nil {
		t.Errorf("stopped meanwhile: %+v", s)
	}
	if _, err := replica.Once(t.Context(), w.opts); err == nil {
		t.Error("it ran without storage and local state")
	}
	if s = w.status(); s.State != replica.StatusFailed || s.Error == "" || s.Overflow == nil || s.Overflow.First != 7 {
		t.Errorf("failed meanwhile: %+v", s)
	}
	b.set(false)
	launch(t, w.opts)
	s = w.until("that it is repaired", func(s replica.Status) bool { return s.State == replica.StatusFollowing && s.Shipped.TXID >= 7 })
	r := s.Repair
	if r == nil || s.Overflow != nil || s.Repairs != 1 || r.TXID != 7 || r.Pages == 0 || r.Replaced != given.Commits() || r.Why != "the spool is full" {
		t.Errorf("repaired: %+v, %+v", s, r)
	}
	assertLag(t, w.until("that all is shipped", func(s replica.Status) bool { return s.WaitingBytes == 0 && s.WaitingCommits == 0 }), false)
}

// A resync is told of with its reason, and stays known after a restart.
func TestStatusRepair(t *testing.T) {
	t.Parallel()
	w := newWatched(t, replica.Options{Bucket: mem.New()})
	launch(t, w.opts).stop()
	w.insert(3)
	w.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	w.insert(1)
	e := launch(t, w.opts)
	s := w.until("of the resync", func(s replica.Status) bool { return s.Shipped.TXID == 2 })
	r := s.Repair
	if r == nil || s.Repairs != 1 || r.TXID != 2 || r.Time.IsZero() || r.Pages == 0 || r.Replaced != 0 || !strings.Contains(r.Why, "WAL") {
		t.Errorf("repair: %+v, %+v", s, r)
	}
	e.stop()
	launch(t, w.opts)
	s = w.until("that it follows", func(s replica.Status) bool { return s.State == replica.StatusFollowing })
	if s.Repair == nil || s.Repair.TXID != 2 || s.Repairs != 0 || s.Uploaded.IsZero() || s.Shipped.Time.IsZero() {
		t.Errorf("after a restart: %+v, %+v", s, s.Repair)
	}
}

// A reader that keeps the WAL from being handed off is told of while it does.
func TestStatusBlocked(t *testing.T) {
	t.Parallel()
	w := newWatched(t, replica.Options{Bucket: mem.New(), CheckpointPages: 2})
	launch(t, w.opts)
	reader := &app{t: t, path: w.path}
	reader.open()
	reader.exec("BEGIN")
	reader.digest()
	waitFor(t, func() bool { w.insert(1); return w.status().Blocked != nil })
	if b := w.status().Blocked; b.Frames < 20 || b.Bytes < int64(b.Frames)*512 || b.Why == "" || b.Time.IsZero() {
		t.Errorf("blocked: %+v", b)
	}
	reader.exec("COMMIT")
	w.until("that it passes", func(s replica.Status) bool { return s.Blocked == nil })
}

// What a killed process has told last does not pass for what is so.
func TestStatusKilled(t *testing.T) {
	t.Parallel()
	w := newWatched(t, replica.Options{Bucket: mem.New()})
	launch(t, w.opts)
	w.insert(5)
	w.idle()
	told, err := os.ReadFile(filepath.Join(w.dir, "status.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.dir = t.TempDir() // as the process leaves it: the lock is not held
	if err := errors.Join(os.WriteFile(filepath.Join(w.dir, "status.json"), told, 0o600), os.WriteFile(filepath.Join(w.dir, "lock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s := w.status()
	if _, known := s.Lag(time.Now()); s.State != replica.StatusKilled || s.Running || known || s.PID != os.Getpid() || s.Shipped.TXID != 6 {
		t.Errorf("killed: %+v", s)
	}
	d, err := local.Open(disk.OS{}, w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if s := w.status(); s.State != replica.StatusFollowing || !s.Running {
		t.Errorf("somebody has the lock: %+v", s)
	}
	told = []byte(strings.Replace(string(told), `"state":"following"`, `"state":"stopped"`, 1))
	if err := d.SaveStatus(told); err != nil {
		t.Fatal(err)
	}
	if s := w.status(); s.State != replica.StatusUnknown || !s.Running || s.PID != 0 {
		t.Errorf("the run before was stopped, and there is one: %+v", s)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// A status file that is none, or another database's, hinders nobody.
func TestStatusForeign(t *testing.T) {
	t.Parallel()
	other := replica.Status{State: replica.StatusFollowing, Overflow: &replica.Overflow{First: 1, Last: 9}}
	b, err := json.Marshal(struct {
		Format int    `json:"format"`
		Path   string `json:"path"`
		replica.Status
	}{1, "/another.db", other})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "garbage": "\x00\xff{", "object": "{}", "list": "[]", "another's": string(b), "another type": `{"format":1,"path":7}`,
		"later version": strings.Replace(strings.Replace(string(b), `"format":1`, `"format":2`, 1), "/another.db", "PATH", 1), "folder": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWatched(t, replica.Options{Bucket: mem.New()})
			path := filepath.Join(w.dir, "status.json")
			if err := os.MkdirAll(w.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			var err error
			if name == "folder" {
				err = os.MkdirAll(filepath.Join(path, "full"), 0o700) // can't be replaced
			} else {
				err = os.WriteFile(path, []byte(strings.Replace(text, "PATH", w.path, 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := w.status(); s.State != replica.StatusUnknown || s.Running {
				t.Errorf("before: %+v", s)
			}
			e := launch(t, w.opts)
			w.insert(2)
			shipped(t, w.opts.Bucket, 3)
			if name == "folder" {
				if s := w.status(); s.State != replica.StatusUnknown || !s.Running {
					t.Errorf("it runs, and can't tell: %+v", s)
				}
			} else if s := w.idle(); s.Overflow != nil {
				t.Errorf("it believes %+v", s.Overflow)
			}
			e.stop()
		})
	}
}

// What is not there is an error, unless something is known about it.
func TestStatusOfNothing(t *testing.T) {
	t.Parallel()
	w := newWatched(t, replica.Options{Bucket: mem.New()})
	if _, err := replica.ReadStatus(filepath.Join(t.TempDir(), "no.db"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no database: %v", err)
	}
	if err := os.WriteFile(w.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.ReadStatus(w.path, w.dir); err == nil {
		t.Error("the state directory is a file, and that is no error")
	}
	w.dir = filepath.Join(t.TempDir(), "state")
	w.opts.StateDir = w.dir
	launch(t, w.opts).stop()
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(w.path, link); err != nil {
		t.Skip("no links here: ", err)
	}
	if s, err := replica.ReadStatus(link, w.dir); err != nil || s.State != replica.StatusStopped {
		t.Errorf("through a link: %+v, %v", s, err)
	}
	w.close()
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	if s := w.status(); s.State != replica.StatusStopped || s.Database != (replica.FileFacts{}) {
		t.Errorf("a database that was deleted: %+v", s)
	}
}
