package rebuild_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tidemark/replica/salvage/btree"
	"tidemark/wal"
)

// recorder notes which pages are asked for.
type recorder struct {
	btree.Pages
	asked []wal.PageNo
}

func (r *recorder) Page(no wal.PageNo) ([]byte, error) {
	r.asked = append(r.asked, no)
	return r.Pages.Page(no)
}

var keyPattern = regexp.MustCompile(`(?:plain|bare|keyed|uniq|gen) \d+ `)

// pagesByRow tells for each row, by its text, the pages that it lies on: its own, and
// its overflow pages.
func (d *damaged) pagesByRow(t *testing.T) map[string][]wal.PageNo {
	t.Helper()
	src := &recorder{Pages: d.source(t)}
	f, err := btree.Open(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := f.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]wal.PageNo{}
	for _, o := range schema.Objects {
		if o.Type != "table" {
			continue
		}
		src.asked = nil
		_, err := f.Walk(t.Context(), o.Root, func(r *btree.Row) error {
			key := rowKey(f, r)
			if key == "" {
				return nil
			}
			out[key] = append(out[key], r.Page)
			for _, no := range src.asked {
				if use, _ := f.Use(no); use == btree.Overflow {
					out[key] = append(out[key], no)
				}
			}
			src.asked = nil
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func rowKey(f *btree.File, r *btree.Row) string {
	for _, v := range r.Values {
		if v.Type == btree.Text {
			s, _ := f.Header().Encoding.Decode(v.Bytes)
			if key := keyPattern.FindString(s); key != "" {
				return key
			}
		}
	}
	return ""
}

// keyed sorts rows by their text.
func keyed(rows map[string][]string) map[string][]string {
	out := map[string][]string{}
	for _, list := range rows {
		for _, row := range list {
			if key := keyPattern.FindString(row); key != "" {
				out[key] = append(out[key], row)
			}
		}
	}
	return out
}

// reporter is a test, or a try of a property.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// breakage is what was done to a database.
type breakage struct {
	pages     map[wal.PageNo]bool
	misplaced bool // some pages have what belongs to others
}

// mustHave checks that each row whose pages are all intact is there as it was, in its
// table or in lost_and_found. If pages were written to wrong places, then another table
// may have taken it, with its own types and columns: a root that was written over
// another's can't be told from it.
func mustHave(t reporter, d *damaged, pages map[string][]wal.PageNo, broken breakage, got map[string][]string) {
	t.Helper()
	have, missing := keyed(got), 0
rows:
	for key, before := range keyed(d.tables) {
		for _, no := range pages[key] {
			if broken.pages[no] {
				continue rows
			}
		}
		for _, row := range have[key] {
			if row == before[0] {
				continue rows
			}
		}
		own, _, _ := strings.Cut(key, " ")
		for name, rows := range got {
			if broken.misplaced && name != "" && name != own && strings.Contains(strings.Join(rows, "\n"), "'"+key) {
				continue rows
			}
		}
		if missing++; missing < 5 {
			t.Errorf("row %q on intact pages %v is missing; there is %.200q", key, pages[key], have[key])
		}
	}
	if missing > 0 {
		t.Errorf("%d rows are missing, pages %v are damaged", missing, broken.pages)
	}
}

// mustNotInvent checks that the tables have no rows that were never there.
func mustNotInvent(t *testing.T, d *damaged, got map[string][]string) {
	t.Helper()
	for _, table := range tables {
		was := map[string]bool{}
		for _, row := range d.tables[table.name] {
			was[row] = true
		}
		for _, row := range got[table.name] {
			// A blob may well end with zeros, so a lost page at its end goes unseen.
			if !was[row] && !strings.HasSuffix(row, "00'") {
				t.Errorf("table %s has a row that never was: %.200s", table.name, row)
			}
		}
	}
}

// TestDamagedPages destroys random pages in several ways.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		if s.pageSize == 65536 { // of which there are few for what they cost
			continue
		}
		s.rows = 100
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			d := build(t, s, 2)
			pages := d.pagesByRow(t)
			count := len(d.file) / s.pageSize
			schema := d.schemaPages(t)
			rapid.Check(t, func(rt *rapid.T) {
				broken := breakage{pages: map[wal.PageNo]bool{}}
				c := d.clone()
				for range rapid.IntRange(1, max(2, count/8)).Draw(rt, "pages") {
					no := wal.PageNo(rapid.IntRange(1, count).Draw(rt, "page"))
					broken.pages[no] = true
					kinds := []string{"zero", "noise", "other", "half", "flip"}
					if schema[no] {
						kinds = kinds[:4]
					}
					broken.misplaced = c.ruin(rt, no, kinds) == "other" || broken.misplaced
				}
				report, db := c.salvage(t)
				got := found(t, report, db)
				_ = db.Close()
				mustHave(rt, d, pages, broken, got)
			})
		})
	}
}

// schemaPages are those of sqlite_schema.
func (d *damaged) schemaPages(t *testing.T) map[wal.PageNo]bool {
	t.Helper()
	f, err := btree.Open(t.Context(), d.source(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Schema(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := map[wal.PageNo]bool{}
	for no := wal.PageNo(1); no <= f.Count(); no++ {
		if _, root := f.Use(no); root == 1 {
			out[no] = true
		}
	}
	return out
}

// ruin destroys a page, and tells how. A flipped bit in the SQL of a table gives another table, and
// nobody can see it, so the schema's pages get other damage.
func (d *damaged) ruin(rt *rapid.T, no wal.PageNo, kinds []string) (kind string) {
	page := d.page(no)
	kind = rapid.SampledFrom(kinds).Draw(rt, "damage")
	switch kind {
	case "zero":
		clear(page)
	case "noise":
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		for i := range page {
			page[i] = byte(rng.Uint32())
		}
	case "flip":
		for range rapid.IntRange(1, 8).Draw(rt, "bits") {
			page[rapid.IntRange(0, len(page)-1).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		}
	case "other": // a write that went to the wrong place
		from := wal.PageNo(rapid.IntRange(1, len(d.file)/d.shape.pageSize).Draw(rt, "from"))
		copy(page, d.page(from))
	case "half":
		clear(page[len(page)/2:])
	}
	return kind
}

// TestZeroedPages checks beyond that that nothing is made up.
func TestZeroedPages(t *testing.T) {
	t.Parallel()
	d := build(t, shape{pageSize: 1024, encoding: "UTF-8", rows: 200}, 3)
	pages := d.pagesByRow(t)
	for _, table := range tables {
		for _, kind := range []string{"internal", "leaf", "overflow"} {
			t.Run(fmt.Sprintf("%s-%s", table.name, kind), func(t *testing.T) {
				t.Parallel()
				c, broken := d.clone(), map[wal.PageNo]bool{}
				for i, no := range d.pagesOf(t, table.name, kind) {
					if i%3 == 0 {
						c.zero(no)
						broken[no] = true
					}
				}
				report, db := c.salvage(t)
				got := found(t, report, db)
				mustHave(t, d, pages, breakage{pages: broken}, got)
				mustNotInvent(t, d, got)
				if len(broken) == 0 {
					t.Error("no page was destroyed")
				}
			})
		}
	}
}

// TestInteriorElsewhere has each interior page of a table lost, with its last copy where
// a page of something else was: that tree leads to the table's rows now. They may come
// to another table, and must come somewhere.
func TestInteriorElsewhere(t *testing.T) {
	t.Parallel()
	d := build(t, shape{pageSize: 512, encoding: "UTF-8", rows: 200}, 2)
	pages := d.pagesByRow(t)
	schema, last := d.schemaPages(t), wal.PageNo(len(d.file)/d.shape.pageSize)
	for _, table := range tables {
		rows := keyed(map[string][]string{"": d.tables[table.name]})
		t.Run(table.name, func(t *testing.T) {
			t.Parallel()
			for _, from := range d.pagesOf(t, table.name, "internal") {
				for to := wal.PageNo(2); to <= last; to++ {
					if to == from || !schema[to] && to > 20 && to%11 != 0 {
						continue
					}
					c := d.clone()
					copy(c.page(to), c.page(from))
					c.zero(from)
					report, db := c.salvage(t)
					got := keyed(found(t, report, db))
					_ = db.Close()
					for key := range rows {
						if len(got[key]) == 0 && !slices.Contains(pages[key], to) && !slices.Contains(pages[key], from) {
							t.Errorf("row %q is nowhere after page %d was written to %d", key, from, to)
						}
					}
				}
			}
		})
	}
}
