package archive_test

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// snaps are snapshots, each by its TXID and the one that it adds to.
func snaps(pairs ...[2]state.TXID) (all []archive.Snapshot) {
	for _, p := range pairs {
		all = append(all, archive.Snapshot{TXID: p[0], Base: p[1], Size: 1000})
	}
	return all
}

func full(ids ...state.TXID) (all []archive.Snapshot) {
	for _, id := range ids {
		all = append(all, snaps([2]state.TXID{id, 0})...)
	}
	return all
}

// segs are segments; a pair is a pack.
func segs(firsts ...state.TXID) (log []archive.Segment) {
	for _, id := range firsts {
		log = append(log, archive.Segment{First: id, Size: int64(id)})
	}
	return log
}

func packs(pairs ...[2]state.TXID) (log []archive.Segment) {
	for _, p := range pairs {
		log = append(log, archive.Segment{First: p[0], Last: p[1], Size: int64(p[0])})
	}
	return log
}

func TestPlan(t *testing.T) {
	t.Parallel()
	type (
		txids = []state.TXID
		pair  = [2]state.TXID
	)
	with := slices.Concat[[]archive.Segment]
	day := with(packs(pair{2, 40}, pair{41, 80}), segs(81, 90, 99))
	chain := snaps(pair{1, 0}, pair{20, 1}, pair{30, 20}, pair{41, 30}, pair{50, 20}, pair{95, 50})
	for name, tc := range map[string]struct {
		log       []archive.Segment
		snapshots []archive.Snapshot
		target    state.TXID
		chain     txids // none: no plan
		want      txids // the first TXIDs of what is read of the log
	}{
		"snapshot only":                {nil, full(1), 1, txids{1}, nil},
		"the snapshot itself":          {segs(2, 5), full(1), 1, txids{1}, nil},
		"first commit of a segment":    {segs(2, 5, 9), full(1), 5, txids{1}, txids{2, 5}},
		"last commit of a segment":     {segs(2, 5, 9), full(1), 4, txids{1}, txids{2}},
		"in the last segment":          {segs(2, 5, 9), full(1), 100, txids{1}, txids{2, 5, 9}},
		"newest snapshot before it":    {segs(2, 5, 9), full(1, 4, 8), 7, txids{4}, txids{5}},
		"snapshot between segments":    {segs(2, 5, 9), full(4), 5, txids{4}, txids{5}},
		"a later snapshot itself":      {segs(2, 5, 9), full(1, 6), 6, txids{6}, nil},
		"snapshot in a segment":        {segs(2, 5, 9), full(1, 6), 7, txids{6}, txids{5}},
		"snapshot in a segment, later": {segs(2, 5, 9), full(1, 6), 9, txids{6}, txids{5, 9}},
		"before one in a segment":      {segs(2, 5, 9), full(1, 6), 5, txids{1}, txids{2, 5}},
		"no snapshot":                  {segs(2, 5), nil, 3, nil, nil},
		"before the first":             {segs(2, 5, 9), full(4, 8), 3, nil, nil},
		"TXID 0":                       {segs(2, 5, 9), full(1), 0, nil, nil},

		"in a pack":                   {day, full(1), 7, txids{1}, txids{2}},
		"a pack's last commit":        {day, full(1), 40, txids{1}, txids{2}},
		"a pack's first commit":       {day, full(1), 41, txids{1}, txids{2, 41}},
		"after the packs":             {day, full(1), 81, txids{1}, txids{2, 41, 81}},
		"the log's end":               {day, full(1), 120, txids{1}, txids{2, 41, 81, 90, 99}},
		"snapshot in a pack":          {day, full(1, 20), 40, txids{20}, txids{2}},
		"snapshot at a pack's end":    {day, full(1, 40), 50, txids{40}, txids{41}},
		"snapshot before a pack ends": {day, full(1, 39), 50, txids{39}, txids{2, 41}},
		"overlapping packs":           {packs(pair{2, 40}, pair{30, 80}), full(1), 50, txids{1}, txids{2, 30}},
		"the first of the two":        {packs(pair{2, 40}, pair{30, 80}), full(1), 35, txids{1}, txids{2}},
		"the second of the two":       {packs(pair{2, 40}, pair{30, 80}), full(1, 30), 35, txids{30}, txids{30}},

		"a chain":                   {day, chain, 98, txids{95, 50, 20, 1}, txids{90}},
		"the newest itself":         {day, chain, 95, txids{95, 50, 20, 1}, nil},
		"another branch of it":      {day, chain, 49, txids{41, 30, 20, 1}, txids{41}},
		"its first link":            {day, chain, 25, txids{20, 1}, txids{2}},
		"its beginning":             {day, chain, 19, txids{1}, txids{2}},
		"a link is gone":            {day, snaps(pair{1, 0}, pair{20, 1}, pair{95, 50}), 99, txids{20, 1}, txids{2, 41, 81, 90, 99}},
		"links are gone":            {day, snaps(pair{1, 0}, pair{50, 20}, pair{60, 50}, pair{95, 60}), 99, txids{1}, txids{2, 41, 81, 90, 99}},
		"the full one is gone":      {day, snaps(pair{20, 1}, pair{30, 20}), 99, nil, nil},
		"a later full one":          {day, snaps(pair{20, 1}, pair{30, 20}, pair{50, 0}, pair{60, 50}), 65, txids{60, 50}, txids{41}},
		"before the later full one": {day, snaps(pair{20, 1}, pair{30, 20}, pair{50, 0}, pair{60, 50}), 45, nil, nil},
		"two of one commit":         {day, snaps(pair{1, 0}, pair{20, 1}, pair{30, 1}, pair{30, 20}), 30, txids{30, 1}, nil},
		"a full one of two":         {day, snaps(pair{1, 0}, pair{30, 0}, pair{30, 1}, pair{40, 30}), 40, txids{40, 30}, nil},
		"one of two is broken":      {day, snaps(pair{20, 0}, pair{30, 1}, pair{30, 20}), 31, txids{30, 20}, txids{2}},
		"incremental before full":   {segs(2, 5, 9), snaps(pair{1, 0}, pair{4, 1}, pair{6, 0}), 9, txids{6}, txids{5, 9}},

		"a gap after the snapshot":   {segs(5, 9), full(1), 6, nil, nil},
		"snapshot in the gap":        {segs(5, 9), full(1, 4), 6, txids{4}, txids{5}},
		"nothing after it":           {nil, full(1), 6, nil, nil},
		"a gap to the target":        {segs(20), full(1), 6, nil, nil},
		"a gap between packs":        {packs(pair{2, 40}, pair{50, 80}), full(1), 60, nil, nil},
		"before it":                  {packs(pair{2, 40}, pair{50, 80}), full(1), 40, txids{1}, txids{2}},
		"in it":                      {packs(pair{2, 40}, pair{50, 80}), full(1), 45, nil, nil},
		"a snapshot in it":           {packs(pair{2, 40}, pair{50, 80}), full(1, 45), 45, txids{45}, nil},
		"after a snapshot in it":     {packs(pair{2, 40}, pair{50, 80}), full(1, 45), 46, nil, nil},
		"up to a snapshot in it":     {packs(pair{2, 40}, pair{50, 80}), full(1, 49), 60, txids{49}, txids{50}},
		"snapshot where it begins":   {packs(pair{2, 40}, pair{50, 80}), full(40), 41, nil, nil},
		"behind the gap":             {packs(pair{2, 40}, pair{50, 80}), full(1, 50), 60, txids{50}, txids{50}},
		"a gap behind the target":    {packs(pair{2, 40}, pair{50, 80}), full(1), 39, txids{1}, txids{2}},
		"after the last pack":        {packs(pair{2, 40}), full(1), 41, nil, nil},
		"an older one does not help": {packs(pair{2, 40}, pair{50, 80}), full(1, 42), 60, nil, nil},
		// The listing does not show where a segment ends: whoever reads the
		// plan finds the gap.
		"a gap after a segment": {with(segs(2, 5), packs(pair{50, 80})), full(1), 60, txids{1}, txids{2, 5, 50}},
		"log before it only":    {segs(2, 5), full(1, 9), 12, txids{9}, txids{5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := archive.Listing{Snapshots: tc.snapshots, Segments: tc.log}
			p, ok := l.Plan(tc.target)
			if ok != (tc.chain != nil) {
				t.Fatalf("plan %+v, %v", p, ok)
			}
			if !ok {
				return
			}
			var chain, got txids
			var download int64
			packs := 0
			for _, s := range p.Snapshots {
				chain = append(chain, s.TXID)
				download += s.Size
			}
			for _, s := range p.Segments {
				got = append(got, s.First)
				download += s.Size
				if s.IsPack() {
					packs++
				}
			}
			if diff := gocmp.Diff(tc.chain, chain); diff != "" || p.Target != tc.target {
				t.Errorf("plan of %v, snapshots (-want +got):\n%s", p.Target, diff)
			}
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			if p.Download() != download || p.Packs() != packs {
				t.Errorf("download %d in %d packs, want %d in %d", p.Download(), p.Packs(), download, packs)
			}
		})
	}
}

// drawListing draws a listing, with gaps in the log and snapshots of which some
// are broken, and where each object of the log ends, as far as the listing tells.
func drawListing(t *rapid.T) (l archive.Listing, ends []state.TXID) {
	next := state.TXID(rapid.IntRange(1, 5).Draw(t, "first"))
	for range rapid.IntRange(0, 8).Draw(t, "objects") {
		s := archive.Segment{First: next}
		next += state.TXID(rapid.IntRange(1, 5).Draw(t, "commits"))
		if rapid.Bool().Draw(t, "a pack") {
			s.Last = next - 1
		}
		if rapid.IntRange(0, 3).Draw(t, "a gap") == 0 {
			next += 2
		}
		l.Segments = append(l.Segments, s)
	}
	for i, s := range l.Segments {
		switch {
		case s.IsPack():
			ends = append(ends, s.Last)
		case i+1 < len(l.Segments):
			ends = append(ends, l.Segments[i+1].First-1)
		default:
			ends = append(ends, 1<<40)
		}
	}
	last := int(next) + 3
	for range rapid.IntRange(0, 8).Draw(t, "snapshots") {
		s := archive.Snapshot{TXID: state.TXID(rapid.IntRange(1, last).Draw(t, "snapshot"))}
		if s.TXID > 1 && rapid.IntRange(0, 3).Draw(t, "incremental") > 0 {
			s.Base = state.TXID(rapid.IntRange(1, int(s.TXID)-1).Draw(t, "base"))
		}
		if n := len(l.Snapshots); n > 0 && s.Base != 0 && rapid.Bool().Draw(t, "of another") {
			if base := l.Snapshots[rapid.IntRange(0, n-1).Draw(t, "which")].TXID; base < s.TXID {
				s.Base = base
			}
		}
		if !slices.Contains(l.Snapshots, s) {
			l.Snapshots = append(l.Snapshots, s)
		}
	}
	slices.SortFunc(l.Snapshots, func(a, b archive.Snapshot) int {
		return cmp.Or(cmp.Compare(a.TXID, b.TXID), cmp.Compare(a.Base, b.Base))
	})
	return l, ends
}

// whole tells by the plain way whether a commit has a snapshot with all that it
// adds to.
func whole(l archive.Listing, id state.TXID) bool {
	return slices.ContainsFunc(l.Snapshots, func(s archive.Snapshot) bool {
		return s.TXID == id && (s.Base == 0 || whole(l, s.Base))
	})
}

// holds tells by the plain way whether the log leads from one commit to another.
func holds(l archive.Listing, ends []state.TXID, from, to state.TXID) bool {
	for id := from + 1; id <= to; id++ {
		found := false
		for i, s := range l.Segments {
			found = found || s.First <= id && id <= ends[i]
		}
		if !found {
			return false
		}
	}
	return true
}

// A plan begins with the newest snapshot that is whole and goes on without a
// gap, or there is none: for every listing and every target.
func TestPlanOfAny(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l, ends := drawListing(t)
		for target := range state.TXID(60) {
			from := target
			for from > 0 && !whole(l, from) {
				from--
			}
			want := from > 0 && holds(l, ends, from, target)
			p, ok := l.Plan(target)
			if ok != want {
				t.Fatalf("TXID %v: %+v, %v, want %v", target, p, ok, want)
			}
			if ok {
				checkPlan(t, l, ends, p, from)
			}
		}
	})
}

func checkPlan(t *rapid.T, l archive.Listing, ends []state.TXID, p archive.Plan, from state.TXID) {
	if p.Snapshots[0].TXID != from {
		t.Fatalf("%+v begins at %v, not %v", p, p.Snapshots[0].TXID, from)
	}
	for i, s := range p.Snapshots {
		if lowest := i == len(p.Snapshots)-1; lowest != (s.Base == 0) || !lowest && p.Snapshots[i+1].TXID != s.Base {
			t.Fatalf("%+v: the chain is broken at %v", p, s)
		}
	}
	at := from
	for _, s := range p.Segments {
		i := slices.Index(l.Segments, s)
		if s.First > at+1 || ends[i] <= at || at >= p.Target {
			t.Fatalf("%+v: %v comes after TXID %v", p, s, at)
		}
		at = ends[i]
	}
	if at < p.Target {
		t.Fatalf("%+v ends at TXID %v", p, at)
	}
}
