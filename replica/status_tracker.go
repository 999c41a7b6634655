package replica

import (
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"time"

	"tidemark/replica/local"
	"tidemark/snapshot/state"
)

// statusEvery is how often a status is written at most, unless its state changes.
const statusEvery = time.Second

// tracker collects what a run tells about itself, from several goroutines, and
// writes it down. To note something takes a moment and no file. To write is for
// moments at which there is time for it: flush is called at the end of each turn
// of the loops that there are anyway. So an idle database costs nothing, and ten
// thousand need no goroutine of their own.
//
// Nothing fails because a status can't be written. Then there is none.
type tracker struct {
	path string
	save func([]byte) error
	log  *slog.Logger

	mu sync.Mutex // guards what follows; under it nothing waits
	st Status
	// following tells that an engine reads each commit. failure is why the last
	// one ended, upload why uploads fail.
	following       bool
	failure, upload trouble
	// spool is what waits in sealed segments, open what is in the one that is
	// being written.
	spool, open backlog
	// changed tells that there is something to write, urgent that it must not
	// wait.
	changed, urgent bool
	// What is measured, and not written down: see Measured.
	counts    Counts
	looked    time.Time
	frames    uint32
	frameSize int64
	parked    bool
	locks     *lockTimes // of all databases; nil: nobody asks

	writing sync.Mutex // held by the one that writes; guards what follows
	wrote   time.Time
}

// trouble is an error and since when there has been one. The zero value is none.
type trouble struct {
	what  string
	since time.Time
}

// set notes the newest error. The first one has the time.
func (t *trouble) set(err error) {
	if t.since.IsZero() {
		t.since = statusNow()
	}
	t.what = err.Error()
}

// backlog is something that waits for its upload.
type backlog struct {
	bytes  int64
	oldest time.Time // of its commits
}

func statusNow() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// newTracker begins a run's status. What was told of an earlier run on the same
// replica and is still so goes on: it is not known from elsewhere.
func newTracker(opts Options, path string, dir *local.Dir) *tracker {
	now := statusNow()
	t := &tracker{
		path: path, save: dir.SaveStatus, log: opts.Logger,
		st:      Status{State: StatusStarting, Since: now, PID: os.Getpid(), Replica: opts.Name, Started: now, UnreadSince: now},
		changed: true, urgent: true,
	}
	if before, err := told(dir.Path(), path); err == nil && before.Replica == opts.Name {
		t.st.Read, t.st.Shipped, t.st.Uploaded = before.Read, before.Shipped, before.Uploaded
		t.st.Overflow, t.st.Repair, t.st.LastSnapshot = before.Overflow, before.Repair, before.LastSnapshot
	}
	opts.Process.meters.tells(opts, t)
	t.note(func() {})
	t.flush()
	return t
}

// note changes what is told. fn is called under the mutex.
func (t *tracker) note(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.st
	fn()
	t.derive()
	t.urgent = t.urgent || t.st.State != before.State || t.st.UnreadSince.IsZero() != before.UnreadSince.IsZero()
	t.changed = t.changed || t.st != before
}

// derive brings the state, and what else depends on the rest, up to it.
func (t *tracker) derive() {
	s := &t.st
	s.WaitingBytes, s.OldestWaiting = t.spool.bytes+t.open.bytes, earliest(t.spool.oldest, t.open.oldest)
	if s.WaitingCommits = 0; s.Read.TXID > s.Shipped.TXID && (s.Overflow == nil || s.Overflow.Repair > 0) {
		s.WaitingCommits = uint64(s.Read.TXID - s.Shipped.TXID)
	}
	if s.State == StatusStopped || s.State == StatusFailed {
		return
	}
	was := s.State
	s.Error = ""
	switch failing := earlier(t.failure, t.upload); {
	case s.Overflow != nil:
		s.State, s.Since, s.Error = StatusOverflowed, s.Overflow.Since, failing.what
	case failing.what != "":
		s.State, s.Since, s.Error = StatusRetrying, failing.since, failing.what
	case t.following:
		s.State = StatusFollowing
	default:
		s.State = StatusStarting
	}
	if s.State != was && (s.State == StatusFollowing || s.State == StatusStarting) {
		s.Since = statusNow()
	}
}

// earlier gives the trouble that has lasted longer, or the only one.
func earlier(a, b trouble) trouble {
	if a.what == "" || b.what != "" && b.since.Before(a.since) {
		return b
	}
	return a
}

// flush writes down what has changed, if that is due. It waits for nothing but
// the disk, and for somebody else's flush only if its own must not be late.
func (t *tracker) flush() {
	t.mu.Lock()
	changed, urgent := t.changed, t.urgent
	t.mu.Unlock()
	switch {
	case urgent:
		t.writing.Lock()
	case !changed || !t.writing.TryLock():
		return
	}
	defer t.writing.Unlock()
	if urgent || time.Since(t.wrote) >= statusEvery {
		t.write()
	}
}

// write writes it down. The caller holds writing.
func (t *tracker) write() {
	t.mu.Lock()
	f := statusFile{Format: statusFormat, Path: t.path, Status: t.st}
	t.changed, t.urgent = false, false
	t.mu.Unlock()
	f.Updated = statusNow()
	t.wrote = time.Now()
	b, err := json.Marshal(f)
	if err == nil {
		err = t.save(append(b, '\n'))
	}
	if err != nil {
		t.mu.Lock()
		t.changed = true // for the next time
		t.mu.Unlock()
		t.log.Debug("the status is not written", slog.Any("err", err))
	}
}

// follows notes that an engine has found its place and reads each commit now.
func (t *tracker) follows() {
	t.note(func() {
		t.following, t.failure, t.st.UnreadSince, t.st.Blocked = true, trouble{}, time.Time{}, nil
		if o := t.st.Overflow; o != nil && o.Repair == 0 {
			t.st.Overflow = nil // what was given up has left no difference
		}
	})
	t.flush()
}

// has notes the newest commit that was read, and what is in the open segment.
func (t *tracker) has(read StatusCommit, open backlog) {
	t.note(func() { t.st.Read, t.open, t.looked = read, open, time.Now() })
}

// lost notes that commits are not read one by one for now, found that they are
// again.
func (t *tracker) lost() {
	t.note(t.unread)
	t.flush()
}

func (t *tracker) found() {
	t.note(func() {
		if t.following {
			t.st.UnreadSince = time.Time{}
		}
	})
}

func (t *tracker) unread() {
	if t.st.UnreadSince.IsZero() {
		t.st.UnreadSince = statusNow()
	}
}

// fails notes that an engine has ended with an error, and another one will try.
func (t *tracker) fails(err error) {
	t.note(func() {
		t.following = false
		t.counts.Failures++
		t.failure.set(err)
		t.unread()
	})
	t.flush()
}

// overflows notes that all commits that were read and are not in storage are
// given up, but for those of an upload that is under way.
func (t *tracker) overflows() {
	t.note(func() {
		o := Overflow{First: t.st.Shipped.TXID + 1, Last: t.st.Read.TXID, Since: statusNow(), Oldest: t.st.OldestWaiting}
		if before := t.st.Overflow; before != nil { // the spool has overflowed again
			o.Since, o.Oldest = before.Since, earliest(before.Oldest, o.Oldest)
		}
		t.following, t.failure, t.st.Overflow, t.st.Blocked = false, trouble{}, &o, nil
		t.counts.Overflows++
		t.unread()
	})
	t.flush()
}

// dropped notes that no upload is under way any more, and the spool is empty.
func (t *tracker) dropped() {
	t.note(func() {
		o := *t.st.Overflow
		if next := t.st.Shipped.TXID + 1; next > o.First {
			o.First, o.Oldest = next, t.st.Shipped.Time // none of them is older
		}
		t.st.Overflow, t.spool, t.open = &o, backlog{}, backlog{}
	})
	t.flush()
}

// repaired notes a resync that is about to be sealed. If that fails, it is made
// again, and counts once.
func (t *tracker) repaired(r Repair) {
	t.note(func() {
		before := t.st.Repair
		again := before != nil && before.TXID == r.TXID
		if !again || t.st.Repairs == 0 {
			t.st.Repairs++
		}
		if again {
			r.Why, r.Replaced = before.Why, before.Replaced
		}
		if o := t.st.Overflow; o != nil {
			if o.Repair == 0 {
				r.Why, r.Replaced = errOverflow.Error(), o.Commits()
			}
			made := *o
			made.Repair = r.TXID
			t.st.Overflow = &made
		}
		t.st.Repair = &r
	})
}

// snapshots notes what came of a snapshot.
func (t *tracker) snapshots(s StatusSnapshot) {
	s.Ended = statusNow()
	t.note(func() {
		t.st.Snapshot = &s
		t.urgent = true // somebody may wait for it
		t.countSnapshot(s)
	})
	t.flush()
}

// countSnapshot counts a snapshot, or that there is none. One without a time was there
// before.
func (t *tracker) countSnapshot(s StatusSnapshot) {
	c := &t.counts
	switch {
	case s.Error != "":
		c.SnapshotFailures++
		return
	case s.Time.IsZero():
		if s.TXID == t.st.LastSnapshot.TXID {
			return
		}
	case s.Base == 0:
		c.FullSnapshots++
		c.SnapshotBytes += s.Bytes
	default:
		c.Incrementals++
		c.SnapshotBytes += s.Bytes
	}
	t.st.LastSnapshot = s.StatusCommit
}

// blocks notes who keeps the WAL from being handed off, nil: nobody.
func (t *tracker) blocks(b *Blocked) { t.note(func() { t.st.Blocked = b }) }

// begins notes what storage holds when uploads begin.
func (t *tracker) begins(last state.TXID) {
	t.note(func() {
		t.upload = trouble{}
		if t.st.Shipped.TXID == last {
			return
		}
		t.st.Shipped, t.st.Uploaded = StatusCommit{TXID: last}, time.Time{}
		if t.st.Read.TXID == last {
			t.st.Shipped = t.st.Read
		}
	})
}

// spooled notes what waits in the spool. The open segment is in it now, if there
// was one.
func (t *tracker) spooled(b backlog) { t.note(func() { t.spool, t.open = b, backlog{} }) }

// ships notes that all up to a commit is in storage, and what waits then.
func (t *tracker) ships(last StatusCommit, rest backlog) {
	t.note(func() {
		t.st.Shipped, t.st.Uploaded, t.upload, t.spool = last, statusNow(), trouble{}, rest
		if o := t.st.Overflow; o != nil && o.Repair > 0 && o.Repair <= last.TXID {
			t.st.Overflow = nil
		}
	})
}

// refuses notes that an upload has failed.
func (t *tracker) refuses(err error) {
	t.note(func() {
		t.upload.set(err)
		t.counts.UploadFailures++
	})
	t.flush()
}

// ends notes how a run ends, and writes that.
//
//nolint:revive // told is what decides how an error is to be taken
func (t *tracker) ends(err error, told bool) {
	t.note(func() {
		t.st.State, t.st.Since, t.st.Error = StatusStopped, statusNow(), ""
		if err != nil {
			t.st.Error = err.Error()
		}
		if err != nil && (!told || permanent(err)) {
			t.st.State = StatusFailed
		}
		t.urgent = true
	})
	t.flush()
}
