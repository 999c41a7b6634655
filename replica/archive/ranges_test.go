package archive_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// What lies behind a gap is not listed, and the error for it names what is.
func TestGap(t *testing.T) {
	t.Parallel()
	for gone, last := range map[state.TXID]state.TXID{2: 1, 8: 7, 9: 8} {
		h := tidal(t)
		h.drop(archive.SegmentKey(gone))
		a := h.open()
		if diff := cmp.Diff(span(last, 1), commits(t, a, archive.Query{})); diff != "" {
			t.Errorf("without the segment of TXID %v (-want +got):\n%s", gone, diff)
		}
		err := a.Check(t.Context(), 17)
		var r *archive.RangeError
		if !errors.As(err, &r) || r.After != nil || r.Before.TXID != last || !strings.Contains(err.Error(), "TXID 17 can't be restored, since commits up to it are missing; the nearest is TXID "+last.String()+" (") {
			t.Errorf("without the segment of TXID %v: %v", gone, err)
		}
		if err := a.Check(t.Context(), last); err != nil {
			t.Errorf("without the segment of TXID %v: %v", gone, err)
		}
	}
}

// A range, a gap and single snapshots are told apart.
func TestRangesTold(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	h.snapshot(4)
	h.snapshot(10)
	h.incremental(12, 10)
	h.drop(archive.SegmentKey(2), archive.SegmentKey(9))
	a := h.open()
	got, err := a.Ranges(t.Context())
	want := archive.Ranges{
		{FirstTXID: 1, LastTXID: 1, FirstTime: at(0), LastTime: at(0)},
		{FirstTXID: 4, LastTXID: 4, FirstTime: at(40), LastTime: at(40)},
		{FirstTXID: 10, LastTXID: 10, FirstTime: at(90), LastTime: at(90)},
		{FirstTXID: 12, LastTXID: 12, FirstTime: at(90), LastTime: at(90)},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("ranges (-want +got):\n%s%v", diff, err)
	}
	const singles = "single snapshots TXID 1 (2026-01-02T03:04:05.000Z), TXID 4 (2026-01-02T03:04:45.000Z), TXID 10 (2026-01-02T03:05:35.000Z), TXID 12 (2026-01-02T03:05:35.000Z)"
	if got.String() != singles {
		t.Errorf("told as %q", got)
	}
	h.snapshot(15)
	got, err = h.open().Ranges(t.Context())
	if err != nil || got.String() != "TXID 15 (2026-01-02T03:06:35.000Z) to TXID 20 (2026-01-02T03:07:25.000Z); "+singles {
		t.Errorf("told as %q, %v", got, err)
	}
	h.drop(archive.SnapshotKey(1, 0), archive.SnapshotKey(10, 0))
	a = h.open()
	got, err = a.Ranges(t.Context())
	if err != nil || got.String() != "TXID 15 (2026-01-02T03:06:35.000Z) to TXID 20 (2026-01-02T03:07:25.000Z); single snapshot TXID 4 (2026-01-02T03:04:45.000Z)" {
		t.Errorf("told as %q, %v", got, err)
	}
	_, _, err = a.At(t.Context(), at(41))
	if err == nil || err.Error() != "2026-01-02T03:04:46.000Z lies in a gap of what can be restored, between TXID 4 (2026-01-02T03:04:45.000Z) and TXID 15 (2026-01-02T03:06:35.000Z); restorable: "+got.String() {
		t.Errorf("between: %v", err)
	}
}

// Too many to name are counted.
func TestManyRanges(t *testing.T) {
	t.Parallel()
	var r archive.Ranges
	for id := state.TXID(1); id <= 100; id += 5 {
		r = append(r, archive.Range{FirstTXID: id, LastTXID: id, FirstTime: at(int(id)), LastTime: at(int(id))})
	}
	parts, all := r.Describe()
	want := []string{"20 single snapshots from TXID 1 (2026-01-02T03:04:06.000Z) to TXID 96 (2026-01-02T03:05:41.000Z)"}
	if diff := cmp.Diff(want, parts); diff != "" || all {
		t.Errorf("all named: %v (-want +got):\n%s", all, diff)
	}
	for i := range r {
		r[i].LastTXID++
	}
	parts, all = r.Describe()
	if len(parts) != 13 || parts[12] != "8 ranges more" || !strings.HasPrefix(parts[0], "TXID 1 (") || all {
		t.Errorf("all named: %v, %q", all, parts)
	}
	for _, few := range []archive.Ranges{r[:1], r[:12]} {
		if parts, all := few.Describe(); len(parts) != len(few) || !all {
			t.Errorf("all named: %v, %q", all, parts)
		}
	}
	if got := (archive.Ranges{}).String(); got != "nothing" {
		t.Errorf("nothing is %q", got)
	}
}

// The ends of a few segments are read, those of very many are not.
func TestUnpackedRanges(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 1)
	for range 300 {
		h.commits(1)
		h.segment()
	}
	for dropped, most := range []int64{10, 260} {
		if dropped > 0 {
			for id := state.TXID(2); id < 100; id++ {
				h.drop(archive.SegmentKey(id))
			}
			h.snapshot(100)
		}
		count := storage.Count(h.bucket)
		a, err := archive.Open(t.Context(), count)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Ranges(t.Context())
		if err != nil || r[len(r)-1].LastTXID != 301 {
			t.Errorf("%v, %v", r, err)
		}
		if n := count.Requests().Get; n > most {
			t.Errorf("%d requests, want at most %d", n, most)
		}
	}
}

// What is damaged is taken for missing, and told of.
func TestDamagedHistory(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	h.snapshot(9)
	h.incremental(12, 9)
	h.pack(9, 15)
	h.drop(archive.SegmentKey(9))
	for _, tc := range []struct {
		key  string
		want string // the TXIDs of the ranges
	}{
		{archive.SegmentKey(2), "1 1, 9 20"},
		{archive.SegmentKey(8), "1 7, 9 20"},
		{archive.SegmentKey(16), "1 15"},
		{archive.SnapshotKey(1, 0), "9 20"},
		{archive.SnapshotKey(9, 0), "1 20"}, // it is not looked at
	} {
		whole := object(t, h.bucket, tc.key)
		put(t, h.bucket, tc.key, []byte(whole[:60]))
		known, err := h.open().History(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range known.Ranges() {
			got = append(got, fmt.Sprint(r.FirstTXID, r.LastTXID))
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s cut: ranges (-want +got):\n%s", tc.key, diff)
		}
		damaged := known.Damaged()
		if looked := tc.key != archive.SnapshotKey(9, 0); looked != (len(damaged) == 1) || looked && !strings.Contains(damaged[0].Error(), tc.key) {
			t.Errorf("%s cut: damaged %v", tc.key, damaged)
		}
		if err := known.Commits(t.Context(), archive.Query{}, func(archive.Commit) error { return nil }); err != nil {
			t.Errorf("%s cut: %v", tc.key, err)
		}
		put(t, h.bucket, tc.key, []byte(whole))
	}
	// At the end of what can be restored a pack is looked at, too.
	h.drop(archive.SegmentKey(16))
	put(t, h.bucket, pack(9, 15), []byte("damaged"))
	known, err := h.open().History(t.Context())
	if err != nil || known.Ranges().String() != "TXID 1 (2026-01-02T03:04:05.000Z) to TXID 9 (2026-01-02T03:05:35.000Z); single snapshot TXID 12 (2026-01-02T03:05:35.000Z)" {
		t.Errorf("ranges %v, %v", known.Ranges(), err)
	}
	for _, key := range []string{archive.SnapshotKey(1, 0), archive.SnapshotKey(9, 0)} {
		put(t, h.bucket, key, nil)
	}
	h.drop(archive.SnapshotKey(12, 9))
	if _, err := h.open().History(t.Context()); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("nothing is left: %v", err)
	}
}
