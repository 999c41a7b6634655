package rebuild_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/salvage/btree"
	"tidemark/replica/salvage/rebuild"
	"tidemark/wal"
)

// shape is a kind of database.
type shape struct {
	pageSize int
	encoding string
	vacuum   int
	rows     int // of each table
	deleted  bool
}

func (s shape) String() string {
	return fmt.Sprintf("%d-%s-vacuum%d", s.pageSize, s.encoding, s.vacuum)
}

// tables are those of a test's database, with the columns of a record in its order;
// NULL stands for the rowid's alias. Each row has a text that no other row has.
var tables = []struct{ name, create, record, rowid string }{
	{"plain", "CREATE TABLE plain(id INTEGER PRIMARY KEY, m TEXT, n, r REAL, b BLOB)", "NULL, m, n, r, b", "id"},
	{"bare", "CREATE TABLE bare(m TEXT, n)", "m, n", "_rowid_"},
	{"keyed", "CREATE TABLE keyed(v, m TEXT, k INTEGER, PRIMARY KEY(m, k)) WITHOUT ROWID", "m, k, v", "NULL"},
	{"uniq", "CREATE TABLE uniq(m TEXT UNIQUE, [odd \"name] INT NOT NULL, z)", `m, "odd ""name", z`, "_rowid_"},
	{"gen", "CREATE TABLE gen(id INTEGER PRIMARY KEY AUTOINCREMENT, v AS (length(m)) VIRTUAL, m TEXT, s AS (m||'!') STORED)", "NULL, m, s", "id"},
}

// damaged is a database's file, and what was in it.
type damaged struct {
	shape  shape
	file   []byte
	tables map[string][]string // rows by table, each as its rowid and its fields
}

func open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// query gives each row as its columns, joined.
func query(t *testing.T, db *sql.DB, q string) []string {
	t.Helper()
	rows, err := db.Query(q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		values := make([]string, len(columns))
		places := make([]any, len(columns))
		for i := range values {
			places[i] = &values[i]
		}
		if err := rows.Scan(places...); err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.Join(values, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	slices.Sort(out)
	return out
}

// quoted makes a list of expressions one of their literals.
func quoteAll(expressions string) string {
	var out []string
	for e := range strings.SplitSeq(expressions, ", ") {
		out = append(out, "quote("+e+")")
	}
	return strings.Join(out, ", ")
}

// words makes texts and blobs of many lengths, some of which need overflow pages.
func words(rng *rand.Rand, pageSize int) []byte {
	n := rng.IntN(40)
	switch rng.IntN(12) {
	case 0:
		n = rng.IntN(pageSize)
	case 1:
		n = rng.IntN(4 * pageSize)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return b
}

// build makes a database.
func build(t *testing.T, s shape, seed uint64) *damaged {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	path := filepath.Join(t.TempDir(), "built.db")
	db := open(t, path)
	for _, p := range []string{
		fmt.Sprintf("page_size=%d", s.pageSize), "encoding='" + s.encoding + "'",
		fmt.Sprintf("auto_vacuum=%d", s.vacuum), "synchronous=OFF", "user_version=7", "application_id=-5",
	} {
		run(t, db, "PRAGMA "+p)
	}
	for _, table := range tables {
		run(t, db, table.create)
	}
	run(t, db, "CREATE INDEX plain_n ON plain(n)")
	run(t, db, "CREATE UNIQUE INDEX gen_m ON gen(m)")
	run(t, db, "CREATE VIEW seen AS SELECT m FROM plain")
	run(t, db, "CREATE TABLE counted(n)")
	run(t, db, "CREATE TRIGGER counting AFTER INSERT ON bare BEGIN INSERT INTO counted VALUES(1); END")
	run(t, db, "DROP TRIGGER counting")
	fill(t, db, s, rng)
	run(t, db, "CREATE TRIGGER counting AFTER INSERT ON bare BEGIN INSERT INTO counted VALUES(1); SELECT 1; END")
	run(t, db, "ALTER TABLE bare ADD COLUMN late TEXT DEFAULT 'later'")
	run(t, db, "INSERT INTO bare(m, n, late) VALUES('the last', 1, 'now')")
	if s.deleted {
		run(t, db, "CREATE TABLE dropped(m)")
		for i := range 200 {
			run(t, db, "INSERT INTO dropped VALUES(?)", fmt.Sprintf("deleted %d %s", i, words(rng, s.pageSize)))
		}
		run(t, db, "DROP TABLE dropped")
	}
	d := &damaged{shape: s, tables: contents(t, db)}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return d
}

// fill puts rows into all tables, in an order that mixes their pages.
func fill(t *testing.T, db *sql.DB, s shape, rng *rand.Rand) {
	t.Helper()
	run(t, db, "BEGIN")
	for i := range s.rows {
		m := func(table string) string { return fmt.Sprintf("%s %d ü€😀 %s", table, i, words(rng, s.pageSize)) }
		values := []any{nil, int64(i) << rng.IntN(40), -int64(i), float64(i) / 3, "text", words(rng, s.pageSize), 0, 1, []byte{}, ""}
		any1 := func() any { return values[rng.IntN(len(values))] }
		run(t, db, "INSERT INTO plain VALUES(?, ?, ?, ?, ?)", i*3-10, m("plain"), any1(), rng.NormFloat64(), words(rng, s.pageSize))
		run(t, db, "INSERT INTO bare VALUES(?, ?)", m("bare"), any1())
		run(t, db, "INSERT INTO keyed VALUES(?, ?, ?)", any1(), m("keyed"), i)
		run(t, db, "INSERT INTO uniq VALUES(?, ?, ?)", m("uniq"), i, any1())
		run(t, db, "INSERT INTO gen(m) VALUES(?)", m("gen"))
	}
	run(t, db, "COMMIT")
}

// contents reads all tables.
func contents(t *testing.T, db *sql.DB) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, table := range tables {
		out[table.name] = query(t, db, "SELECT "+quoteAll(table.rowid+", "+table.record)+" FROM "+table.name)
	}
	return out
}

// source makes pages of a file.
func (d *damaged) source(t *testing.T) btree.Pages {
	t.Helper()
	p, err := btree.FromReader(bytes.NewReader(d.file), int64(len(d.file)), wal.PageSize(d.shape.pageSize))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (d *damaged) page(no wal.PageNo) []byte {
	return d.file[int(no-1)*d.shape.pageSize:][:d.shape.pageSize]
}

func (d *damaged) clone() *damaged {
	c := *d
	c.file = bytes.Clone(d.file)
	return &c
}

// salvage rebuilds the database and opens what came out.
func (d *damaged) salvage(t *testing.T) (*rebuild.Report, *sql.DB) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rebuilt.db")
	report, err := rebuild.Database(t.Context(), d.source(t), out, rebuild.Options{Check: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Integrity != "ok" {
		t.Errorf("integrity check of the output: %s", report.Integrity)
	}
	return report, open(t, out)
}

// found has every row that is in a rebuilt database: by the table's name those in it,
// and under "" those in lost_and_found, with the fields that they have.
func found(t *testing.T, report *rebuild.Report, db *sql.DB) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, table := range tables {
		there := query(t, db, "SELECT name FROM sqlite_schema WHERE name = '"+table.name+"'")
		if len(there) == 1 {
			out[table.name] = query(t, db, "SELECT "+quoteAll(table.rowid+", "+table.record)+" FROM "+table.name)
		}
	}
	out[""] = lost(t, report, db)
	return out
}

// lost reads lost_and_found, each row as its id and its fields.
func lost(t *testing.T, report *rebuild.Report, db *sql.DB) (out []string) {
	t.Helper()
	name := report.LostAndFound.Name
	if name == "" {
		return nil
	}
	rows, err := db.Query("SELECT * FROM " + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{"rootpgno", "pgno", "nfield", "id"}
	for i := range len(columns) - 4 {
		want = append(want, fmt.Sprintf("c%d", i))
	}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("columns of lost_and_found (-want +got):\n%s", diff)
	}
	_ = rows.Close()
	for n := range len(columns) - 4 {
		fields := "id, " + strings.Join(want[4:][:n+1], ", ")
		out = append(out, query(t, db, fmt.Sprintf("SELECT %s FROM %s WHERE nfield = %d", quoteAll(fields), name, n+1))...)
	}
	return out
}

// zero destroys a page.
func (d *damaged) zero(no wal.PageNo) { clear(d.page(no)) }

// pagesOf tells which pages a table or index has, by dbstat.
func (d *damaged) pagesOf(t *testing.T, name, kind string) (pages []wal.PageNo) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stat.db")
	if err := os.WriteFile(path, d.file, 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, path)
	for _, p := range query(t, db, fmt.Sprintf(
		"SELECT pageno FROM dbstat WHERE name = '%s' AND pagetype = '%s'", name, kind)) {
		var no wal.PageNo
		if _, err := fmt.Sscan(p, &no); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, no)
	}
	slices.Sort(pages)
	return pages
}

func writeFile(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "written.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
