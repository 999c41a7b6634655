package rebuild_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func shapes() []shape {
	return []shape{
		{pageSize: 512, encoding: "UTF-8", rows: 300},
		{pageSize: 1024, encoding: "UTF-16le", rows: 300, deleted: true},
		{pageSize: 4096, encoding: "UTF-8", vacuum: 1, rows: 400},
		{pageSize: 4096, encoding: "UTF-16be", vacuum: 2, rows: 300, deleted: true},
		{pageSize: 65536, encoding: "UTF-8", rows: 60, deleted: true},
	}
}

// TestIntact rebuilds databases that nothing is wrong with: they come out the same.
func TestIntact(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			d := build(t, s, 1)
			report, db := d.salvage(t)
			if diff := cmp.Diff(d.tables, contents(t, db)); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if report.LostAndFound.Rows != 0 || len(report.Failed) != 0 || report.Schema.Tree.Damages.Any() {
				t.Errorf("lost %+v, failed %v, schema %v", report.LostAndFound, report.Failed, report.Schema.Tree)
			}
			for _, table := range report.Tables {
				if table.Refused != 0 || table.Tree.Damages.Any() {
					t.Errorf("table %+v", table)
				}
			}
			if !report.Orphans.FreeKnown || s.deleted && report.Orphans.Free == 0 && s.vacuum != 1 {
				t.Errorf("orphans %+v", report.Orphans)
			}
			before := open(t, writeFile(t, d.file))
			for _, q := range []string{
				"SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_schema",
				"PRAGMA user_version", "PRAGMA application_id", "PRAGMA page_size", "PRAGMA encoding", "PRAGMA auto_vacuum",
				"SELECT name, seq FROM sqlite_sequence", "SELECT count(*) FROM counted", "SELECT late FROM bare",
			} {
				if diff := cmp.Diff(query(t, before, q), query(t, db, q)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", q, diff)
				}
			}
		})
	}
}
