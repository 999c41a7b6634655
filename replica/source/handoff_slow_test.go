package source_test

import (
	"errors"
	"testing"
	"time"

	"tidemark/replica/source"
	"tidemark/wal"
)

// slow is a follower that is slower than whoever writes: while it reads a commit,
// more than one are made, unless it has the write lock.
type slow struct {
	*follower
	longest uint32 // WAL, in frames
}

const (
	// slowTurn is how long it reads at once, slowSlice how many commits under the
	// write lock.
	slowTurn  = 20 * time.Millisecond
	slowSlice = 200
	// slowPace is how many frames are written while it reads a commit, each of
	// which has one or two; slowWait is how long it waits for that, since nobody may
	// be writing.
	slowPace = 4
	slowWait = 5 * time.Millisecond
)

// pace lets the writers get ahead.
func (s *slow) pace() {
	before := s.published()
	for until := time.Now().Add(slowWait); time.Now().Before(until); {
		if now := s.published(); now < before || now >= before+slowPace {
			return
		}
	}
}

func (s *slow) published() uint32 {
	frames, err := s.db.Published(s.t.Context())
	if err != nil && !errors.Is(err, source.ErrBusy) {
		s.t.Error(err)
	}
	s.longest = max(s.longest, frames)
	return frames
}

// Read implements source.Drainer.
func (s *slow) Read() (int, error) {
	until := time.Now().Add(slowTurn)
	s.after = func() bool { s.pace(); return time.Now().Before(until) }
	n, err := s.follower.Read()
	if errors.Is(err, source.ErrBehind) {
		err = nil
	}
	return n, err
}

// Keep implements source.Drainer.
func (s *slow) Keep(only wal.Salts) (uint32, error) {
	s.after = func() bool { s.pace(); return true }
	s.only = only
	defer func() { s.only = wal.Salts{} }()
	return s.follower.Secure()
}

// Secure implements source.Drainer. A commit more is no harm.
func (s *slow) Secure() (uint32, error) {
	n := 0
	s.after = func() bool { n++; return n < slowSlice }
	return s.follower.Secure()
}

// Beside a writer that never rests and is faster than the reader, hand-offs let the
// WAL restart all the same: they slow the writer down. Otherwise it would grow for
// ever, since each time that the reader has come to what was its end, it is further
// away.
func TestHandOffSlowReader(t *testing.T) {
	t.Parallel()
	path, first := database(t)
	first.insert(10)
	app := connectWith(t, path, "_pragma=busy_timeout(60000)&_pragma=synchronous(0)&_pragma=wal_autocheckpoint(0)")
	d := open(t, path)
	s := &slow{follower: follow(t, d, attach(t, d))}
	first.insert(1000) // it begins far behind
	w := write(t, app.DB)
	behind := 0
	for s.restarts < 3 {
		if _, err := s.Read(); err != nil {
			t.Fatal(err)
		}
		res, err := d.HandOff(t.Context(), s)
		if err != nil && !errors.Is(err, source.ErrBusy) {
			t.Fatal(err)
		}
		if res.Behind {
			behind++
		}
		if s.longest > 40_000 {
			t.Fatalf("the WAL has come to %d frames", s.longest)
		}
	}
	commits, err := w.end()
	if err != nil {
		t.Fatal("the application failed: ", err)
	}
	s.after = nil
	s.mustRead(1000 + commits)
	if digestOf(t, s.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
	t.Logf("%d commits; the WAL had %d frames at most; %d hand-offs were behind", commits, s.longest, behind)
}
