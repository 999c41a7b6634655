package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// A replica tells the same before, while and after it is packed, and its packs
// are packed.
func TestPacked(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	h.snapshot(11)
	h.incremental(14, 11)
	before := h.open()
	var want []archive.Commit
	list := func(a *archive.Archive) (all []archive.Commit) {
		err := a.Commits(t.Context(), archive.Query{}, func(c archive.Commit) error { all = append(all, c); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	want = list(before)
	ranges, err := before.Ranges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type moment struct {
		id     state.TXID
		after  bool
		exists bool
	}
	moments := func(a *archive.Archive) (all []moment) {
		for second := -10; second < 220; second += 5 {
			id, after, err := a.At(t.Context(), at(second))
			all = append(all, moment{id, after, err == nil})
		}
		return all
	}
	times := moments(before)
	check := func(log ...string) {
		t.Helper()
		a := h.open()
		if diff := cmp.Diff(log, keysOf(a.Listing().Segments)); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		// What a commit takes depends on what it is compressed with.
		if diff := cmp.Diff(want, list(a), cmpopts.IgnoreFields(archive.Commit{}, "Bytes")); diff != "" {
			t.Errorf("commits (-before +after):\n%s", diff)
		}
		got, err := a.Ranges(t.Context())
		if diff := cmp.Diff(ranges, got); diff != "" || err != nil {
			t.Errorf("ranges (-before +after):\n%s%v", diff, err)
		}
		if diff := cmp.Diff(times, moments(a), cmp.AllowUnexported(moment{})); diff != "" {
			t.Errorf("commits at times (-before +after):\n%s", diff)
		}
	}
	h.pack(2, 7) // of one segment
	check(pack(2, 7), seg(8), seg(9), seg(16))
	h.pack(8, 15)
	check(pack(2, 7), pack(8, 15), seg(16))
	h.drop(seg(8))
	check(pack(2, 7), pack(8, 15), seg(16))
	h.pack(2, 15)
	check(pack(2, 15), seg(16))
	h.sweep()
	check(pack(2, 15), seg(16))
}

// The newest state is found whatever it lies in, and what was put there is
// recognised as long as it is there.
func TestPackedHead(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	segment := func(first state.TXID) uint64 {
		for _, s := range h.open().Listing().Segments {
			if s.First == first {
				_, x, err := h.open().Index(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				return x.Trailer.Sum()
			}
		}
		t.Fatalf("no segment begins at TXID %v", first)
		return 0
	}
	held := func(first, last state.TXID, sum uint64) bool {
		t.Helper()
		ok, err := h.open().HoldsSegment(t.Context(), first, last, sum)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	first, newest := segment(2), segment(16)
	if !held(2, 7, first) || !held(16, 20, newest) || held(16, 19, newest) || held(16, 20, newest+1) || held(17, 20, newest) {
		t.Error("the segments are not told from others")
	}
	h.pack(2, 15)
	if held(2, 7, first) || !held(16, 20, newest) || h.open().Newest() != 16 {
		t.Error("a packed segment counts, or the newest does not")
	}
	want := h.states[19].table(h.size)
	head := func(first state.TXID, sum uint64) {
		t.Helper()
		got, err := h.open().Head(t.Context())
		if err != nil || got.Last != 20 || got.First != first || got.Sum != sum || got.Checksum != want.Checksum() ||
			got.Pages != want.Len() || got.Commit.TXID != 20 || !got.Commit.Time.Equal(at(200)) {
			t.Errorf("head %+v, %v", got, err)
		}
	}
	head(16, newest)
	h.pack(2, 20) // which packing does not do
	h.sweep()
	head(2, segment(2))
	if got := h.open().Newest(); got != 2 || !held(2, 20, segment(2)) {
		t.Errorf("the newest begins at TXID %v", got)
	}
	h.incremental(20, 1)
	h.drop(pack(2, 20))
	head(0, uint64(at(200).UnixMilli()))
	for id, time := range map[state.TXID]int64{1: epoch().UnixMilli(), 20: at(200).UnixMilli(), 19: at(200).UnixMilli()} {
		if ok, err := h.open().HoldsSnapshot(t.Context(), id, time); err != nil || ok != (id != 19) {
			t.Errorf("snapshot of TXID %v: %v, %v", id, ok, err)
		}
	}
	if ok, err := h.open().HoldsSnapshot(t.Context(), 20, at(199).UnixMilli()); ok || err != nil {
		t.Errorf("a snapshot of another time: %v, %v", ok, err)
	}
}

// Page sums of a state in the midst of a pack can be rolled forward over it,
// while the database grows, shrinks and grows again, but not up to one.
func TestTableInPack(t *testing.T) {
	t.Parallel()
	for name, lengths := range map[string][]int{
		"shrinks and grows":      {8, 3, 9, 9, 2, 2, 12},
		"grows and shrinks":      {8, 14, 14, 3, 3},
		"shrinks to the end":     {12, 10, 7, 5, 2},
		"grows to the end":       {2, 3, 5, 9, 14},
		"comes back as it was":   {8, 2, 8, 2, 8},
		"is one page for long":   {8, 1, 1, 1, 8},
		"shrinks below the base": {5, 9, 1, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := begin(t, 512, 6)
			for _, n := range lengths {
				h.commit(n)
			}
			last := h.last()
			h.segment()
			h.commit(4)
			h.segment()
			h.pack(2, last)
			h.sweep()
			a := h.open()
			for from := state.TXID(1); from <= last; from++ {
				for _, to := range []state.TXID{last, last + 1, 0} {
					end := to
					if to == 0 {
						end = last + 1
					}
					want := h.states[end-1].table(h.size)
					got, err := a.Table(t.Context(), from, h.states[from-1].table(h.size), to)
					if err != nil || got.Checksum() != want.Checksum() || got.Len() != want.Len() {
						t.Errorf("from %v to %v: %v", from, to, err)
					}
				}
				for to := from + 1; to < last; to++ {
					if _, err := a.Table(t.Context(), from, h.states[from-1].table(h.size), to); !errors.Is(err, archive.ErrInside) {
						t.Errorf("from %v to %v, in the pack: %v", from, to, err)
					}
				}
			}
			// Page sums that are not what they are said to be show afterwards,
			// if they are not replaced.
			for from := state.TXID(1); from < last; from++ {
				wrong := h.states[from-1].table(h.size)
				wrong.Set(1, wrong.At(1)+1)
				got, err := a.Table(t.Context(), from, wrong, last)
				if err == nil && got.Checksum() != h.states[last-1].table(h.size).Checksum() || err != nil && !errors.Is(err, archive.ErrBroken) || from == 1 && err == nil {
					t.Errorf("from wrong sums of %v: %v", from, err)
				}
			}
		})
	}
}

// The newest snapshot has all page sums, whatever it adds to; one that can't be
// read is passed over.
func TestTableSnapshot(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	h.incremental(11, 1)
	h.incremental(18, 11)
	h.pack(2, 15)
	h.drop(archive.SnapshotKey(1, 0))
	want := h.states[19].table(h.size).Checksum()
	newest := func() (state.Checksum, error) {
		got, err := h.open().Table(t.Context(), 0, nil, 0)
		if err != nil {
			return 0, err
		}
		return got.Checksum(), nil
	}
	for _, key := range []string{"", archive.SnapshotKey(18, 11), archive.SnapshotKey(11, 1)} {
		if key != "" {
			put(t, h.bucket, key, []byte(object(t, h.bucket, key)[:100]))
		}
		got, err := newest()
		if last := key == archive.SnapshotKey(11, 1); last != (err != nil) || !last && got != want {
			t.Errorf("with %q cut: %v", key, err)
		}
	}
}

// A pack of very many commits is listed in windows: all of it, in part, and from
// a time on.
func TestLongPack(t *testing.T) {
	t.Parallel()
	const last = 300_001
	h := begin(t, 512, 1)
	var b bytes.Buffer
	was := h.states[0].table(h.size)
	w := segment.NewWriter(&b, segment.Header{
		PageSize: h.size, Replica: h.arch.Meta().Replica, First: 2, Before: was.Checksum(), PagesBefore: 1, Time: at(1),
	})
	for id := 2; id <= last; id++ {
		if _, err := w.Commit(segment.Commit{Time: at(id - 1), Pages: 1, After: was.Checksum()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(was.At); err != nil {
		t.Fatal(err)
	}
	put(t, h.bucket, pack(2, last), b.Bytes())
	a := h.open()
	for name, tc := range map[string]struct {
		q            archive.Query
		newest, most state.TXID
	}{
		"all":       {archive.Query{}, last, last},
		"a few":     {archive.Query{Limit: 10}, last, 10},
		"more":      {archive.Query{Limit: 200_000}, last, 200_000},
		"until":     {archive.Query{Until: at(4_999)}, 5_000, 5_000},
		"since":     {archive.Query{Since: at(299_000)}, last, 1001},
		"in it":     {archive.Query{Since: at(100_000), Until: at(170_000)}, 170_001, 70_001},
		"all of it": {archive.Query{Limit: last}, last, last},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, next := state.TXID(0), tc.newest
			err := a.Commits(t.Context(), tc.q, func(c archive.Commit) error {
				if c.TXID != next || !c.Time.Equal(at(int(next)-1)) {
					return fmt.Errorf("%+v, want TXID %v", c, next)
				}
				n, next = n+1, next-1
				return nil
			})
			if err != nil || n != tc.most {
				t.Errorf("%d commits: %v", n, err)
			}
		})
	}
}

// Packs that overlap, as two packers make them, are read as one history.
func TestOverlappingPacks(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	h.commits(29)
	for _, p := range [][2]state.TXID{{2, 12}, {9, 20}, {18, 30}} {
		put(t, h.bucket, pack(p[0], p[1]), h.encode(p[0], p[1]))
	}
	a := h.open()
	for _, q := range []archive.Query{{}, {Limit: 15}, {Until: at(24)}, {Until: at(15)}, {Since: at(10)}} {
		want := span(30, 1)
		if !q.Until.IsZero() {
			want = span(state.TXID(q.Until.Sub(epoch()).Seconds())+1, 1)
		}
		if !q.Since.IsZero() {
			want = span(30, state.TXID(q.Since.Sub(epoch()).Seconds())+1)
		}
		if q.Limit > 0 {
			want = want[:q.Limit]
		}
		if diff := cmp.Diff(want, commits(t, a, q)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", q, diff)
		}
	}
	for id := state.TXID(1); id <= 30; id++ {
		got, _, err := a.At(t.Context(), at(int(id)-1))
		if err != nil || got != id {
			t.Errorf("at TXID %v: %v, %v", id, got, err)
		}
	}
	got, err := a.Table(t.Context(), 0, nil, 0)
	if err != nil || got.Checksum() != h.states[29].table(h.size).Checksum() {
		t.Errorf("page sums: %v", err)
	}
}
