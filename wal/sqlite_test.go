package wal_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the writer of real WALs

	"tidemark/wal"
)

// WALs that SQLite itself wrote.

// database is an SQLite database with one connection, and its WAL.
type database struct {
	*sql.DB
	path string
	wal  *os.File
	base []byte // the database file before the WAL
}

// newDatabase makes an empty database in WAL mode that checkpoints only when
// told. dsn is what follows its path.
func newDatabase(t *testing.T, size wal.PageSize, dsn string) *database {
	t.Helper()
	d := &database{path: filepath.Join(t.TempDir(), "db")}
	d.open(t, "")
	d.exec(t, fmt.Sprintf("PRAGMA page_size=%d", size))
	d.exec(t, "PRAGMA journal_mode=WAL")
	d.exec(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b BLOB)")
	d.exec(t, "CREATE INDEX i ON t (a)")
	d.close(t)
	d.base = readFile(t, d.path)
	d.open(t, dsn)
	d.exec(t, "PRAGMA wal_autocheckpoint=0")
	d.exec(t, "INSERT INTO t (a) VALUES (0)") // the WAL exists from here on
	f, err := os.Open(d.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	d.wal = f
	return d
}

func (d *database) open(t *testing.T, dsn string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+d.path+dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	d.DB = db
	t.Cleanup(func() { _ = db.Close() })
}

func (d *database) close(t *testing.T) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func (d *database) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := d.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// insert is a statement that adds n rows of some bytes each.
func insert(n, size int) string {
	return fmt.Sprintf(`WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM s WHERE n < %d)
		INSERT INTO t (a, b) SELECT random(), randomblob(%d) FROM s`, n, size)
}

// step is a statement and the number of commits that it makes.
type step struct {
	sql     string
	commits int
}

// workload has transactions of several lengths, and all ways to end one.
func workload() []step {
	return []step{
		{insert(1, 10), 1},
		{insert(100, 300), 1},
		{"UPDATE t SET b = randomblob(200) WHERE id % 7 = 0", 1},
		{"SELECT count(*) FROM t", 0},
		{"UPDATE t SET a = 1 WHERE id < 0", 0},
		{"BEGIN", 0},
		{insert(50, 500), 0},
		{"ROLLBACK", 0},
		{insert(3, 100), 1},
		{"BEGIN", 0},
		{insert(20, 700), 0},
		{"SAVEPOINT s", 0},
		{insert(60, 700), 0},
		{"ROLLBACK TO s", 0},
		{insert(2, 50), 0},
		{"COMMIT", 1},
		// A cache this small spills: frames are written before the commit, and
		// written over when their pages change again.
		{"PRAGMA cache_size=5", 0},
		{"BEGIN", 0},
		{insert(800, 900), 0},
		{"UPDATE t SET b = randomblob(850), a = random() WHERE id % 3 = 0", 0},
		{"UPDATE t SET b = randomblob(840) WHERE id % 2 = 0", 0},
		{"COMMIT", 1},
		{"BEGIN", 0},
		{insert(700, 900), 0},
		{"ROLLBACK", 0},
		{insert(1, 30), 1},
		{"BEGIN", 0},
		{insert(300, 900), 0},
		{"SAVEPOINT s", 0},
		{insert(600, 900), 0},
		{"ROLLBACK TO s", 0},
		{"UPDATE t SET a = random() WHERE id % 5 = 0", 0},
		{"COMMIT", 1},
		{"PRAGMA cache_size=2000", 0},
		{"DELETE FROM t WHERE id > 300", 1},
		{"VACUUM", 1}, // the database shrinks
		{"DROP INDEX i", 1},
		{insert(10, 100), 1},
	}
}

// apply puts commits on top of a database file.
func apply(base []byte, size wal.PageSize, commits []commit) []byte {
	db := append([]byte(nil), base...)
	for _, c := range commits {
		for _, f := range c.Frames {
			db = overlay(db, int(size.Offset(f.Page)), []byte(f.Image))
		}
		db = db[:min(len(db), int(c.Pages)*int(size))]
	}
	return db
}

// repeated is the number of frames that repeat a page of their commit.
func repeated(c commit) int {
	pages := map[wal.PageNo]bool{}
	for _, f := range c.Frames {
		pages[f.Page] = true
	}
	return len(c.Frames) - len(pages)
}

// TestSQLite follows a database through the workload, statement by statement,
// also inside transactions.
func TestSQLite(t *testing.T) {
	t.Parallel()
	for _, size := range pageSizes() {
		t.Run(fmt.Sprintf("size=%d", size), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, size, "")
			h, err := wal.ReadHeader(d.wal)
			if err != nil || h.PageSize != size || h.Order != wal.LittleEndian {
				t.Fatalf("%+v, %v, want page size %d", h, err, size)
			}
			r := wal.NewReader(d.wal, h, h.Start())
			got := drain(t, r)
			if len(got) != 1 {
				t.Fatalf("%d commits at first, want 1", len(got))
			}
			spilled := 0
			for _, s := range workload() {
				d.exec(t, s.sql)
				file := readFile(t, d.path+"-wal")
				found := drain(t, r)
				if len(found) != s.commits {
					t.Errorf("%s: %d commits, want %d", s.sql, len(found), s.commits)
				}
				got = append(got, found...)
				if s.commits == 0 && len(file) > int(h.Offset(r.Position().Frame+100)) {
					spilled++
				}
				// A reader that resumes here finds the same: nothing yet.
				if again := drain(t, wal.NewReader(d.wal, h, r.Position())); again != nil {
					t.Errorf("%s: resumed and found %d commits", s.sql, len(again))
				}
			}
			if spilled == 0 && size <= 4096 {
				t.Error("no transaction spilled: the test has lost its point")
			}
			twice := 0
			for _, c := range got {
				twice += repeated(c)
			}
			if twice == 0 && size <= 4096 {
				t.Error("no page came twice in a commit: the test has lost its point")
			}
			file := readFile(t, d.path+"-wal")
			if diff := cmp.Diff(naiveAll(file, h, h.Start()), got); diff != "" {
				t.Fatalf("followed, against naive at the end (-naive +got):\n%s", diff)
			}
			if diff := cmp.Diff(got, drain(t, wal.NewReader(bytes.NewReader(file), h, h.Start()))); diff != "" {
				t.Errorf("followed, against read at the end:\n%s", diff)
			}
			d.exec(t, "PRAGMA wal_checkpoint(TRUNCATE)")
			d.close(t)
			if db := apply(d.base, size, got); !bytes.Equal(db, readFile(t, d.path)) {
				t.Error("the pages of the commits are not the checkpointed database")
			}
		})
	}
}

// Transactions of many MiB that spill, are written over while they are open,
// and are rolled back.
func TestSQLiteLongTransactions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 4096, "")
	h, err := wal.ReadHeader(d.wal)
	if err != nil {
		t.Fatal(err)
	}
	r := wal.NewReader(d.wal, h, h.Start())
	all := drain(t, r)
	d.exec(t, "PRAGMA cache_size=5")
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		d.exec(t, "BEGIN")
		for range 3 {
			d.exec(t, insert(400, 3000))
			misses(t, r, 1)
			d.exec(t, "UPDATE t SET b = randomblob(900) WHERE id % 20 = 0")
			misses(t, r, 2)
		}
		if n := len(readFile(t, d.path+"-wal")); n < int(h.Offset(r.Position().Frame))+4<<20 {
			t.Fatalf("the transaction reaches only to %d", n)
		}
		d.exec(t, end)
		if end == "COMMIT" {
			findsWithin(t, r, patience)
		} else {
			misses(t, r, 3)
			d.exec(t, insert(1, 10))
			r.Rewind()
			findsWithin(t, r, 1)
		}
		frames, err := framesOf(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, commit{End: r.Position(), Frames: frames})
		misses(t, r, 1)
	}
	file := readFile(t, d.path+"-wal")
	for i, c := range naiveAll(file, h, h.Start()) {
		if i >= len(all) || all[i].End != c.End || !slices.Equal(all[i].Frames, c.Frames) {
			t.Fatalf("commit %d to %v was not found as it is", i, c.End)
		}
		all[i] = c
	}
	d.close(t)
	if db := apply(d.base, 4096, all); !bytes.Equal(db, readFile(t, d.path)) {
		t.Error("the pages of the commits are not the checkpointed database")
	}
}

// Without powersafe overwrite SQLite repeats a transaction's last frame up to
// the end of a sector. Each repetition commits the same database again.
func TestSQLitePadsSectors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 512, "?psow=0")
	d.exec(t, "PRAGMA synchronous=FULL")
	h, err := wal.ReadHeader(d.wal)
	if err != nil {
		t.Fatal(err)
	}
	r := wal.NewReader(d.wal, h, h.Start())
	before := drain(t, r)
	d.exec(t, insert(20, 300))
	got := drain(t, r)
	if len(got) < 2 {
		t.Fatalf("%d commits: no padding", len(got))
	}
	all := append(before, got...)
	if diff := cmp.Diff(naiveAll(readFile(t, d.path+"-wal"), h, h.Start()), all); diff != "" {
		t.Fatalf("(-naive +got):\n%s", diff)
	}
	last := got[0].Frames[len(got[0].Frames)-1]
	for _, c := range got[1:] {
		if diff := cmp.Diff([]frame{last}, c.Frames); diff != "" || c.Pages != got[0].Pages {
			t.Errorf("padding, %d pages, want %d (-want +got):\n%s", c.Pages, got[0].Pages, diff)
		}
	}
	d.close(t)
	if db := apply(d.base, 512, all); !bytes.Equal(db, readFile(t, d.path)) {
		t.Error("the pages of the commits are not the checkpointed database")
	}
}

// SQLite restarts a WAL that is wholly checkpointed: same file, new salts,
// and the first grows by one.
func TestSQLiteRestarts(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 4096, "")
	h, err := wal.ReadHeader(d.wal)
	if err != nil {
		t.Fatal(err)
	}
	d.exec(t, insert(500, 1000))
	r := wal.NewReader(d.wal, h, h.Start())
	all := drain(t, r)
	for generation := range 3 {
		d.exec(t, "PRAGMA wal_checkpoint(FULL)")
		if now, err := wal.ReadHeader(d.wal); err != nil || now != h {
			t.Fatalf("restarted before a write: %+v, %v", now, err)
		}
		d.exec(t, insert(generation+1, 100))
		now, err := wal.ReadHeader(d.wal)
		if err != nil || now.Salts.Salt1 != h.Salts.Salt1+1 || now.Salts.Salt2 == h.Salts.Salt2 {
			t.Fatalf("generation %d: %v, %v, after %v", generation, now.Salts, err, h.Salts)
		}
		if found := drain(t, r); found != nil {
			t.Errorf("generation %d: the old reader found %d commits", generation, len(found))
		}
		h, r = now, wal.NewReader(d.wal, now, now.Start())
		found := drain(t, r)
		if len(found) != 1 {
			t.Errorf("generation %d: %d commits, want 1", generation, len(found))
		}
		all = append(all, found...)
	}
	d.close(t)
	if db := apply(d.base, 4096, all); !bytes.Equal(db, readFile(t, d.path)) {
		t.Error("the pages of the commits are not the checkpointed database")
	}
}

// SQLite reads what AppendTo and AppendFrame write, in both byte orders.
func TestSQLiteReadsOurFrames(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		for _, size := range pageSizes() {
			t.Run(fmt.Sprintf("order=%d/size=%d", order, size), func(t *testing.T) {
				t.Parallel()
				d := newDatabase(t, size, "")
				d.exec(t, insert(100, 300))
				d.exec(t, insert(1, 3000))
				h, err := wal.ReadHeader(d.wal)
				if err != nil {
					t.Fatal(err)
				}
				commits := drain(t, wal.NewReader(d.wal, h, h.Start()))

				h.Order = order
				file := h.AppendTo(nil)
				if h, err = wal.ReadHeader(bytes.NewReader(file)); err != nil {
					t.Fatal(err)
				}
				pos := h.Start()
				for _, c := range commits {
					for i, f := range c.Frames {
						pages := uint32(0)
						if i == len(c.Frames)-1 {
							pages = c.Pages
						}
						file, pos = h.AppendFrame(file, pos, f.Page, pages, []byte(f.Image))
					}
				}
				theirs, _ := io.ReadAll(io.NewSectionReader(d.wal, 0, 1<<30))
				if same := bytes.Equal(file, theirs); same != (order == wal.LittleEndian) {
					t.Errorf("same bytes as SQLite's: %v", same)
				}

				e := &database{path: filepath.Join(t.TempDir(), "db")}
				if err := os.WriteFile(e.path, d.base, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(e.path+"-wal", file, 0o600); err != nil {
					t.Fatal(err)
				}
				e.open(t, "")
				var rows int
				var check string
				if err := e.QueryRow("SELECT count(*), (SELECT * FROM pragma_integrity_check) FROM t").Scan(&rows, &check); err != nil {
					t.Fatal(err)
				}
				if rows != 102 || check != "ok" {
					t.Errorf("%d rows, want 102; integrity check: %s", rows, check)
				}
				e.close(t)
				if !bytes.Equal(apply(d.base, size, commits), readFile(t, e.path)) {
					t.Error("SQLite checkpointed something else")
				}
			})
		}
	}
}
