package integration_test

import (
	"fmt"
	"strings"
	"testing"
)

// feature is something that SQLite does to a database file, and that the
// history must show commit by commit.
type feature struct {
	name string
	// pageSize and autoVacuum are the database's; 0 is 4096, none.
	pageSize   int
	autoVacuum string
	// checkpointPages is the engine's; 0 leaves the WAL alone.
	checkpointPages int
	// setup is done before replication begins.
	setup []string
	// steps follow, each of one or more statements and transactions.
	steps []string
}

// rows gives a statement that fills a table "t(id, v)" with rows of random
// bytes.
func rows(from, to, size int) string {
	return fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT %d UNION ALL SELECT i+1 FROM c WHERE i < %d) "+
		"INSERT INTO t(id, v) SELECT i, randomblob(%d) FROM c", from, to, size)
}

const plainTable = "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)"

var features = []feature{
	{
		name: "vacuum", setup: []string{plainTable, rows(1, 500, 300)},
		steps: []string{"DELETE FROM t WHERE id % 3 <> 0", "VACUUM", rows(1000, 1100, 300), "VACUUM"},
	}, {
		name: "incremental vacuum", autoVacuum: "INCREMENTAL", setup: []string{plainTable, rows(1, 800, 500)},
		steps: []string{
			"DELETE FROM t WHERE id > 100", "PRAGMA incremental_vacuum(10)", "PRAGMA incremental_vacuum(25)",
			rows(200, 260, 500), "PRAGMA incremental_vacuum",
		},
	}, {
		name: "auto_vacuum=FULL", autoVacuum: "FULL", checkpointPages: 30, setup: []string{plainTable, rows(1, 300, 700)},
		steps: []string{
			"DELETE FROM t WHERE id % 2 = 0", rows(1000, 1200, 700), "DELETE FROM t WHERE id < 1100",
			"CREATE TABLE u(v)", "DROP TABLE t", "INSERT INTO u VALUES(1)",
		},
	}, {
		name: "shrink and regrow", checkpointPages: 50, setup: []string{plainTable, rows(1, 400, 900)},
		steps: []string{
			"DELETE FROM t WHERE id > 3; VACUUM", rows(10, 500, 900), "DELETE FROM t; VACUUM",
			rows(1, 50, 9000), "UPDATE t SET v = zeroblob(100); VACUUM", rows(100, 300, 2000),
		},
	}, {
		// The tail that a shrinking database gives up comes back, in part
		// unwritten, before anything is checkpointed.
		name: "shrink and regrow in one WAL", autoVacuum: "FULL", setup: []string{plainTable, rows(1, 200, 3000)},
		steps: []string{"DELETE FROM t WHERE id > 2", rows(3, 400, 2000), "DELETE FROM t", rows(1, 20, 20000)},
	}, {
		name: "512-byte pages", pageSize: 512, checkpointPages: 40, setup: []string{plainTable},
		steps: []string{rows(1, 100, 60), rows(101, 120, 3000), "DELETE FROM t WHERE id % 2 = 0", "VACUUM", rows(500, 550, 100)},
	}, {
		name: "65536-byte pages", pageSize: 65536, checkpointPages: 10, setup: []string{plainTable},
		steps: []string{rows(1, 100, 600), rows(101, 110, 200000), "DELETE FROM t WHERE id % 2 = 0", "VACUUM", rows(500, 550, 5000)},
	}, {
		name: "blobs over several pages", checkpointPages: 60, setup: []string{plainTable},
		steps: []string{
			rows(1, 10, 5000), rows(11, 14, 250000), "UPDATE t SET v = randomblob(70000) WHERE id < 5",
			"UPDATE t SET v = x'00' WHERE id > 11", rows(20, 22, 100000), "DELETE FROM t WHERE id = 20",
		},
	}, {
		name: "WITHOUT ROWID", checkpointPages: 20,
		setup: []string{"CREATE TABLE w(a TEXT, b INT, c BLOB, PRIMARY KEY(b, a)) WITHOUT ROWID"},
		steps: []string{
			"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 400) INSERT INTO w SELECT hex(randomblob(8)), i % 37, randomblob(90) FROM c",
			"DELETE FROM w WHERE b = 5", "UPDATE w SET b = b + 100 WHERE b < 10", "CREATE INDEX w_c ON w(c)",
		},
	}, {
		name: "FTS5", checkpointPages: 25,
		setup: []string{"CREATE VIRTUAL TABLE f USING fts5(title, body)"},
		steps: []string{
			"INSERT INTO f VALUES('tides', 'the water rises and falls'), ('marks', 'lines on the harbour wall')",
			"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 300) INSERT INTO f SELECT 'n' || i, hex(randomblob(30)) || ' water ' || i FROM c",
			"INSERT INTO f(f) VALUES('optimize')", "DELETE FROM f WHERE f MATCH 'harbour'", "INSERT INTO f(f) VALUES('integrity-check')",
		},
	}, {
		name: "generated columns, indices and triggers", checkpointPages: 20,
		setup: []string{
			"CREATE TABLE g(id INTEGER PRIMARY KEY, a INT, b INT GENERATED ALWAYS AS (a * 2) STORED, c TEXT AS (a || '!') VIRTUAL)",
			"CREATE INDEX g_c ON g(c) WHERE b > 10", "CREATE TABLE audit(what TEXT, id INT)",
			"CREATE TRIGGER g_i AFTER INSERT ON g BEGIN INSERT INTO audit VALUES('+', new.id); END",
			"CREATE TRIGGER g_d AFTER DELETE ON g BEGIN INSERT INTO audit VALUES('-', old.id); END",
		},
		steps: []string{
			"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 200) INSERT INTO g(a) SELECT i * 7 % 50 FROM c",
			"DELETE FROM g WHERE c = '7!'", "CREATE VIEW g_view AS SELECT c, count(*) FROM g GROUP BY c", "DROP INDEX g_c", "REINDEX", "ANALYZE",
		},
	}, {
		name: "rollback and savepoints", checkpointPages: 30, setup: []string{plainTable, rows(1, 50, 500)},
		steps: []string{
			"BEGIN; DELETE FROM t; ROLLBACK; INSERT INTO t VALUES(1000, 'kept')",
			"BEGIN; " + rows(100, 150, 800) + "; SAVEPOINT a; DELETE FROM t WHERE id < 120; ROLLBACK TO a; UPDATE t SET v = 'x' WHERE id = 101; RELEASE a; COMMIT",
			"SAVEPOINT outermost; INSERT INTO t VALUES(2000, 'kept too'); RELEASE outermost",
		},
	}, {
		// With so small a cache, pages go to the WAL before the commit, some
		// of them more than once, and some for a transaction that never is.
		name: "spilled cache", checkpointPages: 200,
		setup: []string{"PRAGMA cache_size = 10", plainTable, rows(1, 300, 1000), "CREATE INDEX t_v ON t(v)"},
		steps: []string{
			"BEGIN; UPDATE t SET v = randomblob(1000); UPDATE t SET v = randomblob(900); COMMIT",
			"BEGIN; UPDATE t SET v = randomblob(1000); " + rows(400, 900, 1000) + "; ROLLBACK",
			"BEGIN; " + rows(400, 900, 1000) + "; SAVEPOINT s; UPDATE t SET v = NULL; ROLLBACK TO s; DELETE FROM t WHERE id % 2 = 0; COMMIT",
			"BEGIN; " + rows(1000, 1300, 2000) + "; DELETE FROM t WHERE id >= 1000; COMMIT",
		},
	}, {
		name: "spilled cache of a shrinking database", autoVacuum: "FULL",
		setup: []string{"PRAGMA cache_size = 10", plainTable, rows(1, 300, 1000)},
		steps: []string{
			"BEGIN; " + rows(400, 900, 1000) + "; DELETE FROM t WHERE id > 20; COMMIT", rows(1000, 1100, 1000),
			"BEGIN; UPDATE t SET v = randomblob(1500); DELETE FROM t; COMMIT",
		},
	}, {
		name: "delete everything and drop", checkpointPages: 20, setup: []string{plainTable, rows(1, 400, 400)},
		steps: []string{
			"DELETE FROM t", rows(1, 10, 100), "CREATE TABLE u AS SELECT * FROM t", "DROP TABLE t", "DROP TABLE u", "VACUUM", plainTable,
		},
	}, {
		name: "pragmas in the header", setup: []string{plainTable},
		steps: []string{"PRAGMA user_version = 7", "PRAGMA application_id = 42; INSERT INTO t VALUES(1, 1)", "ALTER TABLE t ADD COLUMN w DEFAULT 3", "ALTER TABLE t RENAME TO s"},
	},
}

// TestFeatures restores every commit of databases to which such things were
// done.
func TestFeatures(t *testing.T) {
	t.Parallel()
	for _, f := range features {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			testFeature(t, f)
		})
	}
}
