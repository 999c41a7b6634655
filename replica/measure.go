package replica

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tidemark/replica/source"
	"tidemark/storage"
	"tidemark/wal"
)

// Measured is what is known of one replication at a moment: numbers for those who
// watch it from outside. It is a value of its own.
type Measured struct {
	// Database and Replica are Options.Path and Options.Name.
	Database, Replica string
	// Status is how it stands. Database, WAL and Updated are not filled in: nothing
	// is asked of the system.
	Status Status
	// Parked tells that nothing is open of the database but what keeps its WAL.
	Parked bool
	// Looked is when it was looked for commits last, zero if it was not yet.
	Looked time.Time
	// WALFrames and WALBytes are the length of the WAL as far as it holds commits
	// that count: the file can be longer. It begins anew after a complete hand-off,
	// when something is committed.
	WALFrames uint32
	WALBytes  int64
	// Requests is what storage was asked for, if Counted: if Options.Bucket counts.
	Requests storage.Requests
	Counted  bool
	Counts
}

// Counts is what has happened since a run began. What several replications of a
// database share, such as a hand-off, counts for the one that did it.
type Counts struct {
	// Commits were shipped in segments.
	Commits uint64
	// SegmentBytes, SnapshotBytes and PackBytes were uploaded, as they are stored.
	SegmentBytes, SnapshotBytes, PackBytes int64
	// Complete hand-offs let the WAL restart. After Incomplete ones a part of it is
	// still needed, or came too fast. Unlocked ones did not get the write lock.
	Complete, Incomplete, Unlocked uint64
	// MaxLocked is how long the write lock was held at worst.
	MaxLocked time.Duration
	// Overflows is how often a full spool was given up.
	Overflows uint64
	// Failures ended an engine, and another one tried; UploadFailures and
	// SnapshotFailures are attempts.
	Failures, UploadFailures, SnapshotFailures uint64
	// FullSnapshots and Incrementals were written.
	FullSnapshots, Incrementals uint64
	// Packs were made of segments, Pruned is how many objects retention has deleted.
	Packs, Pruned uint64
}

// lookPatience is how long it may take until it is looked for commits again, before
// that counts as a lag. A database in which nothing happens is looked at every
// parkLookLong.
const lookPatience = 3 * parkLookLong

// Lag is [Status.Lag], or the time for which nobody has looked for commits, if that
// is long: what hangs falls behind.
func (m Measured) Lag(now time.Time) (lag time.Duration, ok bool) {
	lag, ok = m.Status.Lag(now)
	if ok && m.Status.UnreadSince.IsZero() && !m.Looked.IsZero() {
		if since := now.Sub(m.Looked); since > lookPatience {
			lag = max(lag, since)
		}
	}
	return lag, ok
}

// Metrics is what is known of all replications of a process at a moment.
type Metrics struct {
	// Replications are in order of their databases and replicas. One that an error
	// has ended is among them until it begins again or is forgotten; one that was
	// told to end is not.
	Replications []Measured
	// Locked is for how long write locks were held, the longest of each hand-off, of
	// all databases together.
	Locked Durations
}

// Durations counts durations by their length.
type Durations struct {
	// Bounds are the longest durations that are counted together, ascending.
	Bounds []time.Duration
	// Counts has the durations up to each bound that are longer than the one before
	// it, and at last those that are longer than all.
	Counts []uint64
	// Sum is that of all durations.
	Sum time.Duration
}

// lockBounds are those of write locks: the aim is milliseconds.
func lockBounds() [10]time.Duration {
	const ms = time.Millisecond
	return [...]time.Duration{ms / 2, ms, 2 * ms, 5 * ms, 10 * ms, 20 * ms, 50 * ms, 100 * ms, 250 * ms, time.Second}
}

// lockTimes counts how long write locks were held. The zero value is ready, and it is
// safe for concurrent use.
type lockTimes struct {
	counts [11]atomic.Uint64 // one more than bounds
	sum    atomic.Int64
}

func (l *lockTimes) add(d time.Duration) {
	bounds := lockBounds()
	i, _ := slices.BinarySearch(bounds[:], d)
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
}

func (l *lockTimes) get() Durations {
	bounds := lockBounds()
	d := Durations{Bounds: bounds[:], Counts: make([]uint64, len(l.counts)), Sum: time.Duration(l.sum.Load())}
	for i := range l.counts {
		d.Counts[i] = l.counts[i].Load()
	}
	return d
}

// roster has the replications of a process, for those who measure them. The zero
// value is empty, and it is safe for concurrent use.
type roster struct {
	locks lockTimes

	mu   sync.Mutex // guards what follows, and what a meter has; it comes before a tracker's
	runs map[runKey]*meter
}

// runKey is what tells replications apart from outside.
type runKey struct{ database, replica string }

func keyOf(opts Options) runKey { return runKey{opts.Path, opts.Name} }

// meter is the place of one run.
type meter struct {
	requests func() storage.Requests // nil: nobody counts them
	since    time.Time
	// status tells all that is known; nil until there is one.
	status *tracker
	// failed is what was known last of a run that an error has ended.
	failed *Measured
}

// enter has a run counted from now on. leave ends that, when it has ended with an
// error or without one.
func (r *roster) enter(ctx context.Context, opts Options) (leave func(error)) {
	key, m := keyOf(opts), &meter{since: statusNow()}
	if b, ok := opts.Bucket.(interface{ Requests() storage.Requests }); ok {
		m.requests = b.Requests
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if before := r.runs[key]; before != nil && before.failed == nil {
		return func(error) {} // it will be told that the other one is there
	}
	r.put(key, m)
	return func(err error) { r.leave(ctx, key, m, err) }
}

func (r *roster) leave(ctx context.Context, key runKey, m *meter, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		delete(r.runs, key)
		return
	}
	last := m.measured(key)
	last.Status.Running, last.Parked = false, false
	last.Status.State, last.Status.Since, last.Status.Error = StatusFailed, statusNow(), err.Error()
	m.failed, m.status, m.requests = &last, nil, nil
}

// tells has a run's tracker asked from now on.
func (r *roster) tells(opts Options, t *tracker) {
	t.locks = &r.locks
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.runs[keyOf(opts)]; m != nil {
		m.status = t
	}
}

// forget removes what is known of a run that an error has ended.
func (r *roster) forget(database, replica string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := (runKey{database, replica}); r.runs[key] != nil && r.runs[key].failed != nil {
		delete(r.runs, key)
	}
}

// fail adds one that has not begun to run, because of an error, unless it is there.
func (r *roster) fail(database, replica string, err error) {
	key := runKey{database, replica}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs[key] != nil {
		return
	}
	now := statusNow()
	r.put(key, &meter{failed: &Measured{
		Database: database, Replica: replica, Status: Status{State: StatusFailed, Since: now, Started: now, Error: err.Error()},
	}})
}

// put makes one the run of its key. The caller holds the lock.
func (r *roster) put(key runKey, m *meter) {
	if r.runs == nil {
		r.runs = map[runKey]*meter{}
	}
	r.runs[key] = m
}

// metrics measures all of them.
func (r *roster) metrics() Metrics {
	r.mu.Lock()
	all := make([]Measured, 0, len(r.runs))
	for key, m := range r.runs {
		all = append(all, m.measured(key))
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Measured) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Replica, b.Replica))
	})
	return Metrics{Replications: all, Locked: r.locks.get()}
}

// measured gives what is known now. The caller holds the roster's lock.
func (m *meter) measured(key runKey) (n Measured) {
	switch {
	case m.failed != nil:
		return *m.failed
	case m.status != nil:
		n = m.status.measured()
	default: // it waits for its turn to start
		n.Status = Status{State: StatusStarting, Since: m.since, Started: m.since, UnreadSince: m.since}
	}
	n.Database, n.Replica = key.database, key.replica
	n.Status.Running = n.Status.State != StatusStopped && n.Status.State != StatusFailed
	if m.requests != nil {
		n.Requests, n.Counted = m.requests(), true
	}
	return n
}

// measured gives what the tracker has collected.
func (t *tracker) measured() Measured {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := Measured{Status: t.st, Parked: t.parked, Looked: t.looked, Counts: t.counts, WALFrames: t.frames}
	n.Status.Path = t.path
	if t.frames > 0 {
		n.WALBytes = wal.HeaderSize + int64(t.frames)*t.frameSize
	}
	return n
}

// count changes what is measured, of which nothing is written down.
func (t *tracker) count(fn func(*Counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fn(&t.counts)
}

// handedOff counts a hand-off.
func (t *tracker) handedOff(res source.HandOffResult) {
	t.count(func(c *Counts) {
		switch {
		case res.Complete:
			c.Complete++
		case res.Locked > 0:
			c.Incomplete++
		default:
			c.Unlocked++
		}
		c.MaxLocked = max(c.MaxLocked, res.Locked)
	})
	if t.locks != nil && res.Locked > 0 {
		t.locks.add(res.Locked)
	}
}

// uploaded counts a segment that is in storage.
func (t *tracker) uploaded(commits uint64, bytes int64) {
	t.count(func(c *Counts) {
		c.Commits += commits
		c.SegmentBytes += bytes
	})
}

// packed counts a pack, pruned what retention has deleted.
func (t *tracker) packed(bytes int64) {
	t.count(func(c *Counts) {
		c.Packs++
		c.PackBytes += bytes
	})
}

func (t *tracker) pruned(objects int) { t.count(func(c *Counts) { c.Pruned += uint64(objects) }) }

// at notes how far the WAL was read.
func (t *tracker) at(frames uint32, size wal.PageSize) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames, t.frameSize = frames, int64(size)+wal.FrameHeaderSize
}

// parks notes that the database is parked, and was looked at, or is parked no more.
func (t *tracker) parks(parked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parked, t.looked = parked, time.Now()
}
