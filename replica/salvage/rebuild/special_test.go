package rebuild_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/restore"
	"tidemark/replica/salvage/rebuild"
)

// made is a database of statements.
func made(t *testing.T, statements ...string) *damaged {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.db")
	db := open(t, path)
	for _, s := range append([]string{"PRAGMA page_size=4096"}, statements...) {
		run(t, db, s)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return &damaged{shape: shape{pageSize: 4096}, file: file}
}

// TestSpecialTables rebuilds what is more than a table with rows.
func TestSpecialTables(t *testing.T) {
	t.Parallel()
	d := made(t,
		"CREATE VIRTUAL TABLE f USING fts5(words)", "INSERT INTO f VALUES('one two'), ('two three')",
		"CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)", "INSERT INTO box VALUES(1, 2, 3)",
		"CREATE TABLE t(a, b, CHECK(a > 0))", "CREATE INDEX t_a ON t(a)",
		"INSERT INTO t VALUES(1, 2), (2, x''), (3, '')", "ANALYZE",
		"PRAGMA ignore_check_constraints=ON", "INSERT INTO t VALUES(-1, CAST(x'ff00fe' AS TEXT))",
		"CREATE TABLE strict(a INT, b ANY) STRICT", "INSERT INTO strict VALUES(1, 'x')",
		"CREATE TABLE [od\"d](rowid, _rowid_, oid)", "INSERT INTO [od\"d] VALUES(1, 2, 3)",
		"CREATE TABLE desc(id INTEGER PRIMARY KEY DESC, v)", "INSERT INTO desc VALUES(7, 8)",
		"CREATE TABLE lost_and_found(x)", "CREATE VIEW broken AS SELECT a1 FROM nowhere",
		"INSERT INTO lost_and_found VALUES('my own')",
	)
	report, db := d.salvage(t)
	if len(report.Failed) != 0 || report.LostAndFound.Rows != 0 {
		t.Errorf("failed %v, lost %+v", report.Failed, report.LostAndFound)
	}
	before := open(t, writeFile(t, d.file))
	for _, q := range []string{
		"SELECT words FROM f WHERE f MATCH 'two'", "SELECT id FROM box WHERE x0 < 3",
		"SELECT tbl, ifnull(idx, 0), stat FROM sqlite_stat1", "SELECT rowid, a, quote(b), typeof(b), hex(b) FROM t", "SELECT * FROM strict",
		"SELECT * FROM [od\"d]", "SELECT rowid, * FROM desc", "SELECT * FROM lost_and_found",
		"SELECT type, name, ifnull(sql, '') FROM sqlite_schema",
	} {
		if diff := cmp.Diff(query(t, before, q), query(t, db, q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", q, diff)
		}
	}
	d.zero(1)
	report, _ = d.salvage(t)
	if report.LostAndFound.Name != "lost_and_found" || report.LostAndFound.Rows == 0 {
		t.Errorf("without page 1: %+v", report.LostAndFound)
	}
}

// TestLostAndFoundIsTaken destroys a root of a database that has a table of that name.
func TestLostAndFoundIsTaken(t *testing.T) {
	t.Parallel()
	d := made(t, "CREATE TABLE lost_and_found(x)", "CREATE INDEX lost_and_found_0 ON lost_and_found(x)",
		"CREATE TABLE t(a)", "INSERT INTO t VALUES('kept')")
	// The table's row in the schema becomes one that SQLite does not take.
	at := strings.Index(string(d.file), "CREATE TABLE t(a)")
	copy(d.file[at:], "CREATE TABLE t.a)")
	report, db := d.salvage(t)
	if report.LostAndFound.Name != "lost_and_found_1" || len(report.Failed) != 1 {
		t.Errorf("%+v, failed %v", report.LostAndFound, report.Failed)
	}
	got := query(t, db, "SELECT nfield, id, c0 FROM lost_and_found_1")
	if diff := cmp.Diff([]string{"1|1|kept"}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	want := []string{"CREATE TABLE lost_and_found_1(rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER, c0)"}
	if diff := cmp.Diff(want, query(t, db, "SELECT sql FROM sqlite_schema WHERE name = 'lost_and_found_1'")); diff != "" {
		t.Errorf("shape (-want +got):\n%s", diff)
	}
}

// TestHostileSchema rebuilds a schema whose statements would do more than make a table.
func TestHostileSchema(t *testing.T) {
	t.Parallel()
	victim := filepath.Join(t.TempDir(), "victim.db")
	d := made(t, "CREATE TABLE t(a)", "CREATE TABLE u(a)", "CREATE TABLE v(a)", "PRAGMA writable_schema=ON",
		"UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a); ATTACH ''"+victim+"'' AS x; CREATE TABLE x.y(z)' WHERE name = 't'",
		"UPDATE sqlite_schema SET sql = 'CREATE TABLE u AS SELECT 1' WHERE name = 'u'",
		"UPDATE sqlite_schema SET sql = 'DROP TABLE v' WHERE name = 'v'")
	report, db := d.salvage(t)
	if len(report.Failed) != 3 {
		t.Errorf("failed: %v", report.Failed)
	}
	if got := query(t, db, "SELECT name FROM sqlite_schema"); len(got) != 0 {
		t.Errorf("the schema has %v", got)
	}
	if _, err := os.Stat(victim); err == nil {
		t.Error("another database was made")
	}
}

// TestOutput never touches what is there, and leaves nothing behind when it fails.
func TestOutput(t *testing.T) {
	t.Parallel()
	d := made(t, "CREATE TABLE t(a)", "INSERT INTO t VALUES(1)")
	folder := t.TempDir()
	path := filepath.Join(folder, "out.db")
	for _, name := range []string{path, path + "-wal"} {
		if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := rebuild.Database(t.Context(), d.source(t), path, rebuild.Options{})
		if !errors.Is(err, restore.ErrExists) && !errors.Is(err, restore.ErrStray) {
			t.Errorf("%s is there: %v", name, err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != "mine" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rebuild.Database(ctx, d.source(t), path, rebuild.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
