package replica

import (
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/snapshot/state"
)

// written collects what a tracker writes.
type written struct {
	all []Status
	err error
}

func (w *written) save(b []byte) error {
	if w.err != nil {
		return w.err
	}
	var f statusFile
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	w.all = append(w.all, f.Status)
	return nil
}

func (w *written) last() Status { return w.all[len(w.all)-1] }

func newTold() (*tracker, *written) {
	w := &written{}
	t := &tracker{save: w.save, log: slog.New(slog.DiscardHandler), st: Status{State: StatusStarting}}
	return t, w
}

// turns lets a loop look after a tracker for a while, without a change.
func turns(t *tracker, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		t.flush()
	}
}

// A status is written once a second at most while something changes, at once when
// its state does, and never while nothing changes.
func TestStatusIsWrittenSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, w := newTold()
		tr.follows()
		if len(w.all) != 1 || w.last().State != StatusFollowing {
			t.Fatalf("written %d times", len(w.all))
		}
		turns(tr, time.Hour)
		if len(w.all) != 1 {
			t.Errorf("written %d times while idle", len(w.all)-1)
		}
		for n := range state.TXID(1000) { // in ten seconds
			tr.has(StatusCommit{TXID: n + 1}, backlog{})
			turns(tr, 10*time.Millisecond)
		}
		if n := len(w.all) - 1; n != 10 {
			t.Errorf("written %d times in 10 s, want 10", n)
		}
		turns(tr, 2*time.Second)
		if n := len(w.all) - 1; n != 11 || w.last().Read.TXID != 1000 {
			t.Errorf("written %d times, to TXID %v at last", n, w.last().Read.TXID)
		}
		before := len(w.all)
		tr.refuses(errors.New("away"))
		if len(w.all) != before+1 || w.last().State != StatusRetrying || w.last().Error != "away" {
			t.Errorf("not written at once, but %+v", w.last())
		}
		since := w.last().Since
		turns(tr, 5*time.Second)
		tr.refuses(errors.New("still away"))
		if s := w.last(); s.Error != "still away" || !s.Since.Equal(since) {
			t.Errorf("the second error: %+v, want it since %v", s, since)
		}
	})
}

// A status that can't be written is written as soon as it can, and asked for once
// a second at most.
func TestStatusCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, w := newTold()
		w.err = errors.New("full")
		tries := 0
		tr.save = func(b []byte) error { tries++; return w.save(b) }
		tr.follows()
		turns(tr, 10*time.Second)
		if len(w.all) != 0 || tries < 10 || tries > 11 {
			t.Errorf("written %d times, tried %d times in 10 s", len(w.all), tries)
		}
		w.err = nil
		turns(tr, 2*time.Second)
		if len(w.all) != 1 || w.last().State != StatusFollowing {
			t.Errorf("written %d times since it could be", len(w.all))
		}
	})
}

// Lag counts from the oldest commit that waits, wherever it is, and also while
// nothing is read.
func TestStatusLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, w := newTold()
		at := func(want time.Duration) {
			t.Helper()
			turns(tr, 2*time.Second)
			s := w.last()
			s.Running = true
			if lag, known := s.Lag(time.Now()); !known || lag != want {
				t.Errorf("lag %v (known: %t), want %v", lag, known, want)
			}
		}
		tr.follows()
		at(0)
		now := time.Now()
		tr.has(StatusCommit{TXID: 2, Time: now}, backlog{bytes: 1, oldest: now})
		at(2 * time.Second)
		tr.spooled(backlog{bytes: 1, oldest: now}) // it is sealed
		tr.has(StatusCommit{TXID: 3, Time: now.Add(time.Second)}, backlog{bytes: 1, oldest: now.Add(time.Second)})
		at(4 * time.Second)
		if s := w.last(); s.WaitingBytes != 2 || s.WaitingCommits != 3 {
			t.Errorf("%+v waits", s)
		}
		tr.ships(StatusCommit{TXID: 2, Time: now}, backlog{})
		at(5 * time.Second)
		tr.spooled(backlog{bytes: 1, oldest: now.Add(time.Second)})
		tr.ships(StatusCommit{TXID: 3, Time: now.Add(time.Second)}, backlog{})
		at(0)
		tr.lost()
		at(2 * time.Second)
		tr.found()
		at(0)
		tr.fails(errors.New("disk full"))
		at(2 * time.Second)
		tr.found() // by an engine that does not follow yet
		at(4 * time.Second)
		tr.follows()
		at(0)
	})
}

// A resync that has to be made again counts once.
func TestStatusRepairAgain(t *testing.T) {
	t.Parallel()
	tr, _ := newTold()
	tr.begins(6)
	tr.has(StatusCommit{TXID: 9}, backlog{bytes: 1, oldest: time.Now()})
	tr.overflows()
	tr.ships(StatusCommit{TXID: 7}, backlog{}) // the one that was under way
	tr.dropped()
	for range 2 {
		tr.repaired(Repair{StatusCommit: StatusCommit{TXID: 8}, Pages: 3, Why: "it does not go on"})
	}
	if r := tr.st.Repair; tr.st.Repairs != 1 || r.Replaced != 2 || r.Why != errOverflow.Error() {
		t.Errorf("%d repairs, the last %+v", tr.st.Repairs, r)
	}
	tr.follows()
	if tr.st.State != StatusOverflowed {
		t.Errorf("state %s before the repair is in storage", tr.st.State)
	}
	tr.ships(StatusCommit{TXID: 8}, backlog{})
	if tr.st.State != StatusFollowing {
		t.Errorf("state %s after it", tr.st.State)
	}
	tr.repaired(Repair{StatusCommit: StatusCommit{TXID: 12}, Why: "another"})
	if r := tr.st.Repair; tr.st.Repairs != 2 || r.Replaced != 0 || r.Why != "another" {
		t.Errorf("%d repairs, the last %+v", tr.st.Repairs, r)
	}
}
