package main

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// left FOLDER PAGESIZE COMMITS makes a folder with a database app.db as an application leaves it
// that was killed: 48 rows in the table sessions are checkpointed, and each commit in its WAL
// adds one and a row in notes.
func left(ts *testscript.TestScript, args []string) {
	dir := ts.MkAbs(args[0])
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	tmp, err := os.MkdirTemp(ts.MkAbs("."), "left")
	ts.Check(err)
	defer func() { ts.Check(os.RemoveAll(tmp)) }()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(tmp, "app.db"))
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	db.SetMaxOpenConns(1)
	exec := func(format string, a ...any) {
		_, err := db.ExecContext(context.Background(), fmt.Sprintf(format, a...))
		ts.Check(err)
	}
	exec("PRAGMA page_size=%s", args[1])
	exec("PRAGMA journal_mode=WAL")
	exec("PRAGMA wal_autocheckpoint=0")
	exec("CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT)")
	exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
	for i := range 48 {
		exec("INSERT INTO sessions (name) VALUES ('session %d')", i)
	}
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
	for i := range n {
		exec("BEGIN; INSERT INTO sessions (name) VALUES ('late %d'); INSERT INTO notes (text) VALUES ('%d'); COMMIT", i, i)
	}
	ts.Check(os.MkdirAll(dir, 0o755))
	then := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, name := range []string{"app.db", "app.db-wal"} {
		b, err := os.ReadFile(filepath.Join(tmp, name))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(dir, name), b, 0o600))
		ts.Check(os.Chtimes(filepath.Join(dir, name), then, then))
	}
}

// blank FILE OFFSET LENGTH makes bytes of a file zeros, as damage does.
func blank(ts *testscript.TestScript, args []string) {
	at, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt(make([]byte, n), at)
	ts.Check(err)
	ts.Check(f.Close())
	then := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	ts.Check(os.Chtimes(f.Name(), then, then))
}

// unwritten FOLDER checks that nobody wrote in a folder that left and blank made.
func unwritten(ts *testscript.TestScript, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && (!strings.HasPrefix(e.Name(), "app.db") || info.ModTime().Year() != 2020) {
			err = fmt.Errorf("%s was written at %v", path, info.ModTime())
		}
		return err
	}))
}
