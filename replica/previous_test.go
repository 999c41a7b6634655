package replica_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal/segment"
)

// Pages that the cache does not hold are shipped as deltas all the same: after a
// checkpoint, and after a start, wherever their images are then.
func TestFirstTouches(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(a *app, e *engine, again func() *engine) *engine{
		"in the WAL":         func(_ *app, e *engine, _ func() *engine) *engine { return e },
		"after a checkpoint": func(a *app, e *engine, _ func() *engine) *engine { awaitCopied(a); return e },
		"after a start": func(_ *app, e *engine, again func() *engine) *engine {
			e.stop()
			return again()
		},
		"after a checkpoint and a start": func(a *app, e *engine, again func() *engine) *engine {
			awaitCopied(a)
			e.stop()
			return again()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newApp(t), mem.New()
			a.insert(80)
			p := replica.NewProcess()
			p.SetCacheMemory(0)
			t.Cleanup(func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
			opts := replica.Options{Path: a.path, Bucket: b, SyncInterval: time.Millisecond, CheckpointPages: 5, Process: p}
			e := launch(t, opts)
			if name == "in the WAL" || name == "after a start" {
				holdBack(t, a)
			}
			id := state.TXID(1)
			change := func() {
				for i := range 10 {
					a.exec(fmt.Sprintf("UPDATE t SET v = randomblob(500) WHERE id = %d", 8*i+1))
					id++
					shipped(t, b, id) // A turn each, so that what one of them waits for costs the next nothing.
				}
			}
			change()
			e = between(a, e, func() *engine { return launch(t, opts) })
			change()
			e.stop()
			if whole, deltas := framesAfter(t, b, 1); deltas <= 9*whole { // a disk may be slow once
				t.Errorf("%d pages are whole, and %d are deltas", whole, deltas)
			}
			if got := restored(t, b, 0); got != a.digest() {
				t.Error("the newest state differs")
			}
		})
	}
}

// holdBack keeps what is written from now on from being checkpointed.
func holdBack(t *testing.T, a *app) {
	t.Helper()
	reader := &client{path: a.path}
	if err := reader.read(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reader.unread(); err != nil {
			t.Error(err)
		}
	})
}

// awaitCopied waits until the database file has all that is in the WAL.
func awaitCopied(a *app) {
	a.t.Helper()
	c := client{path: a.path, db: a.db}
	err := await(func() (bool, error) {
		f, err := c.facts()
		return f.copied == f.frames, err
	}, nil)
	if err != nil {
		a.t.Fatal(err)
	}
}

// framesAfter counts the pages of the log's commits after one.
func framesAfter(t *testing.T, b storage.Bucket, after state.TXID) (whole, deltas int) {
	t.Helper()
	err := b.List(t.Context(), "log/", "", func(o storage.Info) error {
		body, err := b.Get(t.Context(), o.Key, 0, -1)
		if err != nil {
			return err
		}
		defer body.Close() //nolint:errcheck // only read
		r, err := segment.NewReader(body, o.Size)
		if err != nil {
			return err
		}
		for {
			rec, err := r.Next()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case rec.Commit.TXID != 0 || r.Last().TXID < after:
			case rec.Delta:
				deltas++
			default:
				whole++
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return whole, deltas
}
