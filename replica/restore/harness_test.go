package restore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
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
	// implicit leaves out frames of pages that a commit adds and that are
	// zeros, noise makes pages that don't compress.
	implicit, noise bool
	// wrong is a commit whose state checksum is recorded as another one.
	wrong state.TXID
	// damaged is how many snapshots a restore is to do without; 0: it must not.
	damaged int
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

// page is half noise, half zeros, or all noise.
func (h *history) page() []byte {
	b := make([]byte, h.size)
	n := len(b) / 2
	if h.noise {
		n = len(b)
	}
	for i := 0; i < n; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], h.rng.Uint64())
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

// fresh makes every page of the last commit a new one.
func (h *history) fresh() {
	now := h.states[len(h.states)-1]
	for i := range now {
		now[i] = h.page()
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
	path := filepath.Join(h.t.TempDir(), first.Hex())
	if err := os.WriteFile(path, h.encode(first, last), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
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
		case i >= len(was) && h.implicit && bytes.Equal(page, make([]byte, h.size)):
		case i >= len(was):
			err = w.Full(wal.PageNo(i+1), page)
		case &was[i][0] != &page[0]:
			err = w.Delta(wal.PageNo(i+1), page, was[i])
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	c := segment.Commit{Time: h.times[id-1], Pages: uint32(len(now)), After: now.table(h.size).Checksum()}
	if id == h.wrong {
		c.After++
	}
	_, err := w.Commit(c)
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

// incremental puts a snapshot of a commit that adds to that of another.
func (h *history) incremental(id, base state.TXID) {
	h.t.Helper()
	was, now := h.states[base-1], h.states[id-1]
	changes := &snapshot.Changes{Base: was.table(h.size)}
	zeros := make([]byte, h.size)
	for i, page := range now {
		if i < len(was) && bytes.Equal(was[i], page) || i >= len(was) && h.implicit && bytes.Equal(page, zeros) {
			continue
		}
		if n := len(changes.Runs); n > 0 && changes.Runs[n-1].First+wal.PageNo(changes.Runs[n-1].Pages) == wal.PageNo(i+1) {
			changes.Runs[n-1].Pages++
			continue
		}
		changes.Runs = append(changes.Runs, snapshot.Run{First: wal.PageNo(i + 1), Pages: 1})
	}
	head := snapshot.Header{PageSize: h.size, TXID: id, Base: base, Pages: uint32(len(now)), Time: h.times[id-1].UnixMilli()}
	if _, err := h.arch.PutSnapshot(h.t.Context(), head, now, snapshot.WriteOptions{Changes: changes, Workers: 1}); err != nil {
		h.t.Fatal(err)
	}
}

// pack joins the segments and packs that hold the commits from first to last,
// and deletes them.
func (h *history) pack(first, last state.TXID) {
	h.t.Helper()
	var b bytes.Buffer
	var w *segment.Writer
	a, err := archive.Open(h.t.Context(), h.bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range a.Listing().Segments {
		if s.First < first || s.First > last {
			continue
		}
		r, err := segment.NewReader(bytes.NewReader(h.object(s.Key())), s.Size)
		if err != nil {
			h.t.Fatal(err)
		}
		if w == nil {
			w = segment.NewWriter(&b, r.Header())
		}
		for rec, err := r.Next(); err != io.EOF; rec, err = r.Next() { //nolint:errorlint // bare by contract
			if err = errors.Join(err, w.Copy(rec)); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	if w == nil || w.Header().First != first || w.Last() != last {
		h.t.Fatalf("no segments from TXID %v to %v", first, last)
	}
	if _, err := w.Close(h.states[last-1].table(h.size).At); err != nil {
		h.t.Fatal(err)
	}
	h.put(archive.PackKey(first, last), b.Bytes())
	if a, err = archive.Open(h.t.Context(), h.bucket); err != nil {
		h.t.Fatal(err)
	}
	for _, s := range a.Listing().Covered {
		h.drop(s.Key())
	}
}

func (h *history) drop(keys ...string) {
	h.t.Helper()
	for _, key := range keys {
		if err := h.bucket.Delete(h.t.Context(), key); err != nil {
			h.t.Fatal(err)
		}
	}
}

// copied is the same history in a bucket of its own.
func (h *history) copied() *history {
	h.t.Helper()
	c := *h
	c.bucket = h.with("", nil)
	a, err := archive.Open(h.t.Context(), c.bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	c.arch = a
	return &c
}

// put replaces an object.
func (h *history) put(key string, content []byte) {
	h.t.Helper()
	if err := h.bucket.Put(h.t.Context(), key, bytes.NewReader(content), storage.PutOptions{Size: -1}); err != nil {
		h.t.Fatal(err)
	}
}

// object gives one's content.
func (h *history) object(key string) []byte {
	h.t.Helper()
	r, err := h.bucket.Get(h.t.Context(), key, 0, -1)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// keys lists the objects.
func (h *history) keys() (keys []string) {
	h.t.Helper()
	err := h.bucket.List(h.t.Context(), "", "", func(o storage.Info) error { keys = append(keys, o.Key); return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return keys
}

// with gives a copy of the replica with one object replaced, or, without
// content, deleted.
func (h *history) with(key string, content []byte) storage.Bucket {
	h.t.Helper()
	c := &history{t: h.t, bucket: mem.New()}
	for _, k := range h.keys() {
		switch {
		case k != key:
			c.put(k, h.object(k))
		case content != nil:
			c.put(k, content)
		}
	}
	return c.bucket
}

// want is the file that a commit is restored to.
func (h *history) want(id state.TXID) []byte { return bytes.Join(h.states[id-1], nil) }

// options restore a bucket's newest commit to a new folder.
func options(t *testing.T, b storage.Bucket) restore.Options {
	t.Helper()
	return restore.Options{Bucket: b, Output: filepath.Join(t.TempDir(), "out.db"), Logger: slog.New(slog.DiscardHandler)}
}

// check restores a commit and compares every byte.
func (h *history) check(id state.TXID) restore.Result {
	h.t.Helper()
	opts := options(h.t, h.bucket)
	opts.Target.TXID, opts.WithoutDamaged = id, h.damaged > 0
	res, err := restore.Run(h.t.Context(), opts)
	if err != nil {
		h.t.Fatalf("TXID %v: %v", id, err)
	}
	h.compare(id, res)
	return res
}

// compare checks a result.
func (h *history) compare(id state.TXID, res restore.Result) {
	h.t.Helper()
	got, err := os.ReadFile(res.Output)
	if err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Equal(got, h.want(id)) {
		h.t.Errorf("TXID %v: the file is not the state", id)
	}
	if res.TXID != id || !res.Time.Equal(h.times[id-1]) || int(res.Pages) != len(h.states[id-1]) ||
		res.Bytes != int64(len(got)) || res.Checksum != h.states[id-1].table(h.size).Checksum() {
		h.t.Errorf("TXID %v: result %+v", id, res)
	}
	if len(res.Damaged) != h.damaged {
		h.t.Errorf("TXID %v: done without %v", id, res.Damaged)
	}
	assertFiles(h.t, filepath.Dir(res.Output), filepath.Base(res.Output))
}

// assertFiles checks which files a folder holds.
func assertFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// body gives bytes, to be put.
func body(b []byte) archive.Body {
	return archive.Body{Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}
