package salvage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"tidemark/wal"
)

// maxFindings is how many lines of SQLite's check are kept.
const maxFindings = 20

// fine is what SQLite's check says of a database in which it finds nothing.
const fine = "ok"

// openPrivate opens a private file with SQLite as one that nobody changes, so that it makes
// no files beside it.
func openPrivate(path string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open a candidate: %w", err)
	}
	if abs = filepath.ToSlash(abs); !strings.HasPrefix(abs, "/") {
		abs = "/" + abs
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: "mode=ro&immutable=1&_pragma=cell_size_check(1)&_pragma=trusted_schema(0)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open a candidate: %w", err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// checkIntegrity gives "ok" or what SQLite finds. That it can't even open the file is a
// finding, too.
func checkIntegrity(ctx context.Context, db *sql.DB) (string, error) {
	found, err := column(ctx, db, fmt.Sprintf("PRAGMA integrity_check(%d)", maxFindings))
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		found = append(found, err.Error())
	}
	// A damaged schema can make it say nothing at all.
	if len(found) == 0 {
		return "it can't be read", nil
	}
	return strings.Join(found[:min(len(found), maxFindings)], "\n"), nil
}

// column reads a column of text.
func column(ctx context.Context, db *sql.DB, query string) (all []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// tables counts the rows of each table; -1 where SQLite can't.
func tables(ctx context.Context, db *sql.DB) ([]Table, error) {
	names, err := column(ctx, db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"+
		" AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list the tables of a candidate: %w", err)
	}
	all := make([]Table, 0, len(names))
	for _, name := range names {
		t := Table{Name: name, Rows: -1, InDatabase: -1, Proof: Damaged}
		query := fmt.Sprintf(`SELECT count(*) FROM "%s" NOT INDEXED`, strings.ReplaceAll(name, `"`, `""`))
		if err := db.QueryRowContext(ctx, query).Scan(&t.Rows); err != nil {
			t.Rows = -1
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		all = append(all, t)
	}
	return all, nil
}

// tableProofs says of each table how far the pages of it and of its indexes can be trusted.
func (w *work) tableProofs(ctx context.Context, db *sql.DB, p *plan, all []Table) (err error) {
	for i := range all {
		all[i].Proof = Proven
	}
	rows, err := db.QueryContext(ctx, "SELECT s.tbl_name, d.pageno FROM dbstat d JOIN sqlite_schema s ON s.name = d.name")
	if err != nil {
		return fmt.Errorf("list the pages of a candidate: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var name string
		var no uint32
		if err := rows.Scan(&name, &no); err != nil {
			return fmt.Errorf("list the pages of a candidate: %w", err)
		}
		i, ok := slices.BinarySearchFunc(all, name, func(t Table, name string) int { return strings.Compare(t.Name, name) })
		if ok && no > 0 && no <= p.count() {
			all[i].Proof = worse(all[i].Proof, w.history.page(p, wal.PageNo(no)))
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list the pages of a candidate: %w", err)
	}
	return nil
}

// worse is the lesser of two proofs.
func worse(a, b Proof) Proof {
	if rank(a) > rank(b) {
		return a
	}
	return b
}

// rank orders proofs, the best first.
func rank(p Proof) int { return slices.Index([]Proof{Proven, Probable, Damaged}, p) }
