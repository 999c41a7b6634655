package archive_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epoch is the time of TXID 1; a commit comes every second.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func at(seconds int) time.Time { return epoch().Add(time.Duration(seconds) * time.Second) }

// pages is a database: page n is at n-1.
type pages [][]byte

func (p pages) ReadPages(first wal.PageNo, buf []byte) error {
	for i := int(first) - 1; len(buf) > 0; i++ {
		buf = buf[copy(buf, p[i]):]
	}
	return nil
}

func (p pages) table(size wal.PageSize) *state.Table {
	t := state.NewTable(size)
	for i, page := range p {
		t.Set(wal.PageNo(i+1), state.SumPage(wal.PageNo(i+1), page))
	}
	return t
}

// history is a replica that is being made up, and all its states.
type history struct {
	t      *testing.T
	bucket storage.Bucket
	arch   *archive.Archive
	size   wal.PageSize
	rng    *rand.Rand
	states []pages // at TXID - 1
	times  []time.Time
	stored state.TXID // the last commit that is in a segment
}

// begin makes a replica whose first snapshot is of TXID 1.
func begin(t *testing.T, size wal.PageSize, n int) *history {
	t.Helper()
	h := bare(t, size, n)
	h.snapshot(1)
	return h
}

// bare makes one without its first snapshot.
func bare(t *testing.T, size wal.PageSize, n int) *history {
	t.Helper()
	h := &history{t: t, bucket: mem.New(), size: size, rng: rand.New(rand.NewPCG(uint64(n), uint64(size))), stored: 1}
	a, err := archive.Create(t.Context(), h.bucket, size, epoch())
	if err != nil {
		t.Fatal(err)
	}
	h.arch = a
	first := make(pages, n)
	for i := range first {
		first[i] = h.page()
	}
	h.states, h.times = []pages{first}, []time.Time{epoch()}
	return h
}

// page is half noise, half zeros.
func (h *history) page() []byte {
	b := make([]byte, h.size)
	for i := range b[:len(b)/2] {
		b[i] = byte(h.rng.Uint32())
	}
	return b
}

func (h *history) last() state.TXID { return state.TXID(len(h.states)) }

// commit makes a commit a second after the one before it, which leaves n pages.
func (h *history) commit(n int) {
	h.commitAt(n, h.times[len(h.times)-1].Add(time.Second))
}

func (h *history) commitAt(n int, when time.Time) {
	was := h.states[len(h.states)-1]
	now := make(pages, n)
	for i := range now {
		switch {
		case i >= len(was) || h.rng.IntN(4) == 0:
			now[i] = h.page()
		default:
			now[i] = was[i]
		}
	}
	h.states, h.times = append(h.states, now), append(h.times, when)
}

// commits makes some that change pages only.
func (h *history) commits(n int) {
	for range n {
		h.commit(len(h.states[len(h.states)-1]))
	}
}

// segment puts the commits since the last segment into one.
func (h *history) segment() { h.t.Helper(); h.segmentUpTo(h.last()) }

func (h *history) segmentUpTo(last state.TXID) {
	h.t.Helper()
	first := h.stored + 1
	if err := h.arch.PutSegment(h.t.Context(), first, body(h.encode(first, last))); err != nil {
		h.t.Fatal(err)
	}
	h.stored = last
}

// file writes a segment to a file.
func (h *history) file(first, last state.TXID) string {
	h.t.Helper()
	return file(h.t, h.encode(first, last))
}

// encode makes a segment.
func (h *history) encode(first, last state.TXID) []byte {
	h.t.Helper()
	var b bytes.Buffer
	was := h.states[first-2].table(h.size)
	w := segment.NewWriter(&b, segment.Header{
		PageSize: h.size, Replica: h.arch.Meta().Replica, First: first,
		Before: was.Checksum(), PagesBefore: was.Len(), Time: h.times[first-1],
	})
	for id := first; id <= last; id++ {
		h.write(w, id)
	}
	if _, err := w.Close(h.states[last-1].table(h.size).At); err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes()
}

func (h *history) write(w *segment.Writer, id state.TXID) {
	h.t.Helper()
	was, now := h.states[id-2], h.states[id-1]
	for i, page := range now {
		var err error
		switch {
		case i >= len(was):
			err = w.Full(wal.PageNo(i+1), page)
		case &was[i][0] != &page[0]:
			err = w.Delta(wal.PageNo(i+1), page, was[i])
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	_, err := w.Commit(segment.Commit{Time: h.times[id-1], Pages: uint32(len(now)), After: now.table(h.size).Checksum()})
	if err != nil {
		h.t.Fatal(err)
	}
}

// snapshot puts a full snapshot of a commit.
func (h *history) snapshot(id state.TXID) {
	h.t.Helper()
	p := h.states[id-1]
	head := snapshot.Header{PageSize: h.size, TXID: id, Pages: uint32(len(p)), Time: h.times[id-1].UnixMilli()}
	if _, err := h.arch.PutSnapshot(h.t.Context(), head, p, snapshot.WriteOptions{Workers: 1}); err != nil {
		h.t.Fatal(err)
	}
}

// open opens the replica as it is now.
func (h *history) open() *archive.Archive {
	h.t.Helper()
	a, err := archive.Open(h.t.Context(), h.bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// put replaces an object.
func put(t *testing.T, b storage.Bucket, key string, content []byte) {
	t.Helper()
	if err := b.Put(t.Context(), key, bytes.NewReader(content), storage.PutOptions{Size: -1}); err != nil {
		t.Fatal(err)
	}
}

// body gives bytes, to be put.
func body(b []byte) archive.Body {
	return archive.Body{Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// fileBody gives a file's bytes, to be put.
func fileBody(path string) archive.Body {
	var size int64
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	}
	return archive.Body{Size: size, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}
