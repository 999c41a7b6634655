package source_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite" // the application's SQLite

	"tidemark/replica/source"
	"tidemark/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conn is one plain connection to a database, as an application has it.
type conn struct {
	t *testing.T
	*sql.DB
}

// connect opens a connection without a busy handler that checkpoints only when
// told.
func connect(t *testing.T, path string) *conn {
	t.Helper()
	return connectWith(t, path, "_pragma=busy_timeout(0)&_pragma=wal_autocheckpoint(0)&_pragma=synchronous(0)")
}

func connectWith(t *testing.T, path, query string) *conn {
	t.Helper()
	u := url.URL{Scheme: "file", Path: path, RawQuery: query}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return &conn{t, db}
}

func (c *conn) exec(q string) {
	c.t.Helper()
	if _, err := c.ExecContext(c.t.Context(), q); err != nil {
		c.t.Fatalf("%s: %v", q, err)
	}
}

// insert makes n commits.
func (c *conn) insert(n int) {
	c.t.Helper()
	for range n {
		c.exec("INSERT INTO t(v) VALUES(randomblob(300))")
	}
}

// read begins a read transaction, end ends it.
func (c *conn) read() {
	c.t.Helper()
	c.exec("BEGIN")
	c.number("SELECT count(*) FROM t")
}

func (c *conn) end() { c.t.Helper(); c.exec("ROLLBACK") }

func (c *conn) number(q string) int {
	c.t.Helper()
	var n int
	if err := c.QueryRowContext(c.t.Context(), q).Scan(&n); err != nil {
		c.t.Fatalf("%s: %v", q, err)
	}
	return n
}

// checkpointed is what a checkpoint reports.
type checkpointed struct{ Busy, Frames, Done int }

func (c *conn) checkpoint(mode string) (r checkpointed) {
	c.t.Helper()
	q := "PRAGMA wal_checkpoint(" + mode + ")"
	if err := c.QueryRowContext(c.t.Context(), q).Scan(&r.Busy, &r.Frames, &r.Done); err != nil {
		c.t.Fatalf("%s: %v", q, err)
	}
	return r
}

// digest sums up the content of the table t and checks the whole file.
func (c *conn) digest() string {
	c.t.Helper()
	var verdict string
	if err := c.QueryRowContext(c.t.Context(), "PRAGMA integrity_check(1)").Scan(&verdict); err != nil || verdict != "ok" {
		c.t.Fatalf("integrity_check: %v %v", verdict, err)
	}
	rows, err := c.QueryContext(c.t.Context(), "SELECT id, hex(v) FROM t ORDER BY id")
	if err != nil {
		c.t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // only read
	h := sha256.New()
	for rows.Next() {
		var id int64
		var v string
		if err := rows.Scan(&id, &v); err != nil {
			c.t.Fatal(err)
		}
		_, _ = fmt.Fprintln(h, id, v)
	}
	if err := rows.Err(); err != nil {
		c.t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// database makes a database with the table t in WAL mode; the connection stays
// open.
func database(t *testing.T, pragmas ...string) (path string, app *conn) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "app.db")
	return path, create(t, path, pragmas...)
}

func create(t *testing.T, path string, pragmas ...string) *conn {
	t.Helper()
	app := connect(t, path)
	for _, p := range append(pragmas, "PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)") {
		app.exec(p)
	}
	return app
}

// header reads the header of a database's WAL.
func header(t *testing.T, path string) wal.Header {
	t.Helper()
	f, err := os.Open(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := wal.ReadHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func open(t *testing.T, path string) *source.DB {
	t.Helper()
	d, err := source.Open(t.Context(), path, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func options() source.Options { return source.Options{Logger: slog.New(slog.DiscardHandler)} }

func attach(t *testing.T, d *source.DB) *source.Attachment {
	t.Helper()
	att, err := d.Attach(t.Context(), source.Known{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return att
}

// contents reads a whole image.
func contents(t *testing.T, m *source.Image) []byte {
	t.Helper()
	b := make([]byte, int(m.Pages())*int(m.PageSize()))
	if err := m.ReadPages(1, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// digestOf is the digest of a database whose file would have the bytes.
func digestOf(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := connect(t, path)
	defer c.Close() //nolint:errcheck // only read
	return c.digest()
}

var errGap = errors.New("the WAL restarted before it was read")

// follower is a source.Drainer that follows a WAL over its restarts and applies
// every commit to a copy of the database.
type follower struct {
	t        *testing.T
	db       *source.DB
	src      io.ReaderAt
	size     wal.PageSize
	reader   *wal.Reader
	sealed   wal.Position
	only     wal.Salts
	copy     []byte
	commits  int
	restarts int
	// after, if there is one, is called after each commit and tells whether to go
	// on: source.ErrBehind if not.
	after func() bool
}

func follow(t *testing.T, d *source.DB, att *source.Attachment) *follower {
	t.Helper()
	f := &follower{t: t, db: d, src: d.WAL(), size: d.PageSize(), sealed: att.End, copy: contents(t, att.Image)}
	if att.HasWAL {
		f.reader = wal.NewReader(f.src, att.Header, att.End)
	}
	return f
}

func (f *follower) position() wal.Position {
	if f.reader == nil {
		return wal.Position{}
	}
	return f.reader.Position()
}

func (f *follower) Read() (int, error) {
	before := f.commits
	err := f.read()
	if errors.Is(err, source.ErrBusy) {
		err = nil
	}
	return f.commits - before, err
}

// handOff hands the WAL off, which must be complete.
func (f *follower) handOff() {
	f.t.Helper()
	if res, err := f.db.HandOff(f.t.Context(), f); err != nil || !res.Complete {
		f.t.Fatalf("%+v %v", res, err)
	}
}

// Tend implements source.Drainer.
func (f *follower) Tend() error { return nil }

func (f *follower) read() error {
	h, err := wal.ReadHeader(f.src)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, wal.ErrHeader):
	case err != nil:
		return err
	case f.reader == nil || f.reader.Header().Salts != h.Salts:
		if f.position() != f.sealed || f.only != (wal.Salts{}) && f.only != h.Salts {
			return errGap
		}
		f.reader = wal.NewReader(f.src, h, h.Start())
		f.restarts++
	}
	if f.reader == nil {
		return nil
	}
	published, err := f.db.Published(f.t.Context())
	if err != nil {
		return err
	}
	f.reader.SetLimit(published)
	for {
		c, err := f.reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.apply(c); err != nil {
			return err
		}
		if f.after != nil && !f.after() {
			return source.ErrBehind
		}
	}
}

func (f *follower) apply(c wal.Commit) error {
	f.commits++
	length := int(c.Pages) * int(f.size)
	if len(f.copy) > length {
		f.copy = f.copy[:length]
	}
	f.copy = append(f.copy, make([]byte, length-len(f.copy))...)
	for fr, err := range f.reader.Frames() {
		if err != nil {
			return err
		}
		if uint32(fr.Page) <= c.Pages {
			copy(f.copy[f.size.Offset(fr.Page):], fr.Image)
		}
	}
	return nil
}

func (f *follower) Keep(only wal.Salts) (uint32, error) {
	f.only = only
	defer func() { f.only = wal.Salts{} }()
	return f.Secure()
}

func (f *follower) Secure() (uint32, error) {
	if err := f.read(); err != nil {
		return 0, err
	}
	f.sealed = f.position()
	return f.sealed.Frame, nil
}

// mustRead reads and expects the number of commits so far.
func (f *follower) mustRead(commits int) {
	f.t.Helper()
	if _, err := f.Read(); err != nil {
		f.t.Fatal(err)
	}
	if f.commits != commits {
		f.t.Fatalf("followed %d commits, %d were made", f.commits, commits)
	}
}
