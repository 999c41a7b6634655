package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// pack joins the segments and packs that hold the commits from first to last,
// and leaves them where they are.
func (h *history) pack(first, last state.TXID) {
	h.t.Helper()
	var b bytes.Buffer
	var w *segment.Writer
	for _, s := range h.open().Listing().Segments {
		if s.First < first || s.First > last {
			continue
		}
		r, err := segment.NewReader(bytes.NewReader([]byte(object(h.t, h.bucket, s.Key()))), s.Size)
		if err != nil {
			h.t.Fatal(err)
		}
		if w == nil {
			w = segment.NewWriter(&b, r.Header())
		}
		if err := copyAll(w, r); err != nil {
			h.t.Fatal(err)
		}
	}
	if w == nil || w.Header().First != first || w.Last() != last {
		h.t.Fatalf("no segments from TXID %v to %v", first, last)
	}
	if _, err := w.Close(h.states[last-1].table(h.size).At); err != nil {
		h.t.Fatal(err)
	}
	put(h.t, h.bucket, archive.PackKey(first, last), b.Bytes())
}

func copyAll(w *segment.Writer, r *segment.Reader) error {
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = w.Copy(rec)
		}
		if err != nil {
			return err
		}
	}
}

// sweep deletes what packs have made superfluous.
func (h *history) sweep() {
	h.t.Helper()
	for _, s := range h.open().Listing().Covered {
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

// incremental puts a snapshot of a commit that adds to that of another.
func (h *history) incremental(id, base state.TXID) {
	h.t.Helper()
	was, now := h.states[base-1], h.states[id-1]
	changes := &snapshot.Changes{Base: was.table(h.size)}
	for i, page := range now {
		if i < len(was) && bytes.Equal(was[i], page) {
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

// listing lists a replica that has objects with these keys, of which nothing but
// the key counts.
func listing(ctx context.Context, keys []string) (archive.Listing, error) {
	const meta = `{"format":1,"replica":"000102030405060708090a0b0c0d0e0f","page_size":4096,"created":"2026-01-02T03:04:05Z"}`
	b := mem.New()
	for _, key := range append(slices.Clone(keys), "tidemark.json") {
		if err := b.Put(ctx, key, strings.NewReader(meta), storage.PutOptions{Size: -1}); err != nil {
			return archive.Listing{}, err
		}
	}
	a, err := archive.Open(ctx, b)
	if err != nil {
		return archive.Listing{}, err
	}
	return a.Listing(), nil
}
