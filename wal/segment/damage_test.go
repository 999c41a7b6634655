package segment_test

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// flushed is the small history with a block for each record.
func flushed() history {
	h := small()
	for i := range h.commits {
		h.commits[i].flush = true
		for k := range h.commits[i].frames {
			h.commits[i].frames[k].flush = true
		}
	}
	return h
}

func known(err error) bool {
	return errors.Is(err, block.ErrCorrupt) || errors.Is(err, block.ErrVersion)
}

// checkCut reads the first n bytes of an unclosed segment, and all of it with
// byte n damaged: there must be exactly the records of the blocks that are
// whole before it.
func checkCut(t rapid.TB, h history, b []byte, marks []mark, n int64) {
	t.Helper()
	_, got, err := read(bytes.NewReader(b[:n]), -1)
	if n < segment.HeaderSize {
		if !errors.Is(err, block.ErrCorrupt) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: error %v, want a header cut off", n, err)
		}
		return
	}
	torn := bytes.Clone(b)
	if n < int64(len(torn)) {
		torn[n] ^= 0xff
	}
	_, gotTorn, errTorn := read(bytes.NewReader(torn), -1)
	if err != io.EOF || errTorn != io.EOF { //nolint:errorlint // bare by contract
		t.Errorf("cut at %d: errors %v and, if only torn there, %v; want io.EOF", n, err, errTorn)
	}
	whole := 0
	for _, m := range marks {
		if m.size <= n {
			whole = m.records
		}
	}
	if diff := differ(h.records()[:whole], got); diff != "" {
		t.Errorf("cut at %d: records (-want +got):\n%s", n, diff)
	}
	if diff := differ(got, gotTorn); diff != "" {
		t.Errorf("torn at %d: records (-cut +torn):\n%s", n, diff)
	}
}

func TestUnclosedIsCut(t *testing.T) {
	t.Parallel()
	h := flushed()
	b, marks := h.unclosed(t)
	for n := range len(b) + 1 {
		checkCut(t, h, b, marks, int64(n))
	}
}

func TestUnclosedIsCutAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, true)
		b, marks := h.unclosed(t)
		for range 5 {
			checkCut(t, h, b, marks, rapid.Int64Range(0, int64(len(b))).Draw(t, "cut"))
		}
	})
}

// TestUnclosedIsCutInItsIndex cuts one that was being closed.
func TestUnclosedIsCutInItsIndex(t *testing.T) {
	t.Parallel()
	h := flushed()
	b := h.closed(t)
	part, marks := h.unclosed(t)
	for n := len(part); n <= len(b); n++ {
		checkCut(t, h, b, marks, int64(n))
	}
}

// intact is a closed segment and all that it tells.
type intact struct {
	bytes   []byte
	records []segment.Record
	index   contents
}

func newIntact(t rapid.TB, h history) intact {
	b := h.closed(t)
	hdr, x, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return intact{b, h.records(), everything(hdr, x)}
}

// check reads a damaged version of the segment in every way: no full read may
// succeed, and nothing that is given before the error may be wrong.
func (g intact) check(t rapid.TB, what string, bad []byte) {
	t.Helper()
	if _, _, err := read(bytes.NewReader(bad), int64(len(bad))); !known(err) {
		t.Errorf("%s: error %v, want ErrCorrupt or ErrVersion", what, err)
	}
	for _, size := range []int64{int64(len(bad)), -1} {
		_, got, err := read(bytes.NewReader(bad), size)
		if err != io.EOF && !known(err) { //nolint:errorlint // bare by contract
			t.Errorf("%s: size %d: error %v", what, size, err)
		}
		if diff := differ(g.records[:min(len(got), len(g.records))], got); diff != "" {
			t.Errorf("%s: size %d: wrong records (-want +got):\n%s", what, size, diff)
		}
	}
	g.checkIndex(t, what, bad)
}

// checkIndex reads the index of a damaged segment: an error, or all of it is
// right.
func (g intact) checkIndex(t rapid.TB, what string, bad []byte) {
	t.Helper()
	hdr, x, err := segment.ReadIndex(bytes.NewReader(bad), int64(len(bad)))
	if err != nil {
		if !known(err) {
			t.Errorf("%s: ReadIndex gives %v", what, err)
		}
		return
	}
	if diff := cmp.Diff(g.index, everything(hdr, x), cmp.Comparer(sameTrailer)); diff != "" {
		t.Errorf("%s: wrong index (-want +got):\n%s", what, diff)
	}
}

// contents is all that an index tells.
type contents struct {
	Header  segment.Header
	Trailer segment.Trailer
	Commits []segment.Commit
	Sums    map[wal.PageNo]state.Sum
	Errs    []error
}

func everything(h segment.Header, x *segment.Index) contents {
	c := contents{Header: h, Trailer: x.Trailer, Sums: map[wal.PageNo]state.Sum{}}
	var err error
	c.Commits, err = x.Commits()
	c.Errs = append(c.Errs, err, x.Pages(func(no wal.PageNo, sum state.Sum) { c.Sums[no] = sum }))
	return c
}

// sameTrailer compares what a trailer exports.
func sameTrailer(a, b segment.Trailer) bool {
	return a.Commits == b.Commits && a.Last == b.Last && a.After == b.After &&
		a.PagesAfter == b.PagesAfter && a.Time.Equal(b.Time)
}

// TestDamage cuts a closed segment at every byte and flips every bit of it.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]history{"one block": small(), "many blocks": flushed()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := newIntact(t, h)
			for n := range good.bytes {
				good.check(t, "cut at "+strconv.Itoa(n), good.bytes[:n])
			}
			for i := range len(good.bytes) * 8 {
				bad := bytes.Clone(good.bytes)
				bad[i/8] ^= 1 << (i % 8)
				good.check(t, "flip of bit "+strconv.Itoa(i%8)+" of byte "+strconv.Itoa(i/8), bad)
			}
			good.check(t, "a byte too many", append(bytes.Clone(good.bytes), 0))
		})
	}
}

// TestDamageAnywhere damages histories that nobody chose.
func TestDamageAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, true)
		good := newIntact(t, h)
		for range 3 {
			bad := bytes.Clone(good.bytes)
			at := rapid.IntRange(0, len(bad)-1).Draw(t, "flip at")
			bad[at] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
			good.check(t, "flip at "+strconv.Itoa(at), bad)
			n := rapid.IntRange(0, len(good.bytes)-1).Draw(t, "cut")
			good.check(t, "cut at "+strconv.Itoa(n), good.bytes[:n])
		}
	})
}

// TestWrongSize gives readers a length that is not the segment's.
func TestWrongSize(t *testing.T) {
	t.Parallel()
	b := small().closed(t)
	for _, size := range []int64{0, 1, segment.HeaderSize, int64(len(b)) - 1, int64(len(b)) + 1, 1 << 62} {
		if _, _, err := read(bytes.NewReader(b), size); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("size %d: reader's error %v, want ErrCorrupt", size, err)
		}
		if _, _, err := segment.ReadIndex(bytes.NewReader(b), size); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("size %d: ReadIndex's error %v, want ErrCorrupt", size, err)
		}
	}
}

// TestUnknownVersion changes the version and, as another version may, all that
// follows the field.
func TestUnknownVersion(t *testing.T) {
	t.Parallel()
	b := small().closed(t)
	for _, v := range []byte{0, segment.Version + 1, 255} {
		bad := bytes.Clone(b[:10])
		bad[9] = v
		bad = append(bad, bytes.Repeat([]byte{0xee}, 200_000)...)
		for name, err := range map[string]error{
			"ParseHeader": second(segment.ParseHeader(bad)),
			"NewReader":   second(segment.NewReader(bytes.NewReader(bad), int64(len(bad)))),
			"ReadIndex":   third(segment.ReadIndex(bytes.NewReader(bad), int64(len(bad)))),
			"small index": third(segment.ReadIndex(bytes.NewReader(bad[:300]), 300)),
		} {
			if !errors.Is(err, block.ErrVersion) || errors.Is(err, block.ErrCorrupt) {
				t.Errorf("%s of version %d: error %v, want ErrVersion", name, v, err)
			}
		}
	}
	if _, err := segment.ParseHeader(b[:segment.HeaderSize-1]); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("short header: error %v, want ErrCorrupt", err)
	}
}

func second[T any](_ T, err error) error { return err }

func third[T, U any](_ T, _ U, err error) error { return err }
