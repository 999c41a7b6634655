package salvage_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the writer of real databases

	"tidemark/replica/salvage"
	"tidemark/wal"
)

// writer is an application, and what it knows of its database: the contents after each
// commit of the WAL's current generation.
type writer struct {
	t    *testing.T
	path string
	db   *sql.DB
	size int
	// base is what it held when the generation began, states what it held after each
	// commit, ends the number of frames up to each.
	base   string
	states []string
	ends   []int
}

// frames reads how many frames with the header's salts the WAL begins with.
func (w *writer) frames() int {
	w.t.Helper()
	b, err := os.ReadFile(w.path + "-wal")
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for off := wal.HeaderSize; off+24+w.size <= len(b) && bytes.Equal(b[off+8:off+16], b[16:24]); off += 24 + w.size {
		n++
	}
	return n
}

// newWriter begins a database with two tables and an index.
func newWriter(t *testing.T, size int) *writer {
	t.Helper()
	w := &writer{t: t, path: filepath.Join(t.TempDir(), "app.db"), size: size}
	db, err := sql.Open("sqlite", "file:"+w.path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	w.db = db
	t.Cleanup(func() { _ = db.Close() })
	w.exec("PRAGMA page_size=%d", size)
	w.exec("PRAGMA journal_mode=WAL")
	w.exec("PRAGMA wal_autocheckpoint=0")
	w.exec("CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
	w.exec("CREATE INDEX by_name ON sessions (name)")
	w.exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
	for i := range 48 {
		w.exec("INSERT INTO sessions (name, body) VALUES ('s%04d', zeroblob(%d))", i, size/3)
	}
	w.checkpoint()
	return w
}

func (w *writer) exec(format string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(fmt.Sprintf(format, args...)); err != nil {
		w.t.Fatal(err)
	}
}

// checkpoint brings all into the database, so that the next commit begins a generation.
func (w *writer) checkpoint() {
	w.t.Helper()
	w.exec("PRAGMA wal_checkpoint(RESTART)")
	w.base, w.states, w.ends = dump(w.t, w.db), nil, nil
}

// commit makes a commit of the generation.
func (w *writer) commit(format string, args ...any) {
	w.t.Helper()
	w.exec(format, args...)
	w.states, w.ends = append(w.states, dump(w.t, w.db)), append(w.ends, w.frames())
}

// pin reads from another connection until the test ends, so that the WAL can be checkpointed
// and does not begin anew.
func (w *writer) pin() {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM sessions").Scan(&n); err != nil {
		w.t.Fatal(err)
	}
}

// insert commits a new session with a new row in notes.
func (w *writer) insert(n int) {
	w.t.Helper()
	for range n {
		k := len(w.states)
		w.commit("BEGIN; INSERT INTO sessions (name, body) VALUES ('new%04d', zeroblob(%d)); INSERT INTO notes (text) VALUES ('%d'); COMMIT", k, w.size/3, k)
	}
}

// after is the state after so many commits.
func (w *writer) after(n int) string {
	if n == 0 {
		return w.base
	}
	return w.states[n-1]
}

// files are the database and its WAL as they lie on disk.
type files struct{ db, wal []byte }

func (w *writer) files() files {
	w.t.Helper()
	db, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	log, err := os.ReadFile(w.path + "-wal")
	if err != nil {
		w.t.Fatal(err)
	}
	return files{db, log}
}

// page is the page size of most tests.
const page = 1024

// frame is a frame's bytes in the WAL, counted from 1.
func (f files) frame(n int) []byte {
	at := wal.HeaderSize + (n-1)*(24+page)
	return f.wal[at : at+24+page]
}

// zero makes frames zeros.
func (f files) zero(from, to int) {
	for n := from; n <= to; n++ {
		clear(f.frame(n))
	}
}

// dump is what a database holds: its schema and all rows, in order.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	var b strings.Builder
	list := func(query string) {
		t.Helper()
		rows, err := db.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			b.WriteString(s + "\n")
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{
		"SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1",
		"SELECT id || ' ' || name || ' ' || length(body) FROM sessions ORDER BY id",
		"SELECT id || ' ' || text FROM notes ORDER BY id",
	} {
		list(query)
	}
	return b.String()
}

// scene is a folder with originals in it, which nobody may touch.
type scene struct {
	t    *testing.T
	dir  string
	opts salvage.Options
}

// set puts originals into a folder. A nil file is not there.
func set(t *testing.T, f files) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir()}
	path := filepath.Join(s.dir, "app.db")
	s.put("app.db", f.db)
	s.put("app.db-wal", f.wal)
	s.opts = salvage.Options{
		Path: path, Output: filepath.Join(t.TempDir(), "out.db"),
		Logger: slog.New(slog.DiscardHandler),
	}
	return s
}

// put adds an original, with a time of the past.
func (s *scene) put(name string, b []byte) {
	s.t.Helper()
	if b == nil {
		return
	}
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	then := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(path, then, then); err != nil {
		s.t.Fatal(err)
	}
}

// look lists the folder: names, sizes, times, contents.
func (s *scene) look() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err != nil {
			s.t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			s.t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("%d %v %x", len(b), info.ModTime(), sha256.Sum256(b))
	}
	return all
}

// try salvages, and checks that nothing happened to the originals and that nothing is left
// beside the output.
func (s *scene) try() (*salvage.Report, error) {
	s.t.Helper()
	before := s.look()
	rep, err := salvage.Run(s.t.Context(), s.opts)
	if diff := cmp.Diff(before, s.look()); diff != "" {
		s.t.Errorf("the originals were touched:\n%s", diff)
	}
	names, readErr := os.ReadDir(filepath.Dir(s.opts.Output))
	if readErr != nil {
		s.t.Fatal(readErr)
	}
	for _, n := range names {
		if n.Name() != filepath.Base(s.opts.Output) && filepath.Join(filepath.Dir(s.opts.Output), n.Name()) != s.opts.All {
			s.t.Errorf("%s is left beside the output", n.Name())
		}
	}
	return rep, err
}

// run salvages and gives the report and the contents of the output.
func (s *scene) run() (*salvage.Report, string) {
	s.t.Helper()
	rep, err := s.try()
	if err != nil {
		s.t.Fatal(err)
	}
	return rep, content(s.t, rep.Output)
}

// content reads a database that was made: without a WAL, whole, and complete by itself.
func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 20 || b[18] != 1 || b[19] != 1 {
		t.Errorf("%s is not a database without a WAL", path)
	}
	moved := filepath.Join(t.TempDir(), "moved.db")
	if err := os.WriteFile(moved, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+moved)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var check string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("integrity of %s: %s %v", path, check, err)
	}
	return dump(t, db)
}

// kinds are the candidates of a report, in order.
func kinds(r *salvage.Report) []salvage.Kind {
	var all []salvage.Kind
	for _, c := range r.Candidates {
		all = append(all, c.Kind)
	}
	return all
}

// table is a table of a candidate.
func table(t *testing.T, c *salvage.Candidate, name string) salvage.Table {
	t.Helper()
	i := slices.IndexFunc(c.Tables, func(x salvage.Table) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("there is no table %s in %+v", name, c)
	}
	return c.Tables[i]
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
