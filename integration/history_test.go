package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// history is the commits of a replica, oldest first: TXID i+1 at i.
type history []archive.Commit

// readHistory lists a replica and proves that it has no gap and that the times
// never go back.
func readHistory(t *testing.T, at place) history {
	t.Helper()
	a, err := archive.Open(t.Context(), at.bucket)
	if err != nil {
		t.Fatal(err)
	}
	var h history
	err = a.Commits(t.Context(), archive.Query{}, func(c archive.Commit) error {
		h = append(h, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(h)
	for i, c := range h {
		if c.TXID != state.TXID(i+1) {
			t.Fatalf("commit %d of the history has TXID %v", i+1, c.TXID)
		}
		if c.Snapshot != (i == 0) {
			t.Errorf("TXID %v: Snapshot = %v", c.TXID, c.Snapshot)
		}
		if i > 0 && c.Time.Before(h[i-1].Time) {
			t.Errorf("TXID %v is of %v, before TXID %v", c.TXID, c.Time, h[i-1].TXID)
		}
	}
	return h
}

func (h history) last() state.TXID { return state.TXID(len(h)) }

// resyncs lists the commits that tidemark made to repair continuity.
func (h history) resyncs() (ids []state.TXID) {
	for _, c := range h {
		if c.Resync {
			ids = append(ids, c.TXID)
		}
	}
	return ids
}

// resynced counts them among TXIDs (after, upTo].
func (h history) resynced(after, upTo state.TXID) (n int) {
	for _, id := range h.resyncs() {
		if id > after && id <= upTo {
			n++
		}
	}
	return n
}

// restored restores a commit into a folder, with SQLite's own check.
func restored(ctx context.Context, from storage.Bucket, id state.TXID, dir string) (string, error) {
	out := filepath.Join(dir, fmt.Sprintf("txid-%d.db", id))
	res, err := restore.Run(ctx, restore.Options{
		Bucket: from, Output: out, Target: restore.Target{TXID: id},
		Integrity: restore.Full, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", fmt.Errorf("restore TXID %v: %w", id, err)
	}
	if id != 0 && (res.TXID != id || res.AfterLast) {
		return "", fmt.Errorf("restore of TXID %v gave %v", id, res.TXID)
	}
	return out, nil
}

// eachRestored restores commits with the program, several at once, and hands
// the files to check.
func eachRestored(t *testing.T, from place, ids []state.TXID, check func(id state.TXID, path string) error) {
	t.Helper()
	exe := buildProgram(t)
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(runtime.NumCPU())
	for _, id := range ids {
		dir := t.TempDir()
		g.Go(func() error {
			path, err := programRestore(ctx, exe, from, id, dir)
			if err != nil {
				return err
			}
			if err := check(id, path); err != nil {
				return fmt.Errorf("TXID %v: %w", id, err)
			}
			return os.RemoveAll(dir)
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// wantSameFile compares a restored database with the original, byte by byte.
// Nothing is left out: both are smaller than 1 GiB, so there is no lock-byte
// page, and the header's change counters are part of the commit, for SQLite
// sets them when it writes page 1 into the WAL.
func wantSameFile(t *testing.T, got, want string) {
	t.Helper()
	g, err := os.ReadFile(got)
	w, err2 := os.ReadFile(want)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(g, w) {
		return
	}
	at := 0
	for at < min(len(g), len(w)) && g[at] == w[at] {
		at++
	}
	t.Errorf("the restored database has %d bytes, the original %d; they differ from byte %d on", len(g), len(w), at)
}
