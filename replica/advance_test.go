package replica_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The pin is moved once in a generation of the WAL, before that has its length. What the
// database file looks like after it is remembered: else the next start after a crash
// would compare all pages.
func TestAdvanceIsRemembered(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(s *scene) {
		s.opts.CheckpointPages, s.opts.SyncInterval = 2000, time.Hour
	})
	e := launch(t, s.opts)
	s.a.insert(1) // the WAL begins
	before, salts := s.modified(), header(t, s.a.path+"-wal").Salts
	s.a.insert(400) // pages that are not written again: only these are copied
	waitFor(t, func() bool { return s.modified() != before })
	// As long as it goes on, the WAL is not handed off before it has its length.
	n := 0
	waitFor(t, func() bool {
		s.a.exec("UPDATE t SET v = randomblob(50) WHERE id = 1")
		n++
		return s.remembered() || n == 1000
	})
	if !s.remembered() || header(t, s.a.path+"-wal").Salts != salts {
		t.Error("what the file looks like is not remembered, or the WAL was handed off before")
	}
	e.stop()
}

// So it is after a hand-off after which nothing more is committed.
func TestHandOffIsRemembered(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(*scene) {})
	e := launch(t, s.opts)
	before := s.modified()
	s.insert(1)
	shipped(t, s.b, 2)
	waitFor(t, func() bool { return s.modified() != before })
	waitFor(t, s.remembered)
	e.stop()
}

// modified is when the database file was written to last.
func (s *scene) modified() int64 {
	s.t.Helper()
	info, err := os.Stat(s.a.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.ModTime().UnixNano()
}

// remembered tells whether the local state has that time.
func (s *scene) remembered() bool {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.opts.StateDir, "state.json"))
	return err == nil && strings.Contains(string(b), fmt.Sprintf(`"file_modified":"%d"`, s.modified()))
}
