package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite/vfs"

	"tidemark/wal"
)

// HasResetBug is hasResetBug.
var HasResetBug = hasResetBug

// ErrMoved is errMoved.
var ErrMoved = errMoved

// Query runs a query on one committed state of a database: of its files in place, or of
// a copy.
func Query(ctx context.Context, path string, size wal.PageSize, copied bool, dir, query string, into ...any) (err error) { //nolint:revive // copied is what is tested
	db, err := openShared(path)
	if err != nil {
		return err
	}
	f := &files{path: path, db: db}
	defer func() { err = errors.Join(err, f.close()) }()
	ask := func(ctx context.Context, v *view) error { return queryView(ctx, v, query, into...) }
	if copied {
		return f.copied(ctx, size, dir, ask)
	}
	return f.still(ctx, size, ask)
}

func queryView(ctx context.Context, v *view, query string, into ...any) (err error) {
	name, registered, err := vfs.New(&onlyFile{view: v})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registered.Close()) }()
	db, err := sql.Open("sqlite", "file:"+viewName+"?mode=ro&immutable=1&vfs="+name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, query).Scan(into...); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}

// Still calls a function while a view in place is used.
func Still(ctx context.Context, path string, size wal.PageSize, meanwhile func(context.Context)) (err error) {
	db, err := openShared(path)
	if err != nil {
		return err
	}
	f := &files{path: path, db: db}
	defer func() { err = errors.Join(err, f.close()) }()
	return f.still(ctx, size, func(ctx context.Context, _ *view) error {
		meanwhile(ctx)
		return nil
	})
}
