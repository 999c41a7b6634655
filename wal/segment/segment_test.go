package segment_test

import (
	"bytes"
	"crypto/subtle"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// TestRoundTrip reads what was written, whole and unclosed.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, true)
		whole := h.closed(t)
		hdr, got, err := read(iotest.HalfReader(bytes.NewReader(whole)), int64(len(whole)))
		if err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatalf("error %v, want io.EOF", err)
		}
		if diff := cmp.Diff(h.header(), hdr); diff != "" {
			t.Fatalf("header (-want +got):\n%s", diff)
		}
		if diff := differ(h.records(), got); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}

		// What was never closed ends as quietly, and so does what was closed
		// if nobody knows its length.
		part, _ := h.unclosed(t)
		for _, b := range [][]byte{part, whole} {
			if _, got, err = read(bytes.NewReader(b), -1); err != io.EOF { //nolint:errorlint // as above
				t.Fatalf("unclosed: error %v, want io.EOF", err)
			}
			if diff := differ(h.records(), got); diff != "" {
				t.Fatalf("unclosed: records (-want +got):\n%s", diff)
			}
		}
	})
}

// apply applies a frame to a database.
func apply(size wal.PageSize, pages [][]byte, rec segment.Record) [][]byte {
	now := bytes.Clone(rec.Data)
	pages = resized(size, pages, max(int(rec.Page), len(pages)))
	if rec.Delta {
		subtle.XORBytes(now, now, pages[rec.Page-1])
	}
	pages[rec.Page-1] = now
	return pages
}

// TestReplay applies the records to the database before and compares it after
// each commit with the model's.
func TestReplay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, true)
		b, size := h.closed(t), h.hdr.PageSize
		r, err := segment.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		start := segment.Commit{
			TXID: h.hdr.First - 1, Time: h.header().Time, Pages: h.hdr.PagesBefore, After: h.hdr.Before,
		}
		if diff := cmp.Diff(start, r.Last()); diff != "" {
			t.Fatalf("before the first record (-want +got):\n%s", diff)
		}
		pages := h.before
		// A reader may stop after any commit, so try the end of each.
		for _, c := range h.commits[:rapid.IntRange(0, len(h.commits)).Draw(t, "stop after")] {
			rec, err := r.Next()
			for ; err == nil && rec.Commit.TXID == 0; rec, err = r.Next() {
				pages = apply(size, pages, rec)
			}
			if err != nil {
				t.Fatal(err)
			}
			pages = resized(size, pages, int(rec.Commit.Pages))
			if diff := cmp.Diff(c.after, pages, byBytes); diff != "" {
				t.Fatalf("pages after commit %v (-want +got):\n%s", c.want.TXID, diff)
			}
			if sum := table(size, pages).Checksum(); sum != rec.Commit.After {
				t.Fatalf("commit %v: checksum %v, the record says %v", c.want.TXID, sum, rec.Commit.After)
			}
			if diff := cmp.Diff(c.want, r.Last()); diff != "" {
				t.Fatalf("last commit (-want +got):\n%s", diff)
			}
		}
	})
}

// TestCopy passes all records to a second writer.
func TestCopy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		flushes := rapid.Bool().Draw(t, "flushes")
		h := drawHistory(t, flushes)
		whole := h.closed(t)
		r, err := segment.NewReader(bytes.NewReader(whole), int64(len(whole)))
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		w := segment.NewWriter(&again, r.Header())
		var rec segment.Record
		for rec, err = r.Next(); err == nil; rec, err = r.Next() {
			if err := w.Copy(rec); err != nil {
				t.Fatal(err)
			}
		}
		if err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatal(err)
		}
		if _, err := w.Close(table(h.hdr.PageSize, h.pages()).At); err != nil {
			t.Fatal(err)
		}
		_, got, err := read(&again, int64(again.Len()))
		if err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatal(err)
		}
		if diff := differ(h.records(), got); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
	})
}

// TestCopyIsIdentical holds only without Flush, which ends blocks early.
func TestCopyIsIdentical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, false)
		whole := h.closed(t)
		var again bytes.Buffer
		w := segment.NewWriter(&again, h.hdr)
		for _, rec := range h.records() {
			if err := w.Copy(rec); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(table(h.hdr.PageSize, h.pages()).At); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(whole, again.Bytes()) {
			t.Fatalf("%d bytes, %d copied, and not the same", len(whole), again.Len())
		}
	})
}

// TestIndex compares the index with the model.
func TestIndex(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, true)
		b := h.closed(t)
		hdr, x, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h.header(), hdr); diff != "" {
			t.Fatalf("header (-want +got):\n%s", diff)
		}
		compareCommits(t, h, x)
		compareSums(t, h, hdr, x)
	})
}

func compareCommits(t *rapid.T, h history, x *segment.Index) {
	var want []segment.Commit
	for _, c := range h.commits {
		c.want.After = 0
		want = append(want, c.want)
	}
	got, err := x.Commits()
	if err != nil {
		t.Fatal(err)
	}
	_, marks := h.unclosed(t)
	stored := marks[len(marks)-1].size - segment.HeaderSize
	for i, c := range got {
		if c.Bytes < 0 {
			t.Errorf("commit %v has %d bytes", c.TXID, c.Bytes)
		}
		stored -= c.Bytes
		got[i].Bytes = 0
	}
	if slack := int64(len(got)); /* each is rounded */ stored < -slack || stored > slack {
		t.Errorf("%d bytes of records are nobody's", stored)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("commits (-want +got):\n%s", diff)
	}
}

func compareSums(t *rapid.T, h history, hdr segment.Header, x *segment.Index) {
	want, size := table(h.hdr.PageSize, h.pages()), h.hdr.PageSize
	sums := map[wal.PageNo]state.Sum{}
	last := wal.PageNo(0)
	if err := x.Pages(func(no wal.PageNo, sum state.Sum) {
		if no <= last || uint32(no) > want.Len() || sum != want.At(no) {
			t.Errorf("page %v with sum %x after page %v", no, sum, last)
		}
		last, sums[no] = no, sum
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range h.commits {
		for _, f := range c.frames {
			if _, ok := sums[f.no]; !ok && uint32(f.no) <= want.Len() {
				t.Errorf("page %v was written and is not there", f.no)
			}
		}
	}
	got := table(size, h.before)
	if err := x.Apply(hdr, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.AppendBinary(nil, 0, want.Len()), got.AppendBinary(nil, 0, got.Len())); diff != "" || got.Checksum() != want.Checksum() {
		t.Fatalf("table of checksum %v, want %v; sums (-want +got):\n%s", got.Checksum(), want.Checksum(), diff)
	}
	if err := x.Apply(hdr, got); err == nil && (got.Checksum() != hdr.Before || got.Len() != hdr.PagesBefore) {
		t.Error("applied to a state that it does not follow")
	}
}
