package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/file"
)

// shown is what a commit of a replica shows: the last transaction of a ledger,
// and what the ledger says of it.
type shown struct {
	n      int64
	digest string
}

// readShown proves that a database file is whole, and gives what it shows.
func readShown(ctx context.Context, path string) (s shown, err error) {
	if s.n, err = readLedger(ctx, path); err != nil || s.n == 0 {
		return s, err
	}
	db, err := openReadOnly(path)
	if err != nil {
		return s, err
	}
	defer db.Close() //nolint:errcheck // only read
	return s, db.QueryRowContext(ctx, "SELECT digest FROM oracle WHERE n = ?", s.n).Scan(&s.digest)
}

// readOracle gives the digest of each transaction of a database that nobody
// writes to any more: that of the n-th at n.
func readOracle(t *testing.T, path string) (digests []string) {
	t.Helper()
	db, err := openReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	rows, err := db.QueryContext(t.Context(), "SELECT digest FROM oracle ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	digests = append(digests, "")
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return digests
}

// maxRepairsRestored bounds how many repairs are looked at one by one.
const maxRepairsRestored = 15

// wantTraceable proves of a history with repairs that it shows every commit
// between them: it ends with the last transaction of the database, which is
// closed; each TXID is a transaction that the database has, with the same
// content; and of two TXIDs without a repair between them the transactions are as
// far apart. It logs how many transactions have a TXID of their own.
func wantTraceable(t *testing.T, at place, db string) (h history) {
	t.Helper()
	h, digests := readHistory(t, at), readOracle(t, db)
	ids := sample(h.last(), 15)
	repairs := h.resyncs()
	for i, id := range repairs {
		if (i+1)*maxRepairsRestored/len(repairs) > i*maxRepairsRestored/len(repairs) || len(repairs) <= maxRepairsRestored {
			ids = append(ids, id-1, id)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	states := make([]shown, h.last()+1)
	eachRestored(t, at, ids, func(id state.TXID, path string) (err error) {
		if states[id], err = readShown(t.Context(), path); err != nil {
			return err
		}
		if s := states[id]; s.n >= int64(len(digests)) || digests[s.n] != s.digest {
			err = fmt.Errorf("it ends with a transaction %d that the database does not have: %s", s.n, s.digest)
		}
		return err
	})
	for i, id := range ids[1:] {
		before := ids[i]
		apart, want := states[id].n-states[before].n, int64(id-before)
		if repairs := h.resynced(before, id); repairs == 0 && apart != want || apart < want-int64(repairs) {
			t.Errorf("from TXID %v to %v there are %d transactions and %d repairs", before, id, apart, repairs)
		}
	}
	commits := int64(len(digests) - 1)
	if n := states[h.last()].n; n != commits {
		t.Errorf("the history ends with transaction %d of %d", n, commits)
	}
	// Every TXID but a repair, and but the state at the beginning, is one.
	individual := len(h) - 1 - len(repairs)
	t.Logf("%d transactions, %d TXIDs, %d repairs; %d transactions (%.2f %%) can be restored individually; %d TXIDs were restored",
		commits, h.last(), len(repairs), individual, 100*float64(individual)/float64(max(1, commits-states[1].n)), len(ids))
	return h
}

// repairsLogged gives the TXIDs of the repairs that a log tells of, and how many of
// them came when the database was being followed already.
func repairsLogged(t *testing.T, log string) (ids []state.TXID, late int) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	following := false
	for text := range bytes.Lines(b) {
		var line struct {
			Msg  string
			TXID state.TXID
		}
		if json.Unmarshal(text, &line) != nil {
			continue
		}
		switch line.Msg {
		case "following":
			following = true
		case "continuity could not be proven; what differs is one commit of the history":
			ids = append(ids, line.TXID)
			if following {
				late++
			}
		}
	}
	return ids, late
}

// keptDir is a folder for a test, which stays if the test fails, with the replica.
func keptDir(t *testing.T, at place) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tidemark-kept-") //nolint:usetesting // See above.
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			err := copyReplica(context.WithoutCancel(t.Context()), at.bucket, filepath.Join(dir, "replica"))
			t.Logf("all files are kept in %s (%v)", dir, err)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// copyReplica copies a replica into a folder.
func copyReplica(ctx context.Context, from storage.Bucket, dir string) error {
	to, err := file.Open(dir, file.Options{Create: true})
	if err != nil {
		return err
	}
	return from.List(ctx, "", "", func(o storage.Info) error {
		body, err := from.Get(ctx, o.Key, 0, -1)
		if err != nil {
			return err
		}
		err = to.Put(ctx, o.Key, body, storage.PutOptions{Size: -1})
		return errors.Join(err, body.Close())
	})
}
