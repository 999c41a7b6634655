package replica_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// gated is storage that asks before each Put, and before each part of its body.
type gated struct {
	*mem.Bucket
	put  func(ctx context.Context, key string) error
	part func(key string)
}

func (g *gated) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if g.put != nil {
		if err := g.put(ctx, key); err != nil {
			return err
		}
	}
	if g.part != nil {
		body = &parts{r: body, before: func() { g.part(key) }}
	}
	return g.Bucket.Put(ctx, key, body, opts)
}

// parts reads little at a time.
type parts struct {
	r      io.Reader
	before func()
}

func (p *parts) Read(b []byte) (int, error) {
	p.before()
	return p.r.Read(b[:min(len(b), 4<<10)])
}

// background starts replication and does not wait for anything.
func background(t *testing.T, opts replica.Options) *engine {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e := &engine{t: t, cancel: cancel, done: make(chan error, 1)}
	go func() {
		var err error
		e.rep, err = replica.Run(ctx, opts)
		e.done <- err
		close(e.done)
	}()
	t.Cleanup(func() { cancel(); <-e.done })
	return e
}

// While the first snapshot trickles into storage, the application commits and
// checkpoints in all ways. Each commit is in the history.
func TestSlowSnapshot(t *testing.T) {
	t.Parallel()
	modes := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE", "PASSIVE"}
	s := newScene(t, func(*scene) {})
	s.commit("UPDATE big SET v=randomblob(100000)")
	s.states, s.safe = []string{s.a.content()}, 1
	began, turns := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(began) })
	s.opts.CheckpointPages = 10
	s.opts.Bucket = &gated{Bucket: s.b, part: func(key string) {
		if strings.HasPrefix(key, "snapshot/") {
			begin()
			select {
			case <-turns:
			case <-t.Context().Done(): // the test has failed, and replication is to end
			}
		}
	}}
	e := background(t, s.opts)
	<-began
	for i := range 15 {
		switch s.insert(1); i {
		case 3:
			s.spill("COMMIT")
		case 7:
			s.spill("ROLLBACK")
		}
		_ = s.a.attempt("PRAGMA wal_checkpoint(" + modes[i%len(modes)] + ")")
		turns <- struct{}{}
		if n := last(t, s.b); n != 0 {
			t.Fatalf("TXID %v is there in turn %d: the snapshot is not slow", n, i)
		}
	}
	close(turns)
	shipped(t, s.b, state.TXID(len(s.states)))
	s.insert(12)
	e.stop()
	s.check(exact, "", 1)
}

// A reader that stays keeps the WAL from restarting. It grows, and each commit is
// shipped all the same. When the reader has gone, the WAL restarts.
func TestLongReader(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(*scene) {})
	s.safe = 1
	s.opts.CheckpointPages = 4
	e := launch(t, s.opts)
	s.insert(3)
	reader, err := sql.Open("sqlite", s.a.path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close() //nolint:errcheck // only read
	tx, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var was, now int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&was); err != nil {
		t.Fatal(err)
	}
	s.insert(10)
	salts := header(t, s.a.path+"-wal").Salts
	s.insert(20)
	shipped(t, s.b, state.TXID(len(s.states)))
	if h := header(t, s.a.path+"-wal"); h.Salts != salts || s.frames() < 20 {
		t.Error("the WAL restarted under a reader")
	}
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&now); err != nil || now != was {
		t.Errorf("the reader sees %d rows, it saw %d (%v)", now, was, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		var busy, frames, done int
		waitFor(t, func() bool {
			err := s.a.db.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &done)
			return err == nil && frames == done
		})
		if s.insert(1); header(t, s.a.path+"-wal").Salts != salts {
			break
		}
	}
	if header(t, s.a.path+"-wal").Salts == salts {
		t.Error("the WAL does not restart any more")
	}
	e.stop()
	s.check(exact, "", 1)
}

// A stop while storage does not take anything ends in time. What it could not
// ship is the first thing that the next start ships, commit by commit.
func TestStopWithoutStorage(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(context.Context) error{
		"fails": func(context.Context) error { return errDown },
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, func(*scene) {})
			var down atomic.Bool
			s.opts.Bucket = &gated{Bucket: s.b, put: func(ctx context.Context, _ string) error {
				if !down.Load() {
					return nil
				}
				return away(ctx)
			}}
			s.opts.StopPatience, s.opts.CheckpointPages = 200*time.Millisecond, 5
			e := launch(t, s.opts)
			s.insert(3)
			s.uploaded()
			down.Store(true)
			s.insert(10)
			start := time.Now()
			err := e.end()
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("the stop took %v", took)
			}
			if err == nil || !strings.Contains(err.Error(), "next start") {
				t.Errorf("got %v, want an error that tells what waits", err)
			}
			if n := last(t, s.b); n != 4 {
				t.Errorf("TXID %v is in the archive, want 4", n)
			}
			down.Store(false)
			s.safe = len(s.states)
			s.insert(2)
			s.resume(exact)
			if n := len(stateFiles(t, filepath.Join(s.opts.StateDir, "spool"))); n != 0 {
				t.Errorf("%d files are left in the spool", n)
			}
		})
	}
}

// The system's clock jumps, while tidemark runs and while it does not. Times never
// decrease, nothing is lost, and each of them leads to the newest commit that has
// it.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, jumps := range map[string][]time.Duration{
		"a year ahead and back": {0, year, 0},
		"a year back and ahead": {0, -year, 0},
		"an hour":               {0, time.Hour, 0, -time.Hour, 0},
		"back for good":         {year, time.Hour, 0, -time.Hour, -year},
	} {
		for how, between := range map[string]func(*scene, *engine) *engine{
			"while it runs":     func(_ *scene, e *engine) *engine { return e },
			"while it is down":  func(s *scene, e *engine) *engine { e.stop(); return launch(s.t, s.opts) },
			"while it restarts": func(s *scene, e *engine) *engine { s.freeze(); e.end(); return launch(s.t, s.opts) }, //nolint:errcheck // as if killed
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, func(*scene) {})
				var jump atomic.Int64
				jump.Store(int64(jumps[0]))
				s.opts.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
				s.opts.CheckpointPages = 3
				e := launch(t, s.opts)
				for _, j := range jumps {
					jump.Store(int64(j))
					s.insert(2)
					s.uploaded()
					e = between(s, e)
				}
				e.stop()
				s.safe = 1
				s.check(exact, "", 1)
				s.checkTimes()
			})
		}
	}
}

// checkTimes restores by the time of each commit, and by times around all.
func (s *scene) checkTimes() {
	s.t.Helper()
	cs := commitsOf(s.t, s.b)
	at := func(when time.Time) state.TXID {
		res, err := restore.Run(s.t.Context(), restore.Options{
			Bucket: s.b, Output: filepath.Join(s.t.TempDir(), "at.db"), Target: restore.Target{Time: when}, Logger: discard(),
		})
		if err != nil {
			s.t.Errorf("restore to %v: %v", when, err)
		}
		return res.TXID
	}
	for i, c := range cs {
		if i+1 < len(cs) && cs[i+1].Time.Equal(c.Time) {
			continue // a later one has it too
		}
		if got := at(c.Time); got != c.TXID {
			s.t.Errorf("the time of TXID %v leads to %v", c.TXID, got)
		}
		if got := at(c.Time.Add(time.Millisecond / 2)); got != c.TXID {
			s.t.Errorf("just after the time of TXID %v is %v", c.TXID, got)
		}
	}
	if got := at(cs[len(cs)-1].Time.AddDate(3, 0, 0)); int(got) != len(cs) {
		s.t.Errorf("the far future leads to TXID %v of %d", got, len(cs))
	}
	opts := restore.Options{
		Bucket: s.b, Output: filepath.Join(s.t.TempDir(), "before.db"), Target: restore.Target{Time: cs[0].Time.Add(-time.Hour)}, Logger: discard(),
	}
	if _, err := restore.Run(s.t.Context(), opts); err == nil || errors.Is(err, restore.ErrChecksum) {
		s.t.Errorf("a time before all: %v", err)
	}
}
