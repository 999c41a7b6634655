package replica_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
)

// While storage is down, commits wait in the spool and the WAL still restarts.
func TestOutage(t *testing.T) {
	t.Parallel()
	w, b := newWriter(newApp(t)), &faulty{Bucket: mem.New()}
	e := launch(t, replica.Options{Path: w.path, Bucket: b, SyncInterval: 5 * time.Millisecond, CheckpointPages: 10})
	b.set(true)
	w.writeUntilRestart()
	b.set(false)
	shipped(t, b, w.last())
	e.stop()
	w.verify(b)
}

// What a stop could not upload is shipped first by the next start, and by the
// start after a crash too.
func TestSpoolSurvives(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		a, b := newApp(t), &faulty{Bucket: mem.New()}
		opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: 5 * time.Millisecond, CheckpointPages: 10}
		launch(t, opts).stop()
		b.set(true)
		want := map[state.TXID]string{1: a.digest()}
		for i := range 30 {
			a.insert(1)
			want[state.TXID(i+2)] = a.digest()
		}
		if _, err := replica.Once(t.Context(), opts); !errors.Is(err, errDown) {
			t.Fatalf("Once with storage down: %v", err)
		}
		b.set(false)
		if crash { // nothing of the application is left but its files
			a.close()
			a.open()
		}
		if _, err := replica.Once(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		for _, c := range commitsOf(t, b) {
			if c.Resync {
				t.Errorf("TXID %v is a resync", c.TXID)
			}
		}
		for id, d := range want {
			if got := restored(t, b, id); got != d {
				t.Errorf("TXID %v: digest %s, want %s", id, got, d)
			}
		}
	}
}

// A replicator that is killed at any moment loses no commit that a hand-off let
// out of the WAL: the segment that was being written is taken up again. The
// state directory is copied as a crash would leave it, at many moments.
func TestKilledBetweenHandOffs(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Hour, CheckpointPages: 5}
	e := launch(t, opts)
	dir := local.DefaultPath(a.path)
	want := []string{"", a.digest()}
	type moment struct {
		dir   string
		after int
	}
	var moments []moment
	for i := range 40 {
		a.insert(1)
		want = append(want, a.digest())
		m := moment{filepath.Join(t.TempDir(), "state"), i + 2}
		copyState(t, dir, m.dir)
		moments = append(moments, m)
	}
	if got := last(t, b); got != 1 {
		t.Fatalf("TXID %v is in the archive, want 1: the test shows nothing", got)
	}
	e.end() //nolint:errcheck // shown elsewhere
	shown := 0
	for _, m := range moments {
		opts := opts
		opts.StateDir, opts.Bucket = m.dir, afterSnapshot(t, b)
		if _, err := replica.Once(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		cs := commitsOf(t, opts.Bucket)
		for i, c := range cs {
			if c.Resync && i != len(cs)-1 {
				t.Errorf("killed at %d: TXID %v is a resync", m.after, c.TXID)
			}
		}
		known := len(cs)
		if cs[known-1].Resync {
			known--
		}
		shown += known
		for id := 1; id <= known; id += 1 + known/5 {
			if got := restored(t, opts.Bucket, state.TXID(id)); got != want[id] {
				t.Errorf("killed at %d: TXID %d: digest %s, want %s", m.after, id, got, want[id])
			}
		}
		if got := restored(t, opts.Bucket, 0); got != a.digest() {
			t.Errorf("killed at %d: the newest state differs", m.after)
		}
	}
	// 41 commits after the last moment, 21 on average, less what came after
	// the last hand-off.
	if shown < 12*len(moments) {
		t.Errorf("on average, %d commits survived of 21", shown/len(moments))
	}
}

// afterSnapshot copies the bucket as it was before any segment.
func afterSnapshot(t *testing.T, b *mem.Bucket) *mem.Bucket {
	t.Helper()
	return clone(t, b, func(key string) bool { return filepath.Dir(key) != "log" })
}
