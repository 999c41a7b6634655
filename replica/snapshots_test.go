package replica_test

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
)

// drip lets snapshots be uploaded a piece at a time only, one for each step, until
// it is opened.
type drip struct {
	*mem.Bucket
	steps chan struct{}
	open  sync.Once
}

func newDrip() *drip { return &drip{Bucket: mem.New(), steps: make(chan struct{})} }

// step lets a piece pass, if one waits.
func (d *drip) step() {
	select {
	case d.steps <- struct{}{}:
	default:
	}
}

func (d *drip) flow() { d.open.Do(func() { close(d.steps) }) }

func (d *drip) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if strings.HasPrefix(key, "snapshot/") && !strings.HasPrefix(key, "snapshot/0000000000000001-") {
		body = &dripping{ctx, body, d.steps}
	}
	return d.Bucket.Put(ctx, key, body, opts)
}

type dripping struct {
	ctx   context.Context //nolint:containedctx // io.Reader takes none
	r     io.Reader
	steps <-chan struct{}
}

func (d *dripping) Read(b []byte) (int, error) {
	select {
	case <-d.steps:
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	return d.r.Read(b[:min(len(b), 64<<10)])
}

// snapshotsOf checks every snapshot from end to end and gives them.
func snapshotsOf(t *testing.T, b storage.Bucket) []archive.Snapshot {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	all := a.Listing().Snapshots
	for _, s := range all {
		r, err := b.Get(t.Context(), s.Key(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := snapshot.Verify(r); err != nil {
			t.Errorf("%s: %v", s.Key(), err)
		}
		_ = r.Close()
	}
	return all
}

// Snapshots that take long are of one commit each, whatever is written and
// checkpointed meanwhile, and the WAL is handed off all the same.
func TestSnapshotsWhileWriting(t *testing.T) {
	t.Parallel()
	for _, vacuum := range []string{"NONE", "INCREMENTAL"} {
		t.Run("auto_vacuum="+vacuum, func(t *testing.T) {
			t.Parallel()
			b := newDrip()
			defer b.flow()
			s := newScene(t, func(s *scene) {
				s.b = b.Bucket
				s.opts.Bucket, s.opts.CheckpointPages, s.opts.SnapshotInterval = b, 20, time.Nanosecond
				s.safe = 1
				for range 300 {
					s.a.exec("INSERT INTO big VALUES(randomblob(9000))")
				}
				s.states = []string{s.a.content()}
			}, "PRAGMA auto_vacuum="+vacuum)
			e := launch(t, s.opts)
			attached := s.a.content()
			frames := 0
			for i := range 150 {
				s.change(i)
				b.step()
				frames = max(frames, framesOf(t, s.a.path))
			}
			b.flow()
			for len(snapshotsOf(t, b)) < 4 {
				s.update(1)
			}
			e.stop()
			s.check(exact, attached, 1)
			all := snapshotsOf(t, b)
			t.Logf("%d snapshots: %v; the WAL had %d frames at most", len(all), all, frames)
			if frames > 2500 {
				t.Errorf("the WAL grew to %d frames while a snapshot was made", frames)
			}
		})
	}
}

// change makes a commit of some kind.
func (s *scene) change(i int) {
	s.t.Helper()
	switch {
	case i%40 == 39:
		s.commit("VACUUM")
	case i%17 == 16:
		s.commit("DELETE FROM big WHERE rowid = (SELECT max(rowid) FROM big)")
		if row(s.t, s.a.db, "PRAGMA auto_vacuum") == "2" {
			s.commit("PRAGMA incremental_vacuum")
		}
	case i%11 == 10:
		s.commit("INSERT INTO big VALUES(randomblob(90000))")
	case i%13 == 12:
		s.a.exec("PRAGMA wal_checkpoint(" + []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[rand.IntN(4)] + ")")
	default:
		s.commit("UPDATE big SET v=randomblob(9000) WHERE rowid=(SELECT rowid FROM big ORDER BY random() LIMIT 1)")
	}
}

// framesOf is the length of a database's WAL file in frames.
func framesOf(t *testing.T, db string) int {
	t.Helper()
	info, err := os.Stat(db + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size()) / (4096 + wal.FrameHeaderSize)
}

// A run that does not follow the database makes a snapshot when one is due, too,
// or is asked for.
func TestSnapshotOnce(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	opts := replica.Options{
		Path: a.path, Bucket: b, StateDir: filepath.Join(t.TempDir(), "state"), SnapshotInterval: time.Hour, Logger: discard(),
		Now: func() time.Time { return now },
	}
	want := []string{""}
	once := func(after time.Duration, kind replica.SnapshotKind, bases ...state.TXID) {
		t.Helper()
		now = now.Add(after)
		opts.Snapshot = kind
		a.insert(1)
		want = append(want, a.digest())
		if _, err := replica.Once(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		var got []state.TXID
		for _, s := range snapshotsOf(t, b) {
			got = append(got, s.Base)
		}
		if !slices.Equal(got, bases) {
			t.Fatalf("snapshots with bases %v, want %v", got, bases)
		}
	}
	a.exec("INSERT INTO t(v) VALUES(zeroblob(200000))")
	for range 40 {
		a.exec("INSERT INTO t(v) VALUES(randomblob(9000))")
	}
	once(0, replica.NoSnapshot, 0)
	once(59*time.Minute, replica.NoSnapshot, 0)
	once(time.Minute, replica.NoSnapshot, 0, 1)
	once(59*time.Minute, replica.NoSnapshot, 0, 1)
	once(0, replica.AnySnapshot, 0, 1, 3)
	once(0, replica.FullSnapshot, 0, 1, 3, 0)
	now = now.Add(24 * time.Hour)
	opts.StateDir = filepath.Join(t.TempDir(), "another")      // the base is read back
	if _, err := replica.Once(t.Context(), opts); err != nil { // without a commit since
		t.Fatal(err)
	}
	once(0, replica.NoSnapshot, 0, 1, 3, 0, 6)
	for i, w := range want[1:] {
		if got := restored(t, b, state.TXID(i+1)); got != w {
			t.Errorf("TXID %d is %s, want %s", i+1, got, w)
		}
	}
}
