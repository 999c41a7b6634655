package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// most is how many lines of a check by SQLite are told.
const most = 10

// openSQLite opens a database. query is of its URI.
func openSQLite(path, query string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if abs = filepath.ToSlash(abs); !strings.HasPrefix(abs, "/") {
		abs = "/" + abs
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: query}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// ask has SQLite check a restored database. The file is opened as one that nobody
// changes, so that nothing appears beside it.
func (v *verifier) ask(ctx context.Context, r recipe, path string) (found []Finding, err error) {
	db, err := openSQLite(path, "mode=ro&immutable=1")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	lines, err := column(ctx, db, fmt.Sprintf("PRAGMA integrity_check(%d)", most))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && !isBadFile(err):
		return []Finding{v.unchecked(r, "integrity_check", err)}, nil
	case err != nil:
		lines = []string{err.Error()}
	}
	if len(lines) != 1 || lines[0] != "ok" {
		f := v.unproven(r, "SQLite's integrity_check says: "+strings.Join(lines, "; "))
		f.Means = "the database was committed so, since its state checksum holds: whatever damaged it did so before it was replicated. " + f.Means + " in good order"
		f.Do = "check the live database with PRAGMA integrity_check; restore an earlier commit, from before the damage"
		return []Finding{f}, nil
	}
	tables, err := column(ctx, db, `SELECT "table" || ' (' || count(*) || ')' FROM pragma_foreign_key_check GROUP BY "table"`)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return []Finding{v.unchecked(r, "foreign_key_check", err)}, nil
	case len(tables) > 0:
		f := v.unproven(r, "foreign_key_check finds rows without the row that they refer to: "+strings.Join(tables, ", "))
		f.Severity, f.Lost = Warning, nil
		f.Means = "the database was committed so: SQLite enforces foreign keys only where PRAGMA foreign_keys is on"
		f.Do = "see whether the application means it so"
		return []Finding{f}, nil
	}
	return nil, nil
}

// unchecked is the finding about a check that SQLite could not make.
func (v *verifier) unchecked(r recipe, what string, err error) Finding {
	f := v.unproven(r, what+" can't be run: "+err.Error())
	f.Severity, f.Lost = Warning, nil
	f.Means = "its state checksum holds; what SQLite would say is not known, as when the schema needs a module or a collation of the application's"
	f.Do = "restore it with tidemark restore, and check it with the application's own SQLite"
	return f
}

// isBadFile tells that SQLite finds a database damaged.
func isBadFile(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB)
}

// column gives the first column of a query's rows.
func column(ctx context.Context, db *sql.DB, query string) (out []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // only read
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, rows.Err()
}
