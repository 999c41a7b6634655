package archive_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// keysOf are the keys of segments, in order.
func keysOf(segs []archive.Segment) (keys []string) {
	for _, s := range segs {
		keys = append(keys, s.Key())
	}
	return keys
}

// seg and pack are keys.
func seg(first state.TXID) string        { return archive.SegmentKey(first) }
func pack(first, last state.TXID) string { return archive.PackKey(first, last) }

// The log as it is read has packs in place of what they cover, whatever of that
// is still there.
func TestListing(t *testing.T) {
	t.Parallel()
	type keys = []string
	for name, tc := range map[string]struct {
		keys         keys
		log, covered keys
	}{
		"segments":                  {keys{seg(2), seg(5), seg(9)}, keys{seg(2), seg(5), seg(9)}, nil},
		"packed, nothing deleted":   {keys{seg(2), seg(5), seg(9), pack(2, 8)}, keys{pack(2, 8), seg(9)}, keys{seg(2), seg(5)}},
		"packed, some deleted":      {keys{seg(5), seg(9), pack(2, 8)}, keys{pack(2, 8), seg(9)}, keys{seg(5)}},
		"packed, all deleted":       {keys{seg(9), pack(2, 8)}, keys{pack(2, 8), seg(9)}, nil},
		"the last commit":           {keys{seg(8), seg(9), pack(2, 8)}, keys{pack(2, 8), seg(9)}, keys{seg(8)}},
		"everything":                {keys{seg(2), seg(5), pack(2, 8)}, keys{pack(2, 8)}, keys{seg(2), seg(5)}},
		"packs":                     {keys{seg(21), pack(2, 8), pack(9, 20)}, keys{pack(2, 8), pack(9, 20), seg(21)}, nil},
		"a pack of packs":           {keys{pack(2, 8), pack(9, 20), pack(2, 20), seg(21)}, keys{pack(2, 20), seg(21)}, keys{pack(2, 8), pack(9, 20)}},
		"packs and what they hold":  {keys{seg(2), seg(5), seg(9), pack(2, 8), pack(9, 20), pack(2, 20)}, keys{pack(2, 20)}, keys{pack(2, 8), seg(2), seg(5), pack(9, 20), seg(9)}},
		"a pack in a pack":          {keys{pack(2, 30), pack(9, 20)}, keys{pack(2, 30)}, keys{pack(9, 20)}},
		"a pack that ends with one": {keys{pack(2, 20), pack(9, 20)}, keys{pack(2, 20)}, keys{pack(9, 20)}},
		"overlapping packs":         {keys{pack(2, 20), pack(9, 30), seg(15), seg(25), seg(31)}, keys{pack(2, 20), pack(9, 30), seg(31)}, keys{seg(15), seg(25)}},
		"a pack in two":             {keys{pack(2, 20), pack(9, 30), pack(15, 25)}, keys{pack(2, 20), pack(9, 30)}, keys{pack(15, 25)}},
		"of one commit":             {keys{seg(2), pack(2, 2), seg(3)}, keys{pack(2, 2), seg(3)}, keys{seg(2)}},
		"a gap before a pack":       {keys{seg(2), pack(9, 20)}, keys{seg(2), pack(9, 20)}, nil},
		"a gap after a pack":        {keys{pack(2, 8), seg(20)}, keys{pack(2, 8), seg(20)}, nil},
		"keys of others": {keys{
			seg(2), "pack/readme", "pack/0000000000000002.seg", "pack/0000000000000009-0000000000000008.seg", "pack/0000000000000000-0000000000000008.seg",
			"pack/0000000000000003-0000000000000008.seg.tmp", "pack/sub/0000000000000003-0000000000000008.seg", "pack/0000000000000003-000000000000000A.seg",
			"pack/0000000000000003-0000000000000008", "packs/0000000000000003-0000000000000008.seg", "log/0000000000000003-0000000000000008.seg",
			"pack/0000000000000003-0000000000000008-0000000000000009.seg",
		}, keys{seg(2)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := listing(t.Context(), tc.keys)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(tc.log, keysOf(l.Segments)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(tc.covered, keysOf(l.Covered)); diff != "" {
				t.Errorf("covered (-want +got):\n%s", diff)
			}
		})
	}
}

// bounds are the first and the last commit of an object.
type bounds struct {
	first, last state.TXID
	pack        bool
}

func (b bounds) key() string {
	if b.pack {
		return pack(b.first, b.last)
	}
	return seg(b.first)
}

func (b bounds) in(o bounds) bool { return o.pack && o.first <= b.first && b.last <= o.last && b != o }

// drawLog draws a log of segments, with packs of which some lie in others and
// some overlap, and of which some objects that others hold are gone.
func drawLog(t *rapid.T) (log []bounds, last state.TXID) {
	var segs []bounds
	next := state.TXID(rapid.IntRange(1, 300).Draw(t, "first"))
	for range rapid.IntRange(1, 20).Draw(t, "segments") {
		n := state.TXID(rapid.IntRange(1, 20).Draw(t, "commits"))
		segs = append(segs, bounds{next, next + n - 1, false})
		next += n
	}
	all := slices.Clone(segs)
	for range rapid.IntRange(0, 6).Draw(t, "packs") {
		from := rapid.IntRange(0, len(segs)-1).Draw(t, "from")
		to := rapid.IntRange(from, len(segs)-1).Draw(t, "to")
		all = append(all, bounds{segs[from].first, segs[to].last, true})
	}
	for _, b := range all {
		held := slices.ContainsFunc(all, b.in)
		if !slices.Contains(log, b) && (!held || rapid.Bool().Draw(t, "kept")) {
			log = append(log, b)
		}
	}
	return log, next - 1
}

// Whatever packs there are, the log as it is read holds every commit, in order,
// and what it leaves out is in one pack of it.
func TestListingHoldsAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		objects, last := drawLog(rt)
		known := map[string]bounds{}
		keys := []string{"pack/none.seg", "log/none", "readme"}
		for _, b := range objects {
			known[b.key()] = b
			keys = append(keys, b.key())
		}
		l, err := listing(t.Context(), keys)
		if err != nil {
			rt.Fatal(err)
		}
		if len(l.Segments)+len(l.Covered) != len(known) {
			rt.Fatalf("%d objects are listed as %v and %v", len(known), keysOf(l.Segments), keysOf(l.Covered))
		}
		var log []bounds
		for _, s := range l.Segments {
			log = append(log, known[s.Key()])
		}
		if !slices.IsSortedFunc(log, func(a, b bounds) int { return cmp.Compare(a.first, b.first) }) {
			rt.Errorf("%v are out of order", log)
		}
		next := objects[0].first
		for _, b := range log {
			next = min(next, b.first)
		}
		for _, b := range log {
			if b.first > next || b.last < next {
				rt.Errorf("after TXID %v comes %v, in %v", next-1, b, log)
			}
			next = b.last + 1
			if slices.ContainsFunc(log, b.in) {
				rt.Errorf("%v is in another one of %v", b, log)
			}
		}
		if next != last+1 {
			rt.Errorf("%v ends at TXID %v, not %v", log, next-1, last)
		}
		for _, s := range l.Covered {
			if !slices.ContainsFunc(log, known[s.Key()].in) {
				rt.Errorf("%v is in none of %v", s, log)
			}
		}
	})
}

// A pack holds what its key says, or is not used.
func TestWrongPack(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	joined, single := h.encode(2, 8), []byte(object(t, h.bucket, seg(2))) // up to TXID 7
	for _, tc := range []struct {
		first, last state.TXID
		content     []byte
		right       bool
	}{
		{2, 8, joined, true},
		{2, 9, joined, false},
		{2, 7, joined, false},
		{1, 8, joined, false},
		{3, 8, joined, false},
		{2, 7, single, true},
		{2, 8, single, false},
		{2, 8, tidal(t).encode(2, 8), false}, // another replica's
	} {
		key := pack(tc.first, tc.last)
		put(t, h.bucket, key, tc.content)
		a := h.open()
		log := a.Listing().Segments
		i := slices.IndexFunc(log, func(s archive.Segment) bool { return s.Key() == key })
		if i < 0 {
			t.Errorf("%s is not in %v", key, keysOf(log))
			continue
		}
		_, x, err := a.Index(t.Context(), log[i])
		if tc.right && (err != nil || x.Trailer.Last != tc.last) || !tc.right && !isBroken(err, key) {
			t.Errorf("%s: %v", key, err)
		}
		h.drop(key)
	}
}

// What packing leaves of a day of a segment a second is listed in one page, an
// hour of segments that are still to be deleted included in five.
func TestListingPages(t *testing.T) {
	t.Parallel()
	var keys []string
	next := state.TXID(2)
	packs := func(n int, commits state.TXID) {
		for range n {
			keys = append(keys, pack(next, next+commits-1))
			next += commits
		}
	}
	packs(21, 4096)
	packs(63, 64)
	for range 71 {
		keys = append(keys, seg(next))
		next++
	}
	l, err := listing(t.Context(), keys)
	if err != nil || len(l.Segments) != 155 || len(l.Covered) != 0 {
		t.Errorf("%d objects and %d to be deleted, %v", len(l.Segments), len(l.Covered), err)
	}
	for id := next - 72; id > next-72-3600; id-- { // put again what the last hour packed
		keys = append(keys, seg(id))
	}
	for end := next - 72 - 63*64; end > next-72-63*64-3600; end -= 64 {
		keys = append(keys, pack(end-63, end))
	}
	l, err = listing(t.Context(), keys)
	if err != nil || len(l.Segments) != 155 || len(l.Covered) < 3600 {
		t.Errorf("%d objects and %d to be deleted, %v", len(l.Segments), len(l.Covered), err)
	}
	const page = 1000 // keys, in S3
	n := len(l.Segments) + len(l.Covered) + 2
	t.Logf("%d keys are listed in %s", n, fmt.Sprint((n+page-1)/page, " requests"))
	if n > 20*page {
		t.Errorf("%d keys", n)
	}
}
