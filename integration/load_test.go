package integration_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

// loadVariable lengthens the load test: a duration, for the first writer, and for
// the old ones that checkpoint.
const loadVariable = "TIDEMARK_TEST_LOAD"

// application is a writer of any kind.
type application interface {
	run(t *testing.T, d time.Duration) (commits int64)
	checkpoint(t *testing.T)
	close(t *testing.T)
}

// TestLoad lets applications commit as fast as they can, with the checkpoints
// that SQLite makes by default, while tidemark replicates them to MinIO. It must
// miss nothing: the state when it attached is TXID 1, and the n-th commit after
// that is TXID n+1.
//
//nolint:paralleltest // It takes the whole machine.
func TestLoad(t *testing.T) {
	const short = 6 * time.Second
	long := loadDuration(t, 20*time.Second)
	python := func(t *testing.T, db string) application { t.Helper(); return pythonWriter(t, db) }
	shell := func(t *testing.T, db string) application { t.Helper(); return shellWriter(t, db) }
	t.Run("go", func(t *testing.T) {
		testLoad(t, minioPlace(t), long, 50, 0, func(t *testing.T, db string) application { t.Helper(); return goWriter(t, db) })
	})
	t.Run("python", func(t *testing.T) { testLoad(t, minioPlace(t), short, 10, 0, python) })
	t.Run("shell", func(t *testing.T) { testLoad(t, minioPlace(t), short, 10, 0, shell) })
}

// TestLoadCheckpoints lets applications whose SQLite is as old as the system's
// commit and checkpoint as fast as they can, with SQLite's own checkpoints and
// explicit ones of every mode. Nothing that was committed is lost on
// either side, each TXID is a state that was, and the database is whole. Now and
// then tidemark must let a checkpoint pass without a pin, and proves that it has
// missed nothing. Only if the WAL restarts twice in that moment it can't: then some
// commits share a TXID. That is told, and must stay rare.
//
//nolint:paralleltest // It takes the whole machine.
func TestLoadCheckpoints(t *testing.T) {
	d := loadDuration(t, 20*time.Second)
	if os.Getenv(loadVariable) != "" {
		d = max(d, time.Minute)
	}
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		testLoad(t, folderPlace(t), d, 5, maxAsides, func(t *testing.T, db string) application { t.Helper(); return churner{pythonWriter(t, db)} })
	})
	t.Run("shell", func(t *testing.T) {
		t.Parallel()
		testLoad(t, minioPlace(t), d, 5, maxAsides, func(t *testing.T, db string) application { t.Helper(); return churner{shellWriter(t, db)} })
	})
}

// churner is an application that makes checkpoints of its own.
type churner struct{ churning }

// churning is what it is made of.
type churning interface {
	application
	// churn is run with checkpoints, of which some can have been given up.
	churn(t *testing.T, d time.Duration) (commits, gaveUp int64)
}

func (c churner) run(t *testing.T, d time.Duration) (commits int64) {
	t.Helper()
	commits, gaveUp := c.churn(t, d)
	t.Logf("%d of the application's checkpoints gave up", gaveUp)
	return commits
}

// loadDuration is how long a load lasts.
func loadDuration(t *testing.T, d time.Duration) time.Duration {
	t.Helper()
	if v := os.Getenv(loadVariable); v != "" {
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			t.Fatalf("%s: %v", loadVariable, err)
		}
	}
	return d
}

// maxAsides is how many repairs a minute of checkpoints without a pause may take.
const maxAsides = 1

// mostShared is how many commits may share a TXID with others for such a repair.
func mostShared(commits int64) int64 { return max(commits/100, 10) }

func testLoad(t *testing.T, at place, d time.Duration, restores, repairs int, open func(*testing.T, string) application) {
	t.Helper()
	db := filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := open(t, db)
	p := replicate(t, db, at)
	p.attached(t, at)
	schema := schemaOf(t, at, 1)

	start := time.Now()
	commits := app.run(t, d)
	took := time.Since(start)
	resets := walHeader(t, db).Sequence
	p.stop(t)
	app.checkpoint(t)
	app.close(t)

	h := readHistory(t, at)
	ids, shared := h.resyncs(), commits+1-int64(h.last())
	if len(ids) > repairs || len(ids) == 0 && shared != 0 || shared > mostShared(commits) {
		t.Errorf("%d commits were made, so the last TXID must be %d; it is %v, after repairs at TXIDs %v", commits, commits+1, h.last(), ids)
	}
	asides := p.logged(t, func(line map[string]any) bool { return strings.HasPrefix(line["msg"].(string), "stepped aside") })
	t.Logf("stepped aside %d times, %d repairs; %d of %d commits share a TXID with others", asides, len(ids), shared, commits)
	rep := p.report(t)
	handOffs := p.logged(t, func(line map[string]any) bool { return line["msg"] == "handed off the WAL" })
	complete := p.logged(t, func(line map[string]any) bool {
		return line["msg"] == "handed off the WAL" && line["complete"] == true
	})
	t.Logf("%d commits in %.1f s (%.0f a second), %d TXIDs, %d hand-offs (%d complete), %d WAL resets, %d bytes in %d PUTs, %d GETs, %d LISTs",
		commits, took.Seconds(), float64(commits)/took.Seconds(), h.last(), handOffs, complete, resets,
		rep.Uploaded, rep.Requests.Put, rep.Requests.Get, rep.Requests.List)
	wantShared(t, at, sample(h.last(), restores), ids, shared)
	last, err := restored(t.Context(), at.bucket, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wantSameFile(t, last, db)
	if got := schemaIn(t, last); got != schema {
		t.Errorf("the schema has changed from\n%s\nto\n%s", schema, got)
	}
	if rep.TXID != uint64(h.last()) || rep.Commits != uint64(h.last()) || rep.Uploaded != bytesIn(t, at) {
		t.Errorf("tidemark reports %+v; the replica has %v commits and %d bytes", rep, h.last(), bytesIn(t, at))
	}
}

// sample picks some TXIDs at random, with the first and the last.
func sample(last state.TXID, n int) []state.TXID {
	ids := map[state.TXID]bool{1: true, last: true}
	for n = min(n, int(last)); len(ids) < n; {
		ids[1+state.TXID(rand.Uint64N(uint64(last)))] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// wantLedger restores commits and proves that each is the transaction that it
// must be, whole.
func wantLedger(t *testing.T, at place, ids []state.TXID, want func(state.TXID) int64) {
	t.Helper()
	eachRestored(t, at, ids, func(id state.TXID, path string) error {
		n, err := readLedger(t.Context(), path)
		if err == nil && n != want(id) {
			err = fmt.Errorf("it ends with transaction %d, not %d", n, want(id))
		}
		return err
	})
}

// wantShared restores commits and proves that each is the transaction that it
// must be: its place in the order, and after repairs that many more as share a
// TXID with others.
func wantShared(t *testing.T, at place, ids, repairs []state.TXID, shared int64) {
	t.Helper()
	eachRestored(t, at, ids, func(id state.TXID, path string) error {
		least, most := int64(id)-1, int64(id)-1
		if len(repairs) > 0 && id >= repairs[0] {
			most += shared
		}
		if len(repairs) > 0 && id >= repairs[len(repairs)-1] {
			least = most
		}
		n, err := readLedger(t.Context(), path)
		if err == nil && (n < least || n > most) {
			err = fmt.Errorf("it ends with transaction %d, not %d to %d", n, least, most)
		}
		return err
	})
}

// schemaOf gives all that sqlite_schema says at a commit.
func schemaOf(t *testing.T, at place, id state.TXID) string {
	t.Helper()
	path, err := restored(t.Context(), at.bucket, id, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return schemaIn(t, path)
}

// schemaIn gives all that sqlite_schema says in a database file.
func schemaIn(t *testing.T, path string) (all string) {
	t.Helper()
	db, err := openReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	query := "SELECT group_concat(type || '|' || name || '|' || tbl_name || '|' || rootpage || '|' || ifnull(sql, ''), char(10)) FROM sqlite_schema"
	if err := db.QueryRowContext(t.Context(), query).Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// walHeader reads a live database's WAL header. No lock hangs on the WAL file,
// so it may be opened and closed at any time. The header of an empty WAL is zero.
func walHeader(t *testing.T, db string) wal.Header {
	t.Helper()
	f, err := os.Open(db + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := wal.ReadHeader(f)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return h
}

// bytesIn adds up a replica's objects, except the one that says what it is.
func bytesIn(t *testing.T, at place) (n int64) {
	t.Helper()
	err := at.bucket.List(t.Context(), "", "", func(o storage.Info) error {
		if o.Key != "tidemark.json" {
			n += o.Size
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
