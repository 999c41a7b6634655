package replica

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/storage"
)

// counted is a bucket that only counts.
type counted struct {
	storage.Bucket
	n storage.Requests
}

func (c *counted) Requests() storage.Requests { return c.n }

// only gives the one replication that there is.
func only(t *testing.T, r *roster) Measured {
	t.Helper()
	all := r.metrics().Replications
	if len(all) != 1 {
		t.Fatalf("there are %d", len(all))
	}
	return all[0]
}

// A replication is there from before it starts until it is told to end, with what its
// tracker and its bucket count.
func TestRoster(t *testing.T) {
	t.Parallel()
	var r roster
	if n := len(r.metrics().Replications); n != 0 {
		t.Errorf("%d at first", n)
	}
	bucket := &counted{n: storage.Requests{Put: 3}}
	opts := Options{Path: "b.db", Name: "one", Bucket: bucket}
	ctx, cancel := context.WithCancel(t.Context())
	leave := r.enter(ctx, opts)
	m := only(t, &r)
	if m.Database != "b.db" || m.Replica != "one" || m.Status.State != StatusStarting || !m.Status.Running || !m.Counted || m.Requests.Put != 3 {
		t.Errorf("while it waits for its turn: %+v", m)
	}
	if _, known := m.Lag(time.Now()); !known {
		t.Error("no lag is known while it waits for its turn")
	}
	tr, _ := newTold()
	r.tells(opts, tr)
	tr.follows()
	tr.has(StatusCommit{TXID: 7}, backlog{bytes: 5})
	bucket.n.Put = 4
	if m := only(t, &r); m.Status.State != StatusFollowing || m.Status.Read.TXID != 7 || m.Status.WaitingBytes != 5 || m.Requests.Put != 4 || m.Looked.IsZero() {
		t.Errorf("while it follows: %+v", m)
	}
	for _, o := range []Options{{Path: "b.db", Name: "another"}, {Path: "a.db", Name: "one"}} {
		defer r.enter(t.Context(), o)(nil)
	}
	var order []runKey
	for _, m := range r.metrics().Replications {
		order = append(order, runKey{m.Database, m.Replica})
	}
	if want := []runKey{{"a.db", "one"}, {"b.db", "another"}, {"b.db", "one"}}; !slices.Equal(order, want) {
		t.Errorf("they are %v, want %v", order, want)
	}
	r.forget("b.db", "one") // it runs
	if n := len(r.metrics().Replications); n != 3 {
		t.Errorf("%d are left, one that runs was forgotten", n)
	}
	cancel()
	leave(errors.New("stopped before all was uploaded"))
	if n := len(r.metrics().Replications); n != 2 {
		t.Errorf("%d are left after one was told to end", n)
	}
}

// One that an error has ended stays, as it was at last, until it begins again or is
// forgotten. One that is refused since the same runs already changes nothing.
func TestRosterFailed(t *testing.T) {
	t.Parallel()
	var r roster
	opts := Options{Path: "a.db", Name: "one", Bucket: &counted{n: storage.Requests{Get: 9}}}
	r.enter(t.Context(), opts)(errors.New("no such file")) // before it had a tracker
	if m := only(t, &r); m.Status.State != StatusFailed || m.Status.Error != "no such file" || m.Status.Running || m.Requests.Get != 9 {
		t.Errorf("%+v", m)
	}
	leave := r.enter(t.Context(), opts)
	tr, _ := newTold()
	r.tells(opts, tr)
	tr.follows()
	tr.parks(true)
	r.enter(t.Context(), opts)(errors.New("locked"))
	if m := only(t, &r); m.Status.State != StatusFollowing || !m.Parked {
		t.Errorf("after a second one was refused: %+v", m)
	}
	tr.has(StatusCommit{TXID: 5}, backlog{})
	tr.ends(errors.New("fenced"), false)
	if m := only(t, &r); m.Status.State != StatusFailed || m.Status.Running {
		t.Errorf("before it has ended: %+v", m)
	}
	leave(errors.New("fenced"))
	m := only(t, &r)
	if _, known := m.Lag(time.Now()); known || m.Status.State != StatusFailed || m.Status.Read.TXID != 5 || m.Status.Error != "fenced" || m.Parked {
		t.Errorf("%+v", m)
	}
	r.fail("a.db", "one", errors.New("it failed otherwise, too"))
	if m := only(t, &r); m.Status.Read.TXID != 5 || m.Status.Error != "fenced" {
		t.Errorf("%+v", m)
	}
	r.forget("a.db", "another")
	only(t, &r)
	r.forget("a.db", "one")
	if n := len(r.metrics().Replications); n != 0 {
		t.Errorf("%d are left", n)
	}
	r.fail("a.db", "one", errors.New("no credentials"))
	if m := only(t, &r); m.Database != "a.db" || m.Replica != "one" || m.Status.State != StatusFailed || m.Status.Error != "no credentials" {
		t.Errorf("%+v", m)
	}
	leave = r.enter(t.Context(), opts)
	leave(nil)
	if n := len(r.metrics().Replications); n != 0 {
		t.Errorf("%d are left after one has ended", n)
	}
}

// A tracker counts what happens to it.
func TestTrackerCounts(t *testing.T) {
	t.Parallel()
	var r roster
	opts := Options{Path: "a.db", Name: "one"}
	defer r.enter(t.Context(), opts)(nil)
	tr, w := newTold()
	r.tells(opts, tr)
	tr.follows()
	written := len(w.all)
	const ms = time.Millisecond
	for _, res := range []source.HandOffResult{
		{Complete: true, Locked: 3 * ms}, {Complete: true, Locked: 2 * ms}, {Locked: 70 * ms, Why: "a reader"}, {Why: "no lock"},
	} {
		tr.handedOff(res)
	}
	tr.uploaded(10, 1000)
	tr.uploaded(1, 1)
	tr.packed(300)
	tr.pruned(2)
	tr.pruned(3)
	tr.at(4, 4096)
	tr.parks(true)
	tr.parks(false)
	turns(tr, 20*ms)
	if n := len(w.all) - written; n > 0 {
		t.Errorf("the status was written %d times for what it does not tell", n)
	}
	at := time.UnixMilli(1000).UTC()
	first := StatusCommit{TXID: 1, Time: at}
	tr.snapshots(StatusSnapshot{StatusCommit: first, Bytes: 50})
	tr.snapshots(StatusSnapshot{StatusCommit: StatusCommit{TXID: 8, Time: at.Add(ms)}, Base: 1, Bytes: 5})
	tr.snapshots(StatusSnapshot{StatusCommit: StatusCommit{TXID: 8}, Base: 1, Bytes: 5}) // asked for, and there already
	last := StatusCommit{TXID: 8, Time: at.Add(ms)}
	if got := tr.measured().Status.LastSnapshot; got != last {
		t.Errorf("the last snapshot is of %+v, want %+v", got, last)
	}
	tr.snapshots(StatusSnapshot{StatusCommit: StatusCommit{TXID: 9, Time: at.Add(2 * ms)}, Error: "no reader"})
	if got := tr.measured().Status.LastSnapshot; got != last {
		t.Errorf("the last snapshot is of %+v after one that failed", got)
	}
	tr.fails(errors.New("disk full"))
	tr.refuses(errors.New("away"))
	tr.refuses(errors.New("still away"))
	tr.overflows()
	m := only(t, &r)
	want := Counts{
		Commits: 11, SegmentBytes: 1001, SnapshotBytes: 55, PackBytes: 300, Complete: 2, Incomplete: 1, Unlocked: 1, MaxLocked: 70 * ms,
		Overflows: 1, Failures: 1, UploadFailures: 2, SnapshotFailures: 1, FullSnapshots: 1, Incrementals: 1, Packs: 1, Pruned: 5,
	}
	if diff := cmp.Diff(want, m.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if m.WALFrames != 4 || m.WALBytes != 32+4*(24+4096) {
		t.Errorf("the WAL has %d frames, %d bytes", m.WALFrames, m.WALBytes)
	}
	locked := r.metrics().Locked
	for i, want := range map[int]uint64{2: 1, 3: 1, 7: 1} { // up to 2 ms, up to 5 ms, up to 100 ms
		if locked.Counts[i] != want {
			t.Errorf("%d locks of up to %v, want %d", locked.Counts[i], locked.Bounds[i], want)
		}
	}
	if locked.Sum != 75*ms || len(locked.Counts) != len(locked.Bounds)+1 {
		t.Errorf("locks %+v", locked)
	}
}

// The newest snapshot is known over restarts, also if one of them makes none.
func TestLastSnapshotIsKept(t *testing.T) {
	t.Parallel()
	dir, err := local.Open(disk.OS{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	}()
	opts := Options{Path: "a.db", Name: "one", Process: &Process{}, Logger: slog.New(slog.DiscardHandler)}
	want := StatusCommit{TXID: 3, Time: time.UnixMilli(1000).UTC()}
	tr := newTracker(opts, "a.db", dir)
	tr.snapshots(StatusSnapshot{StatusCommit: want})
	tr.ends(nil, true)
	for range 2 {
		tr = newTracker(opts, "a.db", dir)
		tr.ends(nil, true)
	}
	if got := tr.measured().Status; got.LastSnapshot != want || got.Snapshot != nil {
		t.Errorf("the last snapshot is of %+v, want %+v", got.LastSnapshot, want)
	}
}

func TestLockTimes(t *testing.T) {
	t.Parallel()
	var l lockTimes
	l.add(time.Nanosecond)
	l.add(time.Second)
	l.add(time.Second + 1)
	got := l.get()
	if n := len(got.Bounds); got.Counts[0] != 1 || got.Counts[n-1] != 1 || got.Counts[n] != 1 || !slices.IsSorted(got.Bounds) {
		t.Errorf("%+v", got)
	}
}

// One that nobody has looked at for long lags, also if it says nothing else.
func TestMeasuredLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, _ := newTold()
		lag := func() time.Duration {
			m := tr.measured()
			m.Status.Running = true
			lag, known := m.Lag(time.Now())
			if !known {
				t.Error("no lag is known")
			}
			return lag
		}
		tr.follows()
		tr.has(StatusCommit{TXID: 1}, backlog{})
		<-time.After(lookPatience)
		if got := lag(); got != 0 {
			t.Errorf("lag %v while it is looked at", got)
		}
		<-time.After(time.Second)
		if got := lag(); got != lookPatience+time.Second {
			t.Errorf("lag %v while it hangs", got)
		}
		tr.parks(true)
		if got := lag(); got != 0 {
			t.Errorf("lag %v while it is parked", got)
		}
		tr.fails(errors.New("disk full"))
		<-time.After(time.Minute)
		if got := lag(); got != time.Minute {
			t.Errorf("lag %v while it fails", got)
		}
	})
}
