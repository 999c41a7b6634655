package integration_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"tidemark/snapshot/state"
)

// TestStop stops tidemark under load, in good order, and starts it again while
// the application holds the database open.
func TestStop(t *testing.T) {
	t.Parallel()
	at, db := folderPlace(t), filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	p := replicate(t, db, at, "--sync-interval", "100ms")
	p.attached(t, at)

	app.do(t, "start")
	p.reached(t, at, 2000)
	acked := app.acked(t)
	p.stop(t)
	last := wantWhole(t, at)
	if last < acked {
		t.Errorf("%d commits were made before the signal, the replica ends with the %d-th", acked, last)
	}
	app.do(t, "stop")

	// The application has gone on and the WAL may have restarted: one repair is
	// allowed. From here on it waits whenever tidemark is down or coming up.
	p = replicate(t, db, at, "--sync-interval", "100ms")
	p.resumed(t)
	settled(t, p, at, app.write(t, 50))
	p.stop(t)
	carried := 0
	const starts = 6
	for range starts {
		if carriesOn(t, app, at, db) {
			carried++
		}
	}
	// The application checkpoints at most once in so few commits. If the WAL has
	// restarted, about one in four has a frame that is as the page was before.
	if carried < 2 {
		t.Errorf("%d of %d starts carried on", carried, starts)
	}
	app.checkpoint(t)
	app.close(t)
	out, err := restored(t.Context(), at.bucket, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wantSameFile(t, out, db)
}

// carriesOn lets a few commits come while tidemark is down, starts it, and lets
// a few more come. Each must get a TXID of its own, also if the WAL restarts while
// tidemark is down, as it does with the next commit after a hand-off: nothing of
// the new one is in the database file yet, which proves that it continues the old
// one. Only if the application itself has checkpointed meanwhile, and so restarted
// the WAL, or if it looks as if it had, since a frame of the new one is what the
// page was before, those that came while tidemark was down are one, a repair.
func carriesOn(t *testing.T, app *writer, at place, db string) bool {
	t.Helper()
	const each = 20
	before := readHistory(t, at)
	was := walHeader(t, db)
	commits := app.write(t, each) // while it is down
	restarted := walHeader(t, db).Salts != was.Salts
	p := replicate(t, db, at, "--sync-interval", "0")
	settled(t, p, at, commits)
	commits = app.write(t, each) // while it runs
	settled(t, p, at, commits)
	p.stop(t)

	h := readHistory(t, at)
	repairs, last := h.resynced(before.last(), h.last()), before.last()+2*each
	if repairs > 0 {
		last = before.last() + 1 + each
	}
	if repairs > 1 || repairs > 0 && !restarted || h.last() != last {
		t.Errorf("from TXID %v on there are %d repairs (WAL restarted: %t) and the last TXID is %v, want %v",
			before.last(), repairs, restarted, h.last(), last)
	}
	ids := []state.TXID{h.last() - each, h.last() - 7, h.last()}
	wantLedger(t, at, ids, func(id state.TXID) int64 { return commits - int64(h.last()-id) })
	return repairs == 0
}

// settled waits until the replica ends with the n-th transaction.
func settled(t *testing.T, p *process, at place, n int64) {
	t.Helper()
	p.eventually(t, fmt.Sprintf("transaction %d", n), func() bool { return newest(t, at) == n })
}

// newest is the transaction that the replica ends with.
func newest(t *testing.T, at place) int64 {
	t.Helper()
	path, err := restored(t.Context(), at.bucket, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n, err := readLedger(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantWhole proves that the replica's newest state is whole and tells which
// transaction it is.
func wantWhole(t *testing.T, at place) int64 {
	t.Helper()
	readHistory(t, at)
	return newest(t, at)
}
