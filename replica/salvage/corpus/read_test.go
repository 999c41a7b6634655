package corpus_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/replica/salvage/corpus"
)

// put writes files into a folder of their own and gives the database's path.
func put(t *testing.T, f corpus.Files) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine.db")
	for name, b := range map[string][]byte{path: f.DB, path + "-wal": f.WAL} {
		if b == nil {
			continue
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// stranger is a row of a table that is none of the table's.
type stranger struct {
	table    string
	literals []string
}

// found are the rows that came back, and how often.
type found struct {
	tables, lost map[corpus.Row]int
	// strange are rows of tables that are none of theirs, as far as can be told.
	strange []stranger
	// fields are the columns of all rows, as SQL literals.
	fields map[corpus.Row][]string
	// count is the number of rows by table.
	count map[string]int64
	// err is what ended the reading of some table.
	err error
}

func newFound() *found {
	return &found{tables: map[corpus.Row]int{}, lost: map[corpus.Row]int{}, fields: map[corpus.Row][]string{}, count: map[string]int64{}}
}

// add enters a row of a table of the engine's.
func (f *found) add(table string, literals []string) {
	f.count[table]++
	r, ok := corpus.NewRow(literals)
	if !ok || r.Table != table {
		f.strange = append(f.strange, stranger{table, literals})
		return
	}
	f.tables[r]++
	f.fields[r] = literals
}

// addLost enters a row of lost_and_found: its rowid, and its fields. Rows of indexes and
// of the schema have no tag, and parts of rows can have lost it.
func (f *found) addLost(id string, fields []string) {
	r, _ := corpus.NewRow(fields)
	if r.Tag == "" {
		return
	}
	// The column that is the rowid is stored as NULL.
	if corpus.Columns(r.Table)[0] == "id" && fields[0] == "NULL" {
		fields[0] = id
		r, _ = corpus.NewRow(fields)
	}
	f.lost[r]++
	f.fields[r] = fields
}

// all are the rows wherever they were found.
func (f *found) all() map[corpus.Row]int {
	all := map[corpus.Row]int{}
	for _, m := range []map[corpus.Row]int{f.tables, f.lost} {
		for r, n := range m {
			all[r] += n
		}
	}
	return all
}

func brief(literals []string) string {
	s := strings.Join(literals, ",")
	return s[:min(len(s), 90)]
}

// read reads a database as this program's SQLite does.
func read(t *testing.T, path string) *found {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	f := newFound()
	for _, table := range corpus.Tables() {
		err := query(t, db, "SELECT * FROM "+table, func(v []any) { f.add(table, literals(v)) })
		if f.err == nil {
			f.err = err
		}
	}
	var names []string
	_ = query(t, db, "SELECT name FROM sqlite_schema WHERE name LIKE 'lost_and_found%'", func(v []any) { names = append(names, fmt.Sprint(v[0])) })
	for _, name := range names {
		if err := query(t, db, "SELECT * FROM "+name, func(v []any) {
			// rootpgno, pgno, nfield, id, c0 and so on: as many as the longest has.
			n, _ := v[2].(int64)
			f.addLost(corpus.Literal(v[3]), literals(v[4:min(4+int(n), len(v))]))
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	return f
}

func literals(values []any) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = corpus.Literal(v)
	}
	return all
}

// query gives each row's values, which it reuses.
func query(t *testing.T, db *sql.DB, text string, row func([]any)) error {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), text)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // only read
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row(values)
	}
	return rows.Err()
}
