package salvage

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tidemark/wal"
)

// TestGuessPageSize loses the header of databases of every page size, and then their first
// page. All of their pages that are b-trees must be accounted for.
func TestGuessPageSize(t *testing.T) {
	t.Parallel()
	for size := wal.MinPageSize; size <= wal.MaxPageSize; size *= 2 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			db, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxOpenConns(1)
			for _, statement := range []string{
				fmt.Sprintf("PRAGMA page_size=%d", size),
				"CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)",
				"CREATE INDEX by_name ON a (name, n)",
				"CREATE TABLE b (k TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID",
				fmt.Sprintf(`WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM r WHERE i < %d)
					INSERT INTO a SELECT i, hex(i*7919 %% 1009), i*i FROM r`, 400+size/8),
				`INSERT INTO b SELECT name || '-' || id, zeroblob(n % 97) FROM a WHERE id % 3 = 0`,
				fmt.Sprintf("INSERT INTO b VALUES ('long', zeroblob(%d))", 5*size),
				"DELETE FROM a WHERE id % 7 < 3 AND id % 11 < 6",
				"UPDATE a SET n = 1 WHERE id % 13 = 1",
			} {
				if _, err := db.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			guessed(t, b, size)
		})
	}
}

// guessed checks what is made of the page size of a database that is given whole.
func guessed(t *testing.T, b []byte, size wal.PageSize) {
	t.Helper()
	trees := 0
	for at := 0; at < len(b); at += int(size) {
		no, page := wal.PageNo(at/int(size)+1), b[at:at+int(size)]
		is := accounts(no, page)
		if is {
			trees++
		} else if looksLikeTree(no, page) && page[0] != 0 {
			t.Errorf("page %v is a b-tree, and not accounted for", no)
		}
	}
	for cut := 1; cut < int(size); cut += max(7, int(size)/100) { // whatever a page is, it does no harm
		accounts(2, b[len(b)-int(size)-cut:len(b)-cut])
	}
	if trees < 10 {
		t.Errorf("only %d pages are b-trees", trees)
	}
	path := filepath.Join(t.TempDir(), "hurt.db")
	for _, lost := range []int{0, databaseHeaderSize, int(size)} {
		clear(b[:lost])
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := guessPageSize(f, int64(len(b))); got != size {
			t.Errorf("with %d bytes lost it is read as one of %d", lost, got)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHeaderDecides has a database of which no page looks like one of its size, beside a WAL of a
// size in which the first page does: the header knows better, as the file's length shows, unless
// that contradicts it.
func TestHeaderDecides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pages uint32
		want  wal.PageSize
	}{{16, 512}, {15, 8192}} {
		b := make([]byte, 16*512)
		copy(b, magic)
		b[databaseHeaderSize] = 13
		binary.BigEndian.PutUint16(b[databaseHeaderSize+5:], 8000)
		path := filepath.Join(t.TempDir(), "app.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		w := &work{
			rep: &Report{}, history: &history{size: 8192},
			db:   &private{File: f, input: &Input{}, size: int64(len(b))},
			head: databaseHeader{pageSize: 512, pages: c.pages},
		}
		if err := w.loadDatabase(t.Context()); err != nil {
			t.Error(err)
		}
		if w.size != c.want {
			t.Errorf("with a header that says %d pages it is read as one of %d bytes a page, want %d", c.pages, w.size, c.want)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
