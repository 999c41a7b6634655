package btree_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/salvage/btree"
	"tidemark/wal"
)

// count gives the rows of each table, and those that belong to none.
func count(t *testing.T, file []byte, size int) (btree.Tally, map[string]int64) {
	t.Helper()
	tally, err := btree.Count(t.Context(), source(t, file, size))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int64{"": tally.Orphans.Rows}
	for _, table := range tally.Tables {
		rows[table.Name] = table.Tree.Rows
	}
	return tally, rows
}

// TestCount counts intact databases, and some that are not.
func TestCount(t *testing.T) {
	t.Parallel()
	for _, size := range []int{512, 1024, 4096, 65536} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			file := standard(t, size)
			tally, rows := count(t, file, size)
			if diff := cmp.Diff(map[string]int64{"a": 300, "w": 300, "": 0}, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if !tally.Header.Known || tally.Orphans.Pages != 0 || !tally.Orphans.FreeKnown {
				t.Errorf("header %+v, orphans %+v", tally.Header, tally.Orphans)
			}
			for _, table := range tally.Tables {
				if table.Tree.Damages.Any() || table.Tree.Flawed != 0 || table.Tree.Index != (table.Name == "w") {
					t.Errorf("table %s: %+v", table.Name, table.Tree)
				}
			}
			root := rootOf(t, file, size, "a")
			clear(page(file, size, root))
			tally, rows = count(t, file, size)
			if size < 4096 && rows[""] != 300 || rows["w"] != 300 {
				t.Errorf("without the root of a: %v", rows)
			}
			want := []btree.Damage{{Page: root, Trouble: btree.NotTree}}
			if diff := cmp.Diff(want, tally.Tables[0].Tree.Damages.List); diff != "" {
				t.Errorf("damages (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOrphansKnowTheirRoot destroys a root: the pointer map still knows whose the pages
// below it are.
func TestOrphansKnowTheirRoot(t *testing.T) {
	t.Parallel()
	const size = 512
	for vacuum, known := range []bool{false, true} {
		file := standard(t, size, fmt.Sprintf("PRAGMA auto_vacuum=%d", vacuum))
		root := rootOf(t, file, size, "a")
		clear(page(file, size, root))
		f, err := btree.Open(t.Context(), source(t, file, size))
		if err != nil {
			t.Fatal(err)
		}
		schema, err := f.Schema(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range schema.Objects {
			if _, err := f.Walk(t.Context(), o.Root, nil); err != nil {
				t.Fatal(err)
			}
		}
		roots := map[wal.PageNo]int{}
		_, err = f.Orphans(t.Context(), btree.OrphanOptions{}, func(r *btree.Row) error {
			roots[r.Root]++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := roots[root] == 300; got != known {
			t.Errorf("auto_vacuum %d: orphans by root %v, want all under %d: %v", vacuum, roots, root, known)
		}
	}
}

// TestHeaderIsFound destroys page 1: the pages tell what it said.
func TestHeaderIsFound(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"UTF-8", "UTF-16le", "UTF-16be"} {
		for vacuum := range 2 {
			file := standard(t, 1024, "PRAGMA encoding='"+encoding+"'", fmt.Sprintf("PRAGMA auto_vacuum=%d", vacuum))
			clear(page(file, 1024, 1))
			f, err := btree.Open(t.Context(), source(t, file, 1024))
			if err != nil {
				t.Fatal(err)
			}
			h := f.Header()
			if h.Known || h.Encoding.String() != encoding || h.AutoVacuum != (vacuum == 1) || h.Reserved != 0 {
				t.Errorf("%s, auto_vacuum %d: found %+v", encoding, vacuum, h)
			}
		}
	}
}

// failing fails for one page.
type failing struct {
	btree.Pages
	err error
}

func (f failing) Page(no wal.PageNo) ([]byte, error) {
	if no == 5 {
		return nil, f.err
	}
	return f.Pages.Page(no)
}

// TestSourceFails tells a page that is lost from a source that fails.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	src := source(t, standard(t, 512), 512)
	tally, err := btree.Count(t.Context(), failing{src, fmt.Errorf("sector: %w", btree.ErrLost)})
	if err != nil {
		t.Fatal(err)
	}
	if lost := tally.Tables[0].Tree.Damages.Pages + tally.Tables[1].Tree.Damages.Pages; lost > 1 {
		t.Errorf("%d pages are lost", lost)
	}
	broken := errors.New("broken")
	if _, err := btree.Count(t.Context(), failing{src, broken}); !errors.Is(err, broken) {
		t.Errorf("source fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := btree.Count(ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := btree.FromReader(nil, 0, 1000); !errors.Is(err, btree.ErrSize) {
		t.Errorf("page size 1000: %v", err)
	}
}

// TestDecode gives texts in all encodings, and those that are none.
func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		e     btree.Encoding
		bytes string
		want  string
		exact bool
	}{
		{btree.UTF8, "aü\x00b", "aü\x00b", true},
		{btree.UTF8, "a\xff", "a\xff", false},
		{btree.UTF16LE, "a\x00\x3d\xd8\x00\xde", "a😀", true},
		{btree.UTF16BE, "\x00a\xd8\x3d\xde\x00", "a😀", true},
		{btree.UTF16LE, "a\x00\x3d\xd8", "a\ufffd", false},
		{btree.UTF16LE, "a\x00b", "a", false},
	} {
		if got, exact := c.e.Decode([]byte(c.bytes)); got != c.want || exact != c.exact {
			t.Errorf("%s %q: %q, %v", c.e, c.bytes, got, exact)
		}
	}
}
