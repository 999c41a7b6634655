package archive_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	type txids = []state.TXID
	full := func(ids ...state.TXID) (all []archive.Snapshot) {
		for _, id := range ids {
			all = append(all, archive.Snapshot{TXID: id, Size: 1000})
		}
		return all
	}
	incremental := func(all []archive.Snapshot, id, base state.TXID) []archive.Snapshot {
		return append(all, archive.Snapshot{TXID: id, Base: base, Size: 10})
	}
	for name, tc := range map[string]struct {
		segments  txids
		snapshots []archive.Snapshot
		target    state.TXID
		from      state.TXID // the snapshot's; 0: no plan
		want      txids
	}{
		"snapshot only":                {nil, full(1), 1, 1, nil},
		"the snapshot itself":          {txids{2, 5}, full(1), 1, 1, nil},
		"first commit of a segment":    {txids{2, 5, 9}, full(1), 5, 1, txids{2, 5}},
		"last commit of a segment":     {txids{2, 5, 9}, full(1), 4, 1, txids{2}},
		"in the last segment":          {txids{2, 5, 9}, full(1), 100, 1, txids{2, 5, 9}},
		"newest snapshot before it":    {txids{2, 5, 9}, full(1, 4, 8), 7, 4, txids{5}},
		"snapshot between segments":    {txids{2, 5, 9}, full(4), 5, 4, txids{5}},
		"a later snapshot itself":      {txids{2, 5, 9}, full(1, 6), 6, 6, nil},
		"snapshot in a segment":        {txids{2, 5, 9}, full(1, 6), 7, 6, txids{5}},
		"snapshot in a segment, later": {txids{2, 5, 9}, full(1, 6), 9, 6, txids{5, 9}},
		"before one in a segment":      {txids{2, 5, 9}, full(1, 6), 5, 1, txids{2, 5}},
		"incremental ones":             {txids{2, 5, 9}, incremental(full(1), 8, 1), 9, 1, txids{2, 5, 9}},
		"incremental before full":      {txids{2, 5, 9}, append(incremental(full(1), 4, 1), full(6)...), 9, 6, txids{5, 9}},
		"no snapshot":                  {txids{2, 5}, nil, 3, 0, nil},
		"only incremental":             {txids{2, 5}, incremental(nil, 3, 1), 3, 0, nil},
		"before the first":             {txids{2, 5, 9}, full(4, 8), 3, 0, nil},
		"TXID 0":                       {txids{2, 5, 9}, full(1), 0, 0, nil},
		// The listing does not show where a segment ends: whoever reads the
		// plan finds the gap.
		"gap after the snapshot": {txids{5, 9}, full(1), 6, 1, txids{5}},
		"nothing after it":       {nil, full(1), 6, 1, nil},
		"log before it only":     {txids{2, 5}, full(1, 9), 12, 9, txids{5}},
		"gap to the target":      {txids{20}, full(1), 6, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := archive.Listing{Snapshots: tc.snapshots}
			for _, id := range tc.segments {
				l.Segments = append(l.Segments, archive.Segment{First: id, Size: int64(id)})
			}
			p, ok := l.Plan(tc.target)
			if ok != (tc.from != 0) {
				t.Fatalf("plan %+v, %v", p, ok)
			}
			if !ok {
				return
			}
			download := int64(1000)
			var got txids
			for _, s := range p.Segments {
				got = append(got, s.First)
				download += s.Size
			}
			if p.Target != tc.target || p.Snapshot.TXID != tc.from || p.Snapshot.Base != 0 {
				t.Errorf("plan %+v, want a full snapshot of %v", p, tc.from)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			if p.Download() != download {
				t.Errorf("download %d, want %d", p.Download(), download)
			}
		})
	}
}
