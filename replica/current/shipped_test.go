package current_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/current"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal/segment"
)

// sealed is a segment, and how the state directory names it.
type sealed struct {
	local.Object
	raw []byte
}

// seal makes a segment of the commits from 2 on, which change nothing.
func (s *scene) seal(last state.TXID) sealed {
	s.t.Helper()
	const first = state.TXID(2)
	table := state.NewTable(pageSize)
	table.Set(1, state.SumPage(1, s.page))
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{
		PageSize: pageSize, Replica: s.arch.Meta().Replica, First: first, Before: table.Checksum(), PagesBefore: 1, Time: time.UnixMilli(2000),
	})
	for range last - first + 1 {
		err := w.Full(1, s.page)
		if err == nil {
			_, err = w.Commit(segment.Commit{Time: time.UnixMilli(2000), Pages: 1, After: table.Checksum()})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	t, err := w.Close(table.At)
	if err != nil {
		s.t.Fatal(err)
	}
	return sealed{local.Object{First: first, Last: last, Sum: t.Sum()}, b.Bytes()}
}

// put puts it into the archive.
func (s *scene) put(x sealed) {
	s.t.Helper()
	body := archive.Body{Size: int64(len(x.raw)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.raw)), nil }}
	if err := s.arch.PutSegment(s.t.Context(), x.First, body); err != nil {
		s.t.Fatal(err)
	}
}

// ships notes what is in the archive, and what is on its way.
func (s *scene) ships(newest, next local.Object) {
	s.t.Helper()
	if err := s.dir.SaveShipped(local.Shipped{Replica: s.arch.Meta().Replica, Newest: newest, Next: next}); err != nil {
		s.t.Fatal(err)
	}
}

func first() local.Object { return local.Object{Last: 1, Sum: 2000} }

// That something is on its way does not make it be there.
func TestOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		counted := storage.Count(s.bucket)
		s.bucket = counted
		s.wal(5, 3)
		s.at = 4
		s.remembers(5, 3)
		f := s.begin()
		f.waits(t, "it waits in the spool")
		x, other := s.seal(4), s.seal(5)
		spool := local.SpoolPath(local.DefaultPath(s.path), x.First)
		if err := os.WriteFile(spool, x.raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s.ships(first(), x.Object)
		f.waits(t, "it is being put")
		if n := counted.Requests(); n.List+n.Get > 0 {
			t.Errorf("the archive is asked in vain: %+v", n)
		}
		if err := os.Remove(spool); err != nil {
			t.Fatal(err)
		}
		f.waits(t, "it is gone, and not in the archive")
		if n := counted.Requests(); n.List > 10 {
			t.Errorf("the archive is asked all the time: %+v", n)
		}
		s.put(other)
		f.waits(t, "somebody else's is there")
		if err := s.bucket.Delete(t.Context(), archive.SegmentKey(2)); err != nil {
			t.Fatal(err)
		}
		s.put(x)
		f.finds(t, "it is there")
	})
}

// When the replicator ends, what it has done counts, whatever was asked before.
func TestEnding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.wal(5, 3)
		s.at = 4
		s.remembers(5, 3)
		x := s.seal(4)
		s.ships(first(), x.Object)
		f := s.begin()
		f.waits(t, "it is on its way")
		s.put(x)
		if err := s.dir.Close(); err != nil {
			t.Fatal(err)
		}
		f.finds(t, "it was the last")
	})
}

// A full spool is given up: the commits get other numbers.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.wal(5, 3)
		s.at = 9
		s.remembers(5, 3)
		f := s.begin()
		f.waits(t, "nothing is uploaded")
		s.wal(6, 0)
		f.waits(t, "the WAL restarts")
		x := s.seal(2)
		s.put(x)
		s.ships(x.Object, local.Object{})
		s.at = 2
		s.remembers(5, 1)
		f.waits(t, "what is remembered is too old")
		s.remembers(6, 0)
		f.finds(t, "one commit stands for all")
	})
}

// Storage that is away is waited for; without a replicator it is an error.
func TestAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.wal(5, 3)
		s.remembers(5, 3)
		away := &away{Bucket: s.bucket}
		s.bucket = away
		away.gone.Store(true)
		f := s.begin()
		f.waits(t, "storage is away")
		away.gone.Store(false)
		f.finds(t, "it is back")
		away.gone.Store(true)
		if err := s.dir.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := current.Find(t.Context(), current.Options{Path: s.path, Bucket: s.bucket, Logger: discard()})
		if !errors.Is(err, storage.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}

// away is a bucket that can't be reached at times.
type away struct {
	storage.Bucket
	gone atomic.Bool
}

func (a *away) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if a.gone.Load() {
		return storage.ErrUnreachable
	}
	return a.Bucket.List(ctx, prefix, after, fn)
}
