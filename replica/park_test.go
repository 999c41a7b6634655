package replica_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/snapshot/state"
)

// A database that is parked wakes up with the next commit, whatever the
// application did before, and nothing is missed.
func TestParked(t *testing.T) {
	t.Parallel()
	var parked atomic.Int64
	s := newScene(t, func(s *scene) {
		s.opts.CheckpointPages = 6
		s.opts = s.opts.Parking(func() { parked.Add(1) })
	})
	s.safe = 1
	e := launch(t, s.opts)
	attached := s.a.content()
	waitFor(t, func() bool { return parked.Load() > 0 })
	for i := range 12 {
		was := parked.Load()
		switch i % 4 {
		case 0:
			s.update(1)
		case 1:
			s.insert(30) // restarts the WAL, and would again
			s.a.exec("PRAGMA wal_checkpoint(PASSIVE)")
			s.update(30)
		case 2:
			s.a.exec("PRAGMA wal_checkpoint(" + []string{"FULL", "RESTART", "TRUNCATE"}[rand.IntN(3)] + ")")
			s.insert(2)
		default:
			s.spill("ROLLBACK")
			s.spill("COMMIT")
		}
		shipped(t, s.b, state.TXID(len(s.states)))
		waitFor(t, func() bool { return parked.Load() > was })
	}
	e.stop()
	s.check(exact, attached, 1)
}

// A database that goes while it is parked is missed.
func TestParkedReplaced(t *testing.T) {
	t.Parallel()
	parked := make(chan struct{}, 1)
	s := newScene(t, func(s *scene) {
		s.opts = s.opts.Parking(func() {
			select {
			case parked <- struct{}{}:
			default:
			}
		})
	})
	e := launch(t, s.opts)
	<-parked
	if err := os.Rename(s.a.path, s.a.path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := e.fails(); !errors.Is(err, replica.ErrReplaced) {
		t.Errorf("the database was moved away: %v", err)
	}
}

// longerThanRest is longer than a database must have been at rest to be parked.
const longerThanRest = 1500 * time.Millisecond

// A database in which nothing happens while its first copy is uploaded is followed
// all the same when that is complete.
func TestParkedAfterFirstCopy(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(s *scene) {
		s.opts = s.opts.Parking(func() {})
	})
	s.opts.Bucket = slowPuts{s.b, "snapshot/", longerThanRest}
	e := launch(t, s.opts)
	s.insert(1)
	shipped(t, s.b, state.TXID(len(s.states)))
	e.stop()
}

// A run that does not follow ends with its snapshot, also if nothing has happened for so
// long that the database could be parked.
func TestOnceAfterSlowSnapshot(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(s *scene) {
		s.opts = s.opts.Parking(func() {})
	})
	s.opts.Bucket = slowPuts{s.b, "snapshot/", longerThanRest}
	for i, kind := range []replica.SnapshotKind{replica.NoSnapshot, replica.FullSnapshot} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		s.opts.Snapshot = kind
		if _, err := replica.Once(ctx, s.opts); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatalf("run %d waited for a change", i)
		}
		cancel()
		s.insert(1)
	}
	if n := len(snapshotsOf(t, s.b)); n != 2 {
		t.Errorf("%d snapshots", n)
	}
}
