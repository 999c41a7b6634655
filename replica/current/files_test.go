package current_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/current"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
)

const pageSize = wal.PageSize(512)

// scene is what a replicator and an application leave behind, written by hand: a
// database of one page, a WAL, and a state directory whose lock is held.
type scene struct {
	t      *testing.T
	path   string
	bucket storage.Bucket
	arch   *archive.Archive
	dir    *local.Dir
	page   []byte
	// at is the commit that is remembered.
	at state.TXID
}

func (s *scene) ReadPages(_ wal.PageNo, buf []byte) error { copy(buf, s.page); return nil }

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, path: filepath.Join(t.TempDir(), "app.db"), bucket: mem.New(), page: make([]byte, pageSize), at: 1}
	copy(s.page, "SQLite format 3\x00\x02\x00")
	s.write("", s.page)
	var err error
	if s.arch, err = archive.Create(t.Context(), s.bucket, pageSize, time.UnixMilli(1000)); err != nil {
		t.Fatal(err)
	}
	h := snapshot.Header{PageSize: pageSize, TXID: 1, Pages: 1, Time: 2000}
	if _, err := s.arch.PutSnapshot(t.Context(), h, s, snapshot.WriteOptions{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	if s.dir, err = local.Open(disk.OS{}, local.DefaultPath(s.path)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.dir.Close() // a test may have done so
	})
	shipped := local.Shipped{Replica: s.arch.Meta().Replica, Newest: local.Object{Last: 1, Sum: 2000}}
	if err := s.dir.SaveShipped(shipped); err != nil {
		t.Fatal(err)
	}
	return s
}

// write replaces a file in one step.
func (s *scene) write(suffix string, content []byte) {
	s.t.Helper()
	name := s.path + suffix
	err := os.WriteFile(name+".tmp", content, 0o600)
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// wal writes a WAL of a generation, with a commit in each of some frames.
func (s *scene) wal(generation uint32, frames int) {
	s.t.Helper()
	b := wal.Header{PageSize: pageSize, Salts: wal.Salts{Salt1: generation, Salt2: 7 * generation}}.AppendTo(nil)
	h, err := wal.ParseHeader(b)
	if err != nil {
		s.t.Fatal(err)
	}
	for at := h.Start(); at.Frame < uint32(frames); {
		b, at = h.AppendFrame(b, at, 1, 1, make([]byte, pageSize))
	}
	s.write("-wal", b)
}

// remembers saves a position.
func (s *scene) remembers(generation, frame uint32) {
	s.t.Helper()
	var p wal.Position
	if generation > 0 {
		p = wal.Position{Salts: wal.Salts{Salt1: generation, Salt2: 7 * generation}, Frame: frame}
	}
	err := s.dir.Save(local.State{
		Replica: s.arch.Meta().Replica, TXID: s.at, Pages: 1, Checksum: state.Checksum(0).Replace(0, state.SumPage(1, s.page)),
		Time: time.UnixMilli(2000), Position: p,
	}, local.Process)
	if err != nil {
		s.t.Fatal(err)
	}
}

// finding is a search under way.
type finding struct {
	cancel context.CancelFunc
	done   chan error
}

func (s *scene) begin() finding {
	ctx, cancel := context.WithCancel(s.t.Context())
	f := finding{cancel, make(chan error, 1)}
	go func() {
		c, err := current.Find(ctx, current.Options{Path: s.path, Bucket: s.bucket, Logger: discard()})
		if err == nil && (c.TXID != s.at || !c.Time.Equal(time.UnixMilli(2000))) {
			err = fmt.Errorf("it finds TXID %v of %v", c.TXID, c.Time)
		}
		f.done <- err
	}()
	return f
}

// waits checks that it does not end, for some seconds of the bubble's time.
func (f finding) waits(t *testing.T, when string) {
	t.Helper()
	select {
	case err := <-f.done:
		t.Fatalf("%s: it does not wait: %v", when, err)
	case <-time.After(3 * time.Second):
		synctest.Wait() // it may look at this very moment, and must not meet what comes next
	}
}

func (f finding) finds(t *testing.T, when string) {
	t.Helper()
	defer f.cancel()
	select {
	case err := <-f.done:
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	case <-time.After(3 * time.Second):
		t.Fatalf("%s: it waits", when)
	}
}

func (f finding) gives(t *testing.T, want error) {
	t.Helper()
	f.cancel()
	if err := <-f.done; !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// In the same generation the frame counts.
func TestSameGeneration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.wal(5, 3)
		s.remembers(5, 2)
		f := s.begin()
		f.waits(t, "a frame before the end")
		s.wal(5, 9)
		s.remembers(5, 3)
		f.finds(t, "at the end as it was at the beginning")
		s.remembers(5, 12)
		s.begin().finds(t, "after the end")
		s.wal(5, 0)
		s.remembers(5, 0)
		s.begin().finds(t, "a WAL without frames")
	})
}

// Another generation counts only if it was seen to come after that one.
func TestOtherGenerations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.wal(5, 3)
		s.remembers(4, 1000)
		f := s.begin()
		f.waits(t, "in the generation before")
		s.wal(6, 2)
		f.waits(t, "still there, when the next has begun")
		s.remembers(6, 0)
		f.finds(t, "at the beginning of the next")

		s.remembers(5, 2)
		f = s.begin() // of 6
		f.waits(t, "a generation that is gone")
		s.wal(7, 0)
		f.waits(t, "and for longer")
		s.wal(8, 1)
		f.waits(t, "and for longer")
		s.remembers(7, 1)
		f.finds(t, "in a later one that is gone by now")
	})
}

// Without a WAL the file decides.
func TestNoWAL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.remembers(5, 3)
		s.begin().finds(t, "no WAL")
		s.write("-wal", nil)
		s.begin().finds(t, "an empty WAL")
		s.remembers(0, 0)
		s.begin().finds(t, "a position before any WAL")

		other := append([]byte(nil), s.page...)
		other[100] = 1
		s.write("", other)
		f := s.begin()
		f.waits(t, "another file")
		s.wal(6, 3)
		f.waits(t, "then a WAL")
		s.remembers(6, 0)
		f.finds(t, "whose beginning is remembered")

		s.write("-wal", nil)
		f = s.begin()
		f.waits(t, "another file again")
		s.write("", s.page)
		f.finds(t, "which then is the state")
		s.wal(7, 1)
		s.remembers(6, 3)
		f = s.begin()
		f.waits(t, "an older generation")
		s.write("-wal", nil)
		f.finds(t, "when the WAL is gone, and the file is the state")

		s.write("", s.page[:300])
		f = s.begin()
		f.waits(t, "a file that is too short")
		f.gives(t, current.ErrBehind)
	})
}

// A header that is being written is neither a WAL nor none.
func TestTornHeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.remembers(5, 3)
		s.write("-wal", make([]byte, 100))
		f := s.begin()
		f.waits(t, "a torn header")
		s.wal(5, 3)
		f.finds(t, "a header")
		s.write("-wal", make([]byte, 100))
		f = s.begin()
		f.waits(t, "a torn header again")
		f.gives(t, current.ErrBehind)
	})
}

// What is remembered can be lost, when a full spool is given up.
func TestForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.wal(5, 3)
		f := s.begin()
		f.waits(t, "nothing is remembered")
		s.remembers(5, 3)
		f.finds(t, "then it is")
	})
}
