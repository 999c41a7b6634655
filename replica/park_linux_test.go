package replica_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// Of a database that is parked, and that no application has open in this process,
// two files are open. An application that comes and goes meanwhile, each time as the
// last one for SQLite to know of, misses nothing, and nothing of it is missed.
func TestParkedBare(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(s *scene) {
		s.opts.CheckpointPages = 6
		s.opts = s.opts.Parking(nil)
	})
	s.safe = 1
	e := launch(t, s.opts)
	attached := s.a.content()
	for range 3 {
		s.update(2)
		s.a.exec("PRAGMA wal_checkpoint(PASSIVE)")
		s.insert(1)
		s.a.close()
		waitFor(t, func() bool { return slices.Equal(openFiles(t, s.a.path), []string{"", "-shm"}) })
		s.a.open()
		s.a.exec("PRAGMA wal_autocheckpoint=0")
		s.insert(1)
	}
	s.a.close()
	waitFor(t, func() bool { return slices.Equal(openFiles(t, s.a.path), []string{"", "-shm"}) })
	e.stop()
	if _, err := os.Stat(s.a.path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody has the database open, and its WAL: %v", err)
	}
	s.a.open()
	s.check(exact, attached, 1)
}

// openFiles are the ends of the names of a database's files that are open.
func openFiles(t *testing.T, path string) (ends []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if end, ok := strings.CutPrefix(to, path); err == nil && ok {
			ends = append(ends, end)
		}
	}
	slices.Sort(ends)
	return ends
}
