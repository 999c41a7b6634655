package source_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
)

// Facts of SQLite that the package rests on. None of these tests uses it.

// A writer restarts the WAL if all of it is in the database file and nobody
// reads in slots 1 to 4, which is where a reader goes unless it begins when all
// of the WAL is in the file.
func TestFactRestart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare  func(app, reader *conn)
		restarts bool
	}{
		"nothing in the file":   {func(_, _ *conn) {}, false},
		"all in the file":       {func(app, _ *conn) { app.checkpoint("PASSIVE") }, true},
		"written to since":      {func(app, _ *conn) { app.checkpoint("PASSIVE"); app.insert(1) }, false},
		"RESTART":               {func(app, _ *conn) { app.checkpoint("RESTART") }, true},
		"reader with a mark":    {func(app, r *conn) { r.read(); app.checkpoint("PASSIVE") }, false},
		"reader in slot 0":      {func(app, r *conn) { app.checkpoint("PASSIVE"); r.read() }, true},
		"reader that has ended": {func(app, r *conn) { r.read(); app.checkpoint("PASSIVE"); r.end() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, app := database(t)
			reader := connect(t, path)
			app.insert(3)
			tc.prepare(app, reader)
			before := header(t, path).Salts
			app.insert(1)
			after := header(t, path).Salts
			if (after != before) != tc.restarts {
				t.Errorf("salts were %v, are %v; want a restart: %v", before, after, tc.restarts)
			}
		})
	}
}

// A reader that began when all of the WAL was in the file lets the WAL restart
// once. Then nothing gets into the file, so that it can't restart again.
func TestFactSlot0(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	reader := connect(t, path)
	app.insert(3)
	app.checkpoint("PASSIVE")
	reader.read()
	seen := reader.number("SELECT count(*) FROM t")

	first := header(t, path).Salts
	app.insert(1)
	second := header(t, path).Salts
	if second.Salt1 != first.Salt1+1 {
		t.Fatalf("salts %v follow %v", second, first)
	}
	for range 5 {
		if got := app.checkpoint("PASSIVE"); got.Done != 0 || got.Frames == 0 {
			t.Errorf("checkpoint copied next to a reader in slot 0: %+v", got)
		}
		app.insert(4)
		if got := header(t, path).Salts; got != second {
			t.Fatalf("the WAL restarted a second time: %v, then %v", second, got)
		}
	}
	if got := reader.number("SELECT count(*) FROM t"); got != seen {
		t.Errorf("the reader saw %d rows, then %d", seen, got)
	}
	reader.end()
	if got := app.checkpoint("PASSIVE"); got.Done != got.Frames || got.Frames == 0 {
		t.Errorf("checkpoint after the reader's end: %+v", got)
	}
}

// A reader with a mark lets everything up to its mark into the file, and
// nothing after.
func TestFactMark(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	reader := connect(t, path)
	app.insert(3)
	mark := app.checkpoint("NOOP").Frames
	reader.read()
	app.insert(5)
	if got := app.checkpoint("PASSIVE"); got.Done != mark || got.Frames <= mark {
		t.Errorf("checkpoint %+v, the reader's mark is %d", got, mark)
	}
	first := header(t, path).Salts
	app.insert(5)
	if got := header(t, path).Salts; got != first {
		t.Errorf("the WAL restarted under a reader with a mark")
	}
}

// A TRUNCATE checkpoint works next to a reader in slot 0 if there is nothing to
// copy, and never next to one with a mark.
func TestFactTruncate(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	reader := connect(t, path)
	app.insert(3)
	reader.read()
	if got := app.checkpoint("TRUNCATE"); got.Busy == 0 {
		t.Errorf("it passed next to a reader with a mark: %+v", got)
	}
	reader.end()
	app.checkpoint("PASSIVE")
	reader.read()
	if got := app.checkpoint("TRUNCATE"); got.Busy != 0 {
		t.Errorf("it did not pass next to a reader in slot 0: %+v", got)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("the WAL has %v bytes (%v)", info.Size(), err)
	}
}

// NOOP reports how much of the WAL is in the file and copies nothing.
func TestFactNoop(t *testing.T) {
	t.Parallel()
	_, app := database(t)
	app.insert(3)
	for range 2 {
		if got := app.checkpoint("NOOP"); got.Busy != 0 || got.Done != 0 || got.Frames < 3 {
			t.Errorf("before: %+v", got)
		}
	}
	want := app.checkpoint("PASSIVE")
	if diff := cmp.Diff(want, app.checkpoint("NOOP")); diff != "" {
		t.Errorf("after (-PASSIVE +NOOP):\n%s", diff)
	}
}

// A restart adds one to salt-1. The last close deletes the WAL, and both salts
// of the next one have nothing to do with it.
func TestFactSalts(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(1)
	was := header(t, path).Salts
	for range 10 {
		app.checkpoint("PASSIVE")
		app.insert(1)
		now := header(t, path).Salts
		if now.Salt1 != was.Salt1+1 || now.Salt2 == was.Salt2 {
			t.Errorf("salts %v follow %v", now, was)
		}
		was = now
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the WAL after the last close: %v", err)
	}
	app = connect(t, path)
	app.insert(1)
	if now := header(t, path).Salts; now.Salt1 == was.Salt1 || now.Salt1 == was.Salt1+1 || now.Salt2 == was.Salt2 {
		t.Errorf("salts %v after the last close, %v before", now, was)
	}
}

// A write transaction that writes nothing changes no file, whatever the WAL's
// state.
func TestFactEmptyTransaction(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	// The database file's own descriptor: closing it would drop SQLite's locks.
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	files := func() string {
		db, err1 := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		log, err2 := os.ReadFile(path + "-wal")
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return string(db) + "|" + string(log)
	}
	for _, state := range []string{"NOOP", "PASSIVE", "RESTART", "TRUNCATE"} {
		app.insert(2)
		app.checkpoint(state)
		before := files()
		app.exec("BEGIN IMMEDIATE")
		app.exec("ROLLBACK")
		if files() != before {
			t.Errorf("after %s: the files have changed", state)
		}
	}
}

// By what a commit's database is longer than the one before is in its frames.
func TestFactGrowth(t *testing.T) {
	t.Parallel()
	for _, pragma := range []string{"page_size=512", "page_size=4096", "auto_vacuum=FULL", "auto_vacuum=INCREMENTAL", "secure_delete=ON"} {
		t.Run(pragma, func(t *testing.T) {
			t.Parallel()
			path, app := database(t, "PRAGMA "+pragma)
			app.exec("PRAGMA cache_size=10") // spills
			rng := rand.New(rand.NewPCG(1, 2))
			for range 150 {
				statement(app, rng)
			}
			assertGrowth(t, path)
		})
	}
}

// statement runs one statement, or a transaction of a few, that grows or
// shrinks the database.
func statement(app *conn, rng *rand.Rand) {
	app.t.Helper()
	all := []string{
		"INSERT INTO t(v) VALUES(randomblob(abs(random()) % 9000))",
		"INSERT INTO t(v) VALUES(zeroblob(abs(random()) % 30000))",
		"WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM s WHERE n < 40) INSERT INTO t(v) SELECT randomblob(700) FROM s",
		"UPDATE t SET v = randomblob(length(v)) WHERE id % 3 = abs(random()) % 3",
		"DELETE FROM t WHERE id % 4 = abs(random()) % 4",
		"DELETE FROM t",
		"PRAGMA incremental_vacuum(3)",
	}
	one := func() { app.exec(all[rng.IntN(len(all))]) }
	switch rng.IntN(12) {
	case 0:
		app.exec("VACUUM")
	case 1, 2:
		app.exec("BEGIN")
		one()
		app.exec("SAVEPOINT s")
		one()
		one()
		app.exec("ROLLBACK TO s")
		one()
		app.exec("COMMIT")
	case 3:
		app.exec("BEGIN")
		one()
		one()
		app.exec("ROLLBACK")
	case 4:
		app.exec("CREATE TABLE u AS SELECT * FROM t")
		app.exec("DROP TABLE u")
	default:
		one()
	}
}

func assertGrowth(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	src := bytes.NewReader(b)
	h, err := wal.ReadHeader(src)
	if err != nil {
		t.Fatal(err)
	}
	r := wal.NewReader(src, h, h.Start())
	grown, commits, was := 0, 0, uint32(1) // page 1 was there before the WAL
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		has := map[wal.PageNo]bool{}
		for f, err := range r.Frames() {
			if err != nil {
				t.Fatal(err)
			}
			has[f.Page] = true
		}
		for no := was + 1; no <= c.Pages; no++ {
			grown++
			if !has[wal.PageNo(no)] {
				t.Errorf("commit %d grows from %d to %d pages without a frame of page %d", commits, was, c.Pages, no)
			}
		}
		was = c.Pages
		commits++
	}
	if grown < 100 || commits < 50 {
		t.Errorf("%d pages in %d commits are too few to show anything", grown, commits)
	}
}
