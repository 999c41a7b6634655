package btree_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"tidemark/replica/salvage/btree"
	"tidemark/wal"
)

// made is a database that SQLite made, as the bytes of its file.
func made(tb testing.TB, size int, statements ...string) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "made.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	all := append([]string{fmt.Sprintf("PRAGMA page_size=%d", size), "PRAGMA synchronous=OFF"}, statements...)
	for _, s := range all {
		if _, err := db.Exec(s); err != nil {
			tb.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// numbers fills a table with rows, some of which need overflow pages.
func numbers(table string, rows int) string {
	return fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
		INSERT INTO %s SELECT i, '%s ' || i || ' ' || replace(hex(zeroblob(i %% 97 * 11)), '0', 'x') FROM n`, rows, table, table)
}

// standard has one of each kind of tree.
func standard(tb testing.TB, size int, pragmas ...string) []byte {
	tb.Helper()
	return made(tb, size, append(pragmas,
		"CREATE TABLE a(id INTEGER PRIMARY KEY, v TEXT)",
		"CREATE TABLE w(id INT, v TEXT, PRIMARY KEY(id)) WITHOUT ROWID",
		"CREATE INDEX a_v ON a(v)",
		numbers("a", 300), numbers("w", 300))...)
}

func source(tb testing.TB, file []byte, size int) btree.Pages {
	tb.Helper()
	p, err := btree.FromReader(bytes.NewReader(file), int64(len(file)), wal.PageSize(size))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// page is a page of a file.
func page(file []byte, size int, no wal.PageNo) []byte {
	return file[int(no-1)*size:][:size]
}

// rootOf finds the root of a table.
func rootOf(tb testing.TB, file []byte, size int, name string) wal.PageNo {
	tb.Helper()
	f, err := btree.Open(tb.Context(), source(tb, file, size))
	if err != nil {
		tb.Fatal(err)
	}
	schema, err := f.Schema(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range schema.Objects {
		if o.Name == name {
			return o.Root
		}
	}
	tb.Fatalf("no %s in %s", name, strings.TrimSpace(fmt.Sprint(schema.Objects)))
	return 0
}
