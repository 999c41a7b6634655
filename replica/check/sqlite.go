package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
	"modernc.org/sqlite/vfs"
)

// maxProblems is how many problems SQLite is asked for.
const maxProblems = 100

// viewName is the name that a view has for SQLite.
const viewName = "view"

// sqliteCheck has SQLite check a view. It gives what SQLite has to complain of, which
// is nothing if the database is whole. An error is what kept it from checking.
func sqliteCheck(ctx context.Context, v *view, quick bool) (_ []string, err error) {
	only := &onlyFile{view: v}
	name, registered, err := vfs.New(only)
	if err != nil {
		return nil, fmt.Errorf("have SQLite read the database: %w", err)
	}
	defer func() { err = errors.Join(err, registered.Close()) }()
	problems, err := runCheck(ctx, "file:"+viewName+"?mode=ro&immutable=1&vfs="+name, quick)
	if rerr := only.failed(); rerr != nil {
		return nil, rerr // SQLite only knows that it could not read
	}
	return problems, err
}

// sqliteCheckFile has SQLite check a private file, into which it may write.
func sqliteCheckFile(ctx context.Context, path string, quick bool) ([]string, error) {
	if path = filepath.ToSlash(path); !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return runCheck(ctx, (&url.URL{Scheme: "file", Path: path}).String(), quick)
}

func runCheck(ctx context.Context, dsn string, quick bool) (problems []string, err error) { //nolint:revive // quick is the user's choice
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("have SQLite check the database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	pragma := "integrity_check"
	if quick {
		pragma = "quick_check"
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("PRAGMA %s(%d)", pragma, maxProblems))
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		if text != "ok" {
			problems = append(problems, strings.Split(strings.TrimSpace(text), "\n")...)
		}
	}
	return problems, rows.Err()
}

// onlyFile is a file system with one file.
type onlyFile struct {
	view *view

	mu  sync.Mutex
	err error // the first one of a read; guarded by mu
}

// Open implements [fs.FS].
func (o *onlyFile) Open(name string) (fs.File, error) {
	if name != viewName {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &viewFile{fs: o}, nil
}

func (o *onlyFile) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// viewFile is a view as the VFS reads it. It is not safe for concurrent use.
type viewFile struct {
	fs  *onlyFile
	off int64
}

// Seek implements [io.Seeker] as far as the VFS needs it.
func (f *viewFile) Seek(off int64, _ int) (int64, error) {
	f.off = off
	return off, nil
}

// Read implements [fs.File].
func (f *viewFile) Read(b []byte) (int, error) {
	n, err := f.fs.view.ReadAt(b, f.off)
	f.off += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		f.fs.mu.Lock()
		defer f.fs.mu.Unlock()
		if f.fs.err == nil {
			f.fs.err = err
		}
	}
	return n, err
}

// Stat implements [fs.File].
func (f *viewFile) Stat() (fs.FileInfo, error) { return viewInfo{f.fs.view}, nil }

// Close implements [fs.File].
func (f *viewFile) Close() error { return nil }

// viewInfo is a view's [fs.FileInfo]; SQLite asks for its size.
type viewInfo struct{ view *view }

// Name implements [fs.FileInfo].
func (viewInfo) Name() string { return viewName }

// Size implements [fs.FileInfo].
func (i viewInfo) Size() int64 { return i.view.length() }

// Mode implements [fs.FileInfo].
func (viewInfo) Mode() fs.FileMode { return 0o400 }

// ModTime implements [fs.FileInfo].
func (viewInfo) ModTime() time.Time { return time.Time{} }

// IsDir implements [fs.FileInfo].
func (viewInfo) IsDir() bool { return false }

// Sys implements [fs.FileInfo].
func (viewInfo) Sys() any { return nil }
