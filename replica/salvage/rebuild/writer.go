package rebuild

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

	"tidemark/replica/salvage/btree"
)

// errRefused says that SQLite does not take a row. All other errors end the work.
var errRefused = errors.New("refused")

// How much is written before it is committed. The journal is in memory, so this
// bounds it.
const (
	batchRows  = 5000
	batchBytes = 8 << 20
)

// inserter is a table that rows go to.
type inserter interface {
	// sql is the statement for rows with so many fields, of which some arguments
	// are odd: texts that are bound as blobs.
	sql(fields int, odd map[int]bool) string
}

// writer is the connection to the output.
type writer struct {
	pool     *sql.DB
	conn     *sql.Conn
	encoding btree.Encoding

	args  []any // for bind, used again
	rows  int   // in the open transaction
	bytes int
	open  bool

	owner inserter // whose the statements are
	stmts map[int]*sql.Stmt
}

// sqlite3LimitAttached is the id of the limit for databases that ATTACH may add.
const sqlite3LimitAttached = sqlite3.SQLITE_LIMIT_ATTACHED

// openWriter opens a new, empty file with the settings of the old database.
func openWriter(ctx context.Context, path string, pragmas []string, e btree.Encoding) (_ *writer, err error) {
	pool, err := sql.Open("sqlite", address(path))
	if err != nil {
		return nil, fmt.Errorf("open the output: %w", err)
	}
	w := &writer{pool: pool, encoding: e, stmts: map[int]*sql.Stmt{}}
	if w.conn, err = pool.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the output: %w", err), pool.Close())
	}
	if _, err := sqlite.Limit(w.conn, sqlite3LimitAttached, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("open the output: %w", err), w.close(ctx))
	}
	for _, p := range pragmas {
		if err := w.exec(ctx, "PRAGMA "+p); err != nil {
			return nil, errors.Join(fmt.Errorf("set %s: %w", p, err), w.close(ctx))
		}
	}
	return w, nil
}

// address is a file's for the driver.
func address(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if path = filepath.ToSlash(path); !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: "mode=rw"}
	return u.String()
}

func (w *writer) exec(ctx context.Context, statement string, args ...any) error {
	_, err := w.conn.ExecContext(ctx, statement, args...)
	return err
}

// bind makes arguments of values. odd has those that are texts which are not proper
// in their encoding: they are bound as blobs and cast back, so that not a byte changes.
func (w *writer) bind(args []any, values []btree.Value) (_ []any, odd map[int]bool) {
	for _, v := range values {
		w.bytes += 8 + len(v.Bytes)
		switch v.Type {
		case btree.Null:
			args = append(args, nil)
		case btree.Integer:
			args = append(args, v.Int)
		case btree.Real:
			args = append(args, v.Float)
		case btree.Blob:
			args = append(args, v.Bytes)
		case btree.Text:
			s, exact := w.encoding.Decode(v.Bytes)
			if exact {
				args = append(args, s)
				continue
			}
			if odd == nil {
				odd = map[int]bool{}
			}
			odd[len(args)] = true
			args = append(args, v.Bytes)
		}
	}
	w.args = args
	return args, odd
}

// mark is the place of an argument in a statement.
func mark(odd map[int]bool, i int) string {
	if odd[i] {
		return "CAST(? AS TEXT)"
	}
	return "?"
}

// insert puts a row into a table. It gives errRefused if SQLite does not take it.
func (w *writer) insert(ctx context.Context, to inserter, fields int, args []any, odd map[int]bool) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	var result sql.Result
	var err error
	if odd != nil {
		result, err = w.conn.ExecContext(ctx, to.sql(fields, odd), args...)
	} else {
		var stmt *sql.Stmt
		//nolint:sqlclosecheck // kept for the next row, closed by forget
		if stmt, err = w.prepared(ctx, to, fields); err == nil {
			result, err = stmt.ExecContext(ctx, args...)
		}
	}
	if err != nil {
		return refusal(err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		return errRefused
	}
	w.rows++
	return err
}

// refusal tells an error that is the row's from one that is the output's.
func refusal(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH,
		sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// prepared keeps the statements of one table.
func (w *writer) prepared(ctx context.Context, to inserter, fields int) (*sql.Stmt, error) {
	if w.owner != to {
		if err := w.forget(); err != nil {
			return nil, err
		}
		w.owner = to
	}
	stmt, ok := w.stmts[fields]
	if !ok {
		var err error
		if stmt, err = w.conn.PrepareContext(ctx, to.sql(fields, nil)); err != nil {
			return nil, err
		}
		w.stmts[fields] = stmt
	}
	return stmt, nil
}

func (w *writer) forget() (err error) {
	for _, s := range w.stmts {
		err = errors.Join(err, s.Close())
	}
	clear(w.stmts)
	return err
}

// begin opens a transaction, after it has committed one that is large enough.
func (w *writer) begin(ctx context.Context) error {
	if w.open && (w.rows >= batchRows || w.bytes >= batchBytes) {
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	if w.open {
		return nil
	}
	w.open, w.rows, w.bytes = true, 0, 0
	return w.exec(ctx, "BEGIN")
}

func (w *writer) commit(ctx context.Context) error {
	if !w.open {
		return nil
	}
	w.open = false
	if err := w.exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// close commits and closes.
func (w *writer) close(ctx context.Context) error {
	return errors.Join(w.forget(), w.commit(ctx), w.conn.Close(), w.pool.Close())
}
