package restore_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
	"tidemark/wal/segment"
)

const (
	tidePages = 61
	tideSize  = wal.PageSize(512)
)

// tide is a long history of which any state can be told without the others: each
// commit changes one page, one after the other, and comes every 10 ms.
type tide struct {
	t      *testing.T
	bucket storage.Bucket
	arch   *archive.Archive
	table  *state.Table
	last   state.TXID
}

func newTide(t *testing.T, b storage.Bucket) *tide {
	t.Helper()
	a, err := archive.Create(t.Context(), b, tideSize, epoch())
	if err != nil {
		t.Fatal(err)
	}
	h := &tide{t: t, bucket: b, arch: a, last: 1}
	first := h.state(1)
	h.table = first.table(tideSize)
	h.snapshot(1)
	return h
}

// when is a commit's time.
func (*tide) when(id state.TXID) time.Time {
	return epoch().Add(10 * time.Millisecond * time.Duration(id-1))
}

// changes is the page that a commit changes.
func (*tide) changes(id state.TXID) wal.PageNo { return wal.PageNo(id%tidePages) + 1 }

// page is what a commit makes of its page.
func (*tide) page(no wal.PageNo, id state.TXID) []byte {
	b := bytes.Repeat([]byte{byte(no)}, int(tideSize))
	binary.BigEndian.PutUint64(b[8*(id%16):], uint64(id))
	return b
}

// state is the database after a commit.
func (h *tide) state(id state.TXID) pages {
	all := make(pages, tidePages)
	for i := range all {
		all[i] = h.page(wal.PageNo(i+1), 1)
	}
	for back := range min(id-1, tidePages) {
		no := h.changes(id - back)
		all[no-1] = h.page(no, id-back)
	}
	return all
}

// segment makes a segment of the next commits.
func (h *tide) segment(commits int) []byte {
	h.t.Helper()
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{
		PageSize: tideSize, Replica: h.arch.Meta().Replica, First: h.last + 1,
		Before: h.table.Checksum(), PagesBefore: tidePages, Time: h.when(h.last + 1),
	})
	for range commits {
		h.last++
		no := h.changes(h.last)
		was := state.TXID(1)
		if h.last > tidePages {
			was = h.last - tidePages
		}
		now := h.page(no, h.last)
		if err := w.Delta(no, now, h.page(no, was)); err != nil {
			h.t.Fatal(err)
		}
		h.table.Set(no, state.SumPage(no, now))
		if _, err := w.Commit(segment.Commit{Time: h.when(h.last), Pages: tidePages, After: h.table.Checksum()}); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := w.Close(h.table.At); err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes()
}

// put puts the next commits as one segment.
func (h *tide) put(commits int) {
	h.t.Helper()
	first := h.last + 1
	if err := h.arch.PutSegment(h.t.Context(), first, body(h.segment(commits))); err != nil {
		h.t.Fatal(err)
	}
}

// pack puts the next commits as what packing makes of some segments.
func (h *tide) pack(segments, commits int) {
	h.t.Helper()
	first := h.last + 1
	b := h.segment(segments * commits)
	err := h.bucket.Put(h.t.Context(), archive.PackKey(first, h.last), bytes.NewReader(b), storage.PutOptions{IfAbsent: true, Size: int64(len(b))})
	if err != nil {
		h.t.Fatal(err)
	}
}

// snapshot puts a full snapshot of the last commit.
func (h *tide) snapshot(id state.TXID) {
	h.t.Helper()
	head := snapshot.Header{PageSize: tideSize, TXID: id, Pages: tidePages, Time: h.when(id).UnixMilli()}
	if _, err := h.arch.PutSnapshot(h.t.Context(), head, h.state(id), snapshot.WriteOptions{Workers: 1}); err != nil {
		h.t.Fatal(err)
	}
}

// day puts what packing leaves of a day and more of a segment a second: 21 packs of
// packs, 63 packs and 71 segments.
func (h *tide) day(commits int) {
	h.t.Helper()
	for range 21 {
		h.pack(4096, commits)
	}
	for range 63 {
		h.pack(64, commits)
	}
	for range 71 {
		h.put(commits)
	}
}
