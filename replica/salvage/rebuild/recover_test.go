package rebuild_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tidemark/replica/salvage/rebuild"
	"tidemark/wal"
)

// shell finds a sqlite3 whose .recover works; in some distributions it does not.
func shell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("no sqlite3 shell")
	}
	db := filepath.Join(t.TempDir(), "sample.db")
	if out, err := exec.Command(path, db, "CREATE TABLE t(a); INSERT INTO t VALUES('sample')").CombinedOutput(); err != nil {
		t.Skipf("sqlite3: %v: %s", err, out)
	}
	out, err := exec.Command(path, db, ".recover").Output()
	if err != nil || !bytes.Contains(out, []byte("'sample'")) {
		t.Skip("the sqlite3 shell has no .recover")
	}
	return path
}

// theirs has the rows that SQLite's own recovery gives.
func theirs(t *testing.T, shell string, file []byte) map[string][]string {
	t.Helper()
	script, err := exec.Command(shell, writeFile(t, file), ".recover --ignore-freelist").Output()
	if err != nil {
		t.Logf("sqlite3 .recover: %v", err)
	}
	out := filepath.Join(t.TempDir(), "theirs.db")
	load := exec.Command(shell, out)
	load.Stdin = bytes.NewReader(script)
	if msg, err := load.CombinedOutput(); err != nil {
		t.Logf("load what .recover gave: %v: %.300s", err, msg)
	}
	db := open(t, out)
	report := &rebuild.Report{}
	if len(query(t, db, "SELECT name FROM sqlite_schema WHERE name = 'lost_and_found'")) == 1 {
		report.LostAndFound.Name = "lost_and_found"
	}
	return found(t, report, db)
}

// exact counts the rows of the oracle that are there as they were.
func exact(d *damaged, got map[string][]string) (n int) {
	have := keyed(got)
	for key, before := range keyed(d.tables) {
		if slices.Contains(have[key], before[0]) {
			n++
		}
	}
	return n
}

// TestAgainstRecover holds what is rebuilt against SQLite's own recovery.
func TestAgainstRecover(t *testing.T) {
	t.Parallel()
	sqlite := shell(t)
	eachOf := func(table, kind string) func(*testing.T, *damaged) []wal.PageNo {
		return func(t *testing.T, d *damaged) []wal.PageNo {
			t.Helper()
			return d.pagesOf(t, table, kind)
		}
	}
	cases := []struct {
		name  string
		pages func(*testing.T, *damaged) []wal.PageNo
		every int
		ruin  func(d *damaged, no wal.PageNo)
	}{
		{name: "nothing"},
		{name: "first page", pages: func(*testing.T, *damaged) []wal.PageNo { return []wal.PageNo{1} }},
		{name: "interior pages", pages: eachOf("plain", "internal"), every: 2},
		{name: "interior pages without rowid", pages: eachOf("keyed", "internal"), every: 2},
		{name: "leaves", pages: eachOf("uniq", "leaf"), every: 4},
		{name: "overflow", pages: eachOf("gen", "overflow"), every: 3},
		{name: "bits", pages: eachOf("bare", "leaf"), every: 3, ruin: func(d *damaged, no wal.PageNo) {
			for i := range 5 {
				d.page(no)[(int(no)*7919+i*104729)%d.shape.pageSize] ^= 1 << i
			}
		}},
		{name: "half of the file", pages: func(_ *testing.T, d *damaged) []wal.PageNo {
			half := len(d.file) / d.shape.pageSize / 2
			d.file = d.file[:half*d.shape.pageSize]
			return nil
		}},
	}
	for _, s := range shapes() {
		intact := build(t, s, 4)
		for _, c := range cases {
			t.Run(s.String()+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				d := intact.clone()
				if c.pages != nil {
					for i, no := range c.pages(t, d) {
						switch {
						case i%max(c.every, 1) != 0:
						case c.ruin != nil:
							c.ruin(d, no)
						default:
							d.zero(no)
						}
					}
				}
				report, db := d.salvage(t)
				ours, other := found(t, report, db), theirs(t, sqlite, d.file)
				of := len(keyed(d.tables))
				t.Logf("rows as they were: %d, .recover %d, of %d; with those in part: %d, .recover %d",
					exact(d, ours), exact(d, other), of, len(keyed(ours)), len(keyed(other)))
				if exact(d, ours) < exact(d, other) || len(keyed(ours)) < len(keyed(other)) {
					have, missing := keyed(ours), []string{}
					for key := range keyed(other) {
						if have[key] == nil {
							missing = append(missing, key)
						}
					}
					t.Errorf(".recover has more; missing %s", strings.Join(missing, ", "))
				}
			})
		}
	}
}
