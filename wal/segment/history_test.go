package segment_test

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// frame is one call of Full, or of Delta if prev is not nil.
type frame struct {
	no          wal.PageNo
	image, prev []byte
	flush       bool // after it
}

// commit is one transaction and the database that it leaves.
type commit struct {
	frames []frame
	given  segment.Commit // as the writer gets it
	want   segment.Commit // as a reader gives it back
	after  [][]byte       // the pages
	flush  bool           // after it
}

// history is what a segment should tell, made up by a model that knows nothing
// of the format.
type history struct {
	hdr     segment.Header
	before  [][]byte
	commits []commit
}

// table is the page sums of a database.
func table(size wal.PageSize, pages [][]byte) *state.Table {
	t := state.NewTable(size)
	for i, p := range pages {
		t.Set(wal.PageNo(i+1), state.SumPage(wal.PageNo(i+1), p))
	}
	return t
}

// resized is the database of n pages: the rest is dropped, new pages are zeros.
// It shares images, which nobody changes, but not the slice.
func resized(size wal.PageSize, pages [][]byte, n int) [][]byte {
	out := slices.Clone(pages[:min(n, len(pages))])
	for len(out) < n {
		out = append(out, make([]byte, size))
	}
	return out
}

// image draws a page: the one before with a few bytes changed, noise, or one
// byte all over.
func image(t *rapid.T, size wal.PageSize, prev []byte) []byte {
	b := make([]byte, size)
	seed := rapid.Uint64().Draw(t, "seed")
	rng := rand.New(rand.NewPCG(seed, 0))
	switch kind := rapid.IntRange(0, 3).Draw(t, "content"); {
	case kind <= 1 && prev != nil:
		copy(b, prev)
		for range rng.IntN(9) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
	case kind == 2:
		noise(b, byte(seed))
	default:
		copy(b, bytes.Repeat([]byte{byte(seed)}, len(b)))
	}
	return b
}

// drawHistory draws a history. flushes tells whether it flushes now and then.
func drawHistory(t *rapid.T, flushes bool) history {
	size := rapid.SampledFrom([]wal.PageSize{512, 512, 1024, 4096, 65536}).Draw(t, "page size")
	most := 9
	if size > 4096 {
		most = 5
	}
	start := rapid.IntRange(0, most).Draw(t, "pages before")
	h := history{hdr: segment.Header{
		PageSize:    size,
		First:       state.TXID(rapid.Uint64Range(1, 1<<40).Draw(t, "first")),
		PagesBefore: uint32(start),
		Time:        time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")),
	}}
	h.hdr.Writer = rapid.StringMatching(`([a-z0-9. ]|é|日){0,18}`).Draw(t, "writer")
	copy(h.hdr.Replica[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "replica"))
	for range start {
		h.before = append(h.before, image(t, size, nil))
	}
	h.hdr.Before = table(size, h.before).Checksum()
	d := drawing{t: t, size: size, most: most, flushes: flushes, pages: h.before, at: h.hdr.Time}
	latest := int64(0) // the header's time is the first commit's
	for i := range rapid.IntRange(1, 8).Draw(t, "commits") {
		c := d.commit(latest)
		latest = 2e9
		c.want.TXID = h.hdr.First + state.TXID(i)
		h.commits = append(h.commits, c)
	}
	return h
}

// drawing is a history's database as it grows.
type drawing struct {
	t       *rapid.T
	size    wal.PageSize
	most    int
	flushes bool
	pages   [][]byte
	at      time.Time
}

func (d *drawing) flush() bool { return d.flushes && rapid.IntRange(0, 3).Draw(d.t, "flush") == 0 }

func (d *drawing) commit(latest int64) commit {
	var c commit
	for range rapid.IntRange(0, 6).Draw(d.t, "frames") {
		c.frames = append(c.frames, d.frame())
	}
	n := len(d.pages)
	if rapid.Bool().Draw(d.t, "resize") {
		n = rapid.IntRange(0, d.most).Draw(d.t, "pages")
	}
	d.pages = resized(d.size, d.pages, n)
	now := d.at.Add(time.Duration(rapid.Int64Range(-5e9, latest).Draw(d.t, "step")))
	if now.After(d.at) {
		d.at = now
	}
	sum := table(d.size, d.pages).Checksum()
	flags := segment.Flags(rapid.IntRange(0, 3).Draw(d.t, "flags"))
	c.given = segment.Commit{
		TXID: 99, Time: now, Flags: flags, Pages: uint32(n), After: sum, Frames: 98, Bytes: 97, // 99, 98, 97 are ignored
	}
	c.want = segment.Commit{
		Time: time.UnixMilli(d.at.UnixMilli()).UTC(), Flags: flags, Pages: uint32(n), After: sum, Frames: uint32(len(c.frames)),
	}
	c.after, c.flush = d.pages, d.flush()
	return c
}

func (d *drawing) frame() frame {
	no := rapid.IntRange(1, d.most).Draw(d.t, "page")
	f := frame{no: wal.PageNo(no)}
	var prev []byte
	if no <= len(d.pages) {
		prev = d.pages[no-1]
	}
	f.image = image(d.t, d.size, prev)
	if prev != nil && rapid.Bool().Draw(d.t, "delta") {
		f.prev = prev
	}
	d.pages = resized(d.size, d.pages, max(no, len(d.pages)))
	d.pages[no-1] = f.image
	f.flush = d.flush()
	return f
}

// header is what a reader should give as the header.
func (h history) header() segment.Header {
	want := h.hdr
	want.Time = time.UnixMilli(want.Time.UnixMilli()).UTC()
	return want
}

// records is what a reader should give.
func (h history) records() []segment.Record {
	var rs []segment.Record
	for _, c := range h.commits {
		for _, f := range c.frames {
			r := segment.Record{Page: f.no, Delta: f.prev != nil, Data: f.image}
			if r.Delta {
				r.Data = make([]byte, len(f.image))
				subtle.XORBytes(r.Data, f.image, f.prev)
			}
			rs = append(rs, r)
		}
		rs = append(rs, segment.Record{Commit: c.want})
	}
	return rs
}

// pages is the database after the last commit.
func (h history) pages() [][]byte { return h.commits[len(h.commits)-1].after }

// mark is a length of a segment where a flush ended and the number of records
// before it.
type mark struct {
	size    int64
	records int
}

// write gives the history to a new writer, but does not close it.
func (h history) write(t rapid.TB, dst io.Writer) (*segment.Writer, []mark) {
	w := segment.NewWriter(dst, h.hdr)
	marks := []mark{{w.Stored(), 0}}
	n := 0
	wrote := func(flush bool, err error) {
		if w.Stored() > marks[len(marks)-1].size { // the block was full
			marks = append(marks, mark{w.Stored(), n})
		}
		n++
		if flush {
			err = errors.Join(err, w.Flush())
			marks = append(marks, mark{w.Stored(), n})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range h.commits {
		for _, f := range c.frames {
			if f.prev != nil {
				wrote(f.flush, w.Delta(f.no, f.image, f.prev))
			} else {
				wrote(f.flush, w.Full(f.no, f.image))
			}
		}
		id, err := w.Commit(c.given)
		if err == nil && (id != c.want.TXID || id != w.Last() || w.Commits() != uint64(id-h.hdr.First+1)) {
			t.Fatalf("commit %v of %d, want %v", id, w.Commits(), c.want.TXID)
		}
		wrote(c.flush, err)
	}
	return w, marks
}

// unclosed is the segment with its last block, but without an index.
func (h history) unclosed(t rapid.TB) ([]byte, []mark) {
	var b bytes.Buffer
	w, marks := h.write(t, &b)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), append(marks, mark{w.Stored(), len(h.records())})
}

// closed is the whole segment.
func (h history) closed(t rapid.TB) []byte {
	var b bytes.Buffer
	w, _ := h.write(t, &b)
	last := h.commits[len(h.commits)-1].want
	got, err := w.Close(table(h.hdr.PageSize, h.pages()).At)
	if err != nil {
		t.Fatal(err)
	}
	want := segment.Trailer{
		Commits: uint64(len(h.commits)), Last: last.TXID, After: last.After, PagesAfter: last.Pages, Time: last.Time,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(segment.Trailer{})); diff != "" {
		t.Fatalf("trailer (-want +got):\n%s", diff)
	}
	if w.Stored() != int64(b.Len()) {
		t.Fatalf("%d bytes stored, want %d", w.Stored(), b.Len())
	}
	return b.Bytes()
}

// read decodes a segment until the first error.
func read(src io.Reader, size int64) (segment.Header, []segment.Record, error) {
	r, err := segment.NewReader(src, size)
	if err != nil {
		return segment.Header{}, nil, err
	}
	var rs []segment.Record
	for {
		rec, err := r.Next()
		if err != nil {
			if _, again := r.Next(); again != err { //nolint:errorlint // the very same
				return r.Header(), rs, errors.New("the error does not stick")
			}
			return r.Header(), rs, err
		}
		rec.Data = bytes.Clone(rec.Data)
		rs = append(rs, rec)
	}
}

// differ tells how records differ, "" if they don't.
func differ(want, got []segment.Record) string {
	if len(want)+len(got) == 0 {
		return ""
	}
	return cmp.Diff(want, got, byBytes)
}

var byBytes = cmp.Comparer(bytes.Equal)
