package integration_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tidemark/replica"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
)

// testFeature replicates the feature's steps in this process. After each step
// the application records, in a transaction of its own, a digest of everything
// in the database: each restore that shows a new record must have that digest.
func testFeature(t *testing.T, f feature) {
	t.Helper()
	at := place{bucket: mem.New()}
	path := filepath.Join(t.TempDir(), "app.db")
	app := openFeature(t, path, f)
	stop := follow(t, at, replica.Options{Path: path, CheckpointPages: f.checkpointPages})
	for n, step := range f.steps {
		execSQL(t, app, step)
		execSQL(t, app, "INSERT INTO oracle(n, digest) VALUES(?, ?)", n+1, digestAll(t, app))
	}
	stop()
	execSQL(t, app, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}

	h := readHistory(t, at)
	if ids := h.resyncs(); len(ids) > 0 {
		t.Errorf("tidemark lost continuity at TXIDs %v", ids)
	}
	wantSteps(t, at, h.last(), len(f.steps))
	last, err := restored(t.Context(), at.bucket, h.last(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wantSameFile(t, last, path)
}

func openFeature(t *testing.T, path string, f feature) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(20000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // closed already unless the test failed
	db.SetMaxOpenConns(1)
	if f.pageSize > 0 {
		execSQL(t, db, fmt.Sprintf("PRAGMA page_size = %d", f.pageSize))
	}
	if f.autoVacuum != "" {
		execSQL(t, db, "PRAGMA auto_vacuum = "+f.autoVacuum)
	}
	execSQL(t, db, "PRAGMA journal_mode = WAL")
	execSQL(t, db, "CREATE TABLE oracle(n INTEGER PRIMARY KEY, digest TEXT)")
	for _, q := range f.setup {
		execSQL(t, db, q)
	}
	return db
}

func execSQL(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// follow runs the engine in this process until the function that it returns is
// called. The engine has attached when follow returns.
func follow(t *testing.T, to place, opts replica.Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	opts.Bucket, opts.Ready = to.bucket, func() { close(ready) }
	go func() {
		_, err := replica.Run(ctx, opts)
		done <- err
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("replicate: %v", err)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("replicate: %v", err)
		}
	}
}

// wantSteps restores every commit and compares each with the record that it is
// the first to show.
func wantSteps(t *testing.T, at place, last state.TXID, steps int) {
	t.Helper()
	shown := 0
	for id := state.TXID(1); id <= last; id++ {
		dir := t.TempDir()
		path, err := restored(t.Context(), at.bucket, id, dir)
		if err != nil {
			t.Fatal(err)
		}
		n, digest := lastStep(t, path)
		if n == shown {
			continue
		}
		if n != shown+1 {
			t.Errorf("TXID %v shows step %d after step %d", id, n, shown)
		}
		if digest != "" {
			t.Errorf("TXID %v, step %d: %s", id, n, digest)
		}
		shown = n
	}
	if shown != steps {
		t.Errorf("the history shows %d of %d steps", shown, steps)
	}
}

// lastStep gives the newest record of a restored database, and what is wrong
// with it.
func lastStep(t *testing.T, path string) (n int, wrong string) {
	t.Helper()
	db, err := openReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	var recorded string
	err = db.QueryRowContext(t.Context(), "SELECT ifnull(max(n), 0), ifnull(digest, '') FROM oracle").Scan(&n, &recorded)
	if err != nil {
		t.Fatal(err)
	}
	if got := digestAll(t, db); n > 0 && got != recorded {
		wrong = fmt.Sprintf("its content has digest %s, recorded was %s", got, recorded)
	}
	return n, wrong
}

// digestAll is a digest of the schema and of every row of every table but
// oracle, in no particular order of rows.
func digestAll(t *testing.T, db *sql.DB) string {
	t.Helper()
	lines := queryLines(t, db, "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name <> 'oracle'")
	lines = append(lines, queryLines(t, db, "SELECT * FROM pragma_user_version, pragma_application_id, pragma_page_size")...)
	for _, table := range queryLines(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('oracle')") {
		name := strings.Trim(table, "|\"")
		for _, row := range queryLines(t, db, fmt.Sprintf("SELECT * FROM %q", name)) {
			lines = append(lines, name+"|"+row)
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:])
}

// queryLines gives each row as one line.
func queryLines(t *testing.T, db *sql.DB, query string) (lines []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		var b strings.Builder
		for _, v := range values {
			fmt.Fprintf(&b, "%#v|", *v.(*any))
		}
		lines = append(lines, b.String())
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return lines
}
