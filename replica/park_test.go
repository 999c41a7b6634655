package replica_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"tidemark/replica"
)

// A database that is parked wakes up with the next commit, whatever the
// application did before, and nothing is missed.
func TestParked(t *testing.T) {
	t.Parallel()
	parked := make(chan struct{}, 1)
	wait := func() {
		t.Helper()
		select {
		case <-parked:
		case <-time.After(30 * time.Second):
			t.Fatal("the database is not parked")
		}
	}
	s := newScene(t, func(s *scene) {
		s.opts.CheckpointPages = 6
		s.opts = s.opts.Parking(func() {
			select {
			case parked <- struct{}{}:
			default:
			}
		})
	})
	s.safe = 1
	e := launch(t, s.opts)
	attached := s.a.content()
	wait()
	for i := range 12 {
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
		for len(parked) > 0 {
			<-parked // from before
		}
		wait()
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
