package integration_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
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
	for range 3 {
		if carriesOn(t, app, at, db) {
			carried++
		}
	}
	if carried < 2 { // the application checkpoints at most once in so few commits
		t.Errorf("%d of 3 starts carried on", carried)
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
// the WAL, those that came while tidemark was down are one, a repair.
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

// TestKill kills tidemark under load, again and again, and also right after it
// has started. No commit may be lost, and every TXID must be a state that was
// committed. If the WAL restarted and tidemark did not live to see it, the
// commits since the hand-off become one, marked as a repair: one for a kill under
// load, at most, and no more while the application waits, however often
// tidemark is killed then.
func TestKill(t *testing.T) {
	t.Parallel()
	at, db := folderPlace(t), filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	start := func() *process {
		return replicate(t, db, at, "--sync-interval", "50ms", "--checkpoint-pages", "300")
	}
	p := start()
	p.attached(t, at)
	const rounds = 7
	for round := range rounds {
		app.do(t, "start")
		// Anywhere in what it does, not just after an upload.
		moment := app.acked(t) + 500 + rand.Int64N(1000)
		p.eventually(t, "the moment to die", func() bool { return app.acked(t) >= moment })
		if round%2 == 0 {
			p.kill(t)
			p = start()
			p.resumed(t)
			continue
		}
		commits, before := app.do(t, "stop"), headOf(t, at)
		for range round {
			p.kill(t)
			p = start()
			p.resumed(t)
		}
		settled(t, p, at, commits)
		h := readHistory(t, at)
		if n := h.resynced(before, h.last()); n > 1 {
			t.Errorf("round %d: %d repairs although the application waited", round+1, n)
		}
	}
	commits := app.do(t, "stop")
	p.stop(t)
	wantTraceable(t, at, commits)
	if n := len(readHistory(t, at).resyncs()); n > rounds {
		t.Errorf("%d repairs after %d kills under load", n, rounds)
	}
	app.checkpoint(t)
	app.close(t)
	out, err := restored(t.Context(), at.bucket, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wantSameFile(t, out, db)
}

// wantTraceable proves of a history with repairs that it shows every commit
// between them: it ends with the given transaction, and of two TXIDs without a
// repair between them the transactions are as far apart.
func wantTraceable(t *testing.T, at place, commits int64) {
	t.Helper()
	h := readHistory(t, at)
	ids := sample(h.last(), 12)
	for _, id := range h.resyncs() {
		ids = append(ids, id-1, id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	shown := make([]int64, h.last()+1)
	eachRestored(t, at, ids, func(id state.TXID, path string) (err error) {
		shown[id], err = readLedger(t.Context(), path)
		return err
	})
	for i, id := range ids[1:] {
		before := ids[i]
		apart, want := shown[id]-shown[before], int64(id-before)
		if repairs := h.resynced(before, id); repairs == 0 && apart != want || apart < want-int64(repairs) {
			t.Errorf("from TXID %v to %v there are %d transactions and %d repairs", before, id, apart, repairs)
		}
	}
	if n := shown[h.last()]; n != commits {
		t.Errorf("the history ends with transaction %d of %d", n, commits)
	}
	t.Logf("%d transactions, %d TXIDs, repairs at %v", commits, h.last(), h.resyncs())
}
