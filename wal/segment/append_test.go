package segment_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// split cuts a history into consecutive ones.
func (h history) split(t *rapid.T) []history {
	var parts []history
	for rest := h; len(rest.commits) > 0; {
		n := rapid.IntRange(1, len(rest.commits)).Draw(t, "commits of a part")
		part := rest
		part.commits = rest.commits[:n]
		parts = append(parts, part)
		last := part.commits[n-1]
		rest.commits = rest.commits[n:]
		rest.hdr.First = last.want.TXID + 1
		rest.hdr.Before, rest.hdr.PagesBefore = last.want.After, last.want.Pages
		rest.hdr.Writer = "another"
		if len(rest.commits) > 0 {
			rest.hdr.Time = rest.commits[0].want.Time
		}
	}
	return parts
}

// join appends segments to one that begins like the first.
func join(t rapid.TB, h history, parts [][]byte) []byte {
	var b bytes.Buffer
	w := segment.NewWriter(&b, h.hdr)
	for _, p := range parts {
		r, err := segment.NewReader(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(table(h.hdr.PageSize, h.pages()).At); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// touchedPages are the pages in an index, with their sums.
func touchedPages(t rapid.TB, x *segment.Index) map[wal.PageNo]uint64 {
	pages := map[wal.PageNo]uint64{}
	if err := x.Pages(func(no wal.PageNo, sum state.Sum) { pages[no] = uint64(sum) }); err != nil {
		t.Fatal(err)
	}
	return pages
}

// TestAppend joins the parts of a history: it reads like the one segment that
// would have been written at once.
func TestAppend(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, true)
		var parts [][]byte
		for _, p := range h.split(t) {
			parts = append(parts, p.closed(t))
		}
		got, want := join(t, h, parts), h.closed(t)

		hdr, records, err := read(bytes.NewReader(got), int64(len(got)))
		if err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatal(err)
		}
		if diff := cmp.Diff(h.header(), hdr); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		if diff := differ(h.records(), records); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		_, x, err := segment.ReadIndex(bytes.NewReader(got), int64(len(got)))
		if err != nil {
			t.Fatal(err)
		}
		_, y, err := segment.ReadIndex(bytes.NewReader(want), int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(y.Trailer, x.Trailer, cmpopts.IgnoreUnexported(segment.Trailer{})); diff != "" {
			t.Errorf("trailer (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(touchedPages(t, y), touchedPages(t, x)); diff != "" {
			t.Errorf("touched pages (-want +got):\n%s", diff)
		}
		cs, err := x.Commits()
		if err != nil {
			t.Fatal(err)
		}
		ds, err := y.Commits()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ds, cs, cmpopts.IgnoreFields(segment.Commit{}, "Bytes")); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
	})
}

// TestAppendSharesBlocks joins many small segments, and large ones: small blocks
// are joined, large ones stay as they are.
func TestAppendSharesBlocks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ parts, frames, blocks int }{{40, 1, 1}, {5, 40, 5}, {3, 100, 6}} {
		load, h := newWorkload(tt.frames), segment.Header{PageSize: benchSize, First: 1, PagesBefore: 64}
		var b bytes.Buffer
		out := segment.NewWriter(&b, h)
		for range tt.parts {
			var part bytes.Buffer
			w := segment.NewWriter(&part, h)
			load.full(t, w)
			commitTo(t, w)
			if _, err := w.Close(noSums); err != nil {
				t.Fatal(err)
			}
			h.First++
			r, err := segment.NewReader(&part, int64(part.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := out.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := out.Close(noSums); err != nil {
			t.Fatal(err)
		}
		blocks, records := 0, block.NewReader(bytes.NewReader(b.Bytes()[segment.HeaderSize:]), 0)
		for {
			if h, _, err := records.Next(); err != nil || h.Kind != 0x10 {
				break
			}
			blocks++
		}
		if blocks != tt.blocks {
			t.Errorf("%d segments of %d pages each: %d blocks, want %d", tt.parts, tt.frames, blocks, tt.blocks)
		}
	}
}

// TestAppendRefuses appends what does not follow.
func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(0)
	base := segment.Header{PageSize: 512, First: 5, Before: 7, PagesBefore: 3, Time: at}
	follows := segment.Header{PageSize: 512, First: 6, Before: 8, PagesBefore: 4, Time: at.Add(time.Second)}
	for name, change := range map[string]func(*segment.Header){
		"":          func(*segment.Header) {},
		"gap":       func(h *segment.Header) { h.First++ },
		"overlap":   func(h *segment.Header) { h.First-- },
		"state":     func(h *segment.Header) { h.Before++ },
		"pages":     func(h *segment.Header) { h.PagesBefore++ },
		"page size": func(h *segment.Header) { h.PageSize = 1024 },
		"time":      func(h *segment.Header) { h.Time = at.Add(-time.Second) },
	} {
		w := segment.NewWriter(io.Discard, base)
		if _, err := w.Commit(segment.Commit{Pages: 4, After: 8, Time: at}); err != nil {
			t.Fatal(err)
		}
		h := follows
		change(&h)
		var b bytes.Buffer
		part := segment.NewWriter(&b, h)
		if _, err := part.Commit(segment.Commit{Pages: 4, After: 8, Time: h.Time}); err != nil {
			t.Fatal(err)
		}
		if _, err := part.Close(noSums); err != nil {
			t.Fatal(err)
		}
		r, err := segment.NewReader(&b, int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(r); errors.Is(err, segment.ErrOrder) != (name != "") {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

// TestAppendDamaged flips each byte of a segment, and cuts it off at each.
func TestAppendDamaged(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	h := segment.Header{PageSize: 512, First: 1, PagesBefore: 400, Time: time.UnixMilli(0)}
	w := segment.NewWriter(&b, h)
	for no := wal.PageNo(1); no <= 200; no++ { // a block that is copied, and one that is not
		if err := w.Full(no, bytes.Repeat([]byte{byte(no), 1, 2, 3}, 128)); err != nil {
			t.Fatal(err)
		}
	}
	for _, flush := range []bool{true, false} {
		if _, err := w.Commit(segment.Commit{Pages: 400, Time: time.UnixMilli(0)}); err != nil {
			t.Fatal(err)
		}
		if flush {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Close(noSums); err != nil {
		t.Fatal(err)
	}
	try := func(b []byte, size int) error {
		r, err := segment.NewReader(bytes.NewReader(b), int64(size))
		if err != nil {
			return err
		}
		out := segment.NewWriter(io.Discard, h)
		_, err = out.Append(r)
		if _, again := out.Close(noSums); err != nil && again == nil {
			t.Error("what a failed Append left can be closed")
		}
		return err
	}
	whole := b.Bytes()
	if err := try(whole, len(whole)); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		if try(flipped, len(whole)) == nil {
			t.Errorf("byte %d flipped: no error", i)
		}
		if err := try(whole[:i], len(whole)); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("cut off at %d: error %v", i, err)
		}
	}
}
