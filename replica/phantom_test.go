package replica_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
	"tidemark/wal"
)

// A commit whose writer died after writing its last frame and before publishing
// it is none: the next writer writes over it. Nothing of it may be shipped.
func TestPhantomCommit(t *testing.T) {
	t.Parallel()
	a, b := newApp(t), mem.New()
	a.insert(3)
	forge(t, a.path+"-wal") // one is there before tidemark comes
	e := launch(t, replica.Options{Path: a.path, Bucket: b, SyncInterval: 0})
	want := []string{"", a.digest()}
	for range 5 {
		a.insert(1)
		want = append(want, a.digest())
		shipped(t, b, state.TXID(len(want)-1))
		forge(t, a.path+"-wal")
		settle(t, e)
	}
	e.stop()
	if n := len(commitsOf(t, b)); n != len(want)-1 {
		t.Errorf("%d commits, want %d", n, len(want)-1)
	}
	for id := 1; id < len(want); id++ {
		if got := restored(t, b, state.TXID(id)); got != want[id] {
			t.Errorf("TXID %d: digest %s, want %s", id, got, want[id])
		}
	}
}

// settle gives the engine time to take what it must not take.
func settle(t *testing.T, e *engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	select {
	case err := <-e.done:
		t.Fatal("replication ended: ", err)
	case <-ctx.Done():
	}
}

// forge appends a frame to a WAL that commits a page of rubbish, with the right
// salts and checksums.
func forge(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the write is checked
	h, err := wal.ReadHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := wal.NewReader(f, h, h.Start())
	var last wal.Commit
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = c
	}
	rubbish := bytes.Repeat([]byte{0xab}, int(h.PageSize))
	frame, _ := h.AppendFrame(nil, last.End, 2, last.Pages, rubbish)
	if _, err := f.WriteAt(frame, h.Offset(last.End.Frame+1)); err != nil {
		t.Fatal(err)
	}
}
