package main

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage/file"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// aged FOLDER makes a replica of 400 commits, one an hour from 2020-03-02T00:00:00Z
// on, with snapshots of 1, 10, 24, 48, 100, 200 and 400, and a segment for each
// hundred.
func aged(ts *testscript.TestScript, args []string) {
	const size = wal.PageSize(512)
	ctx := context.Background()
	page := func(id state.TXID) []byte { return bytes.Repeat([]byte{byte(id), byte(id >> 8)}, int(size)/2) }
	table := func(id state.TXID) *state.Table {
		t := state.NewTable(size)
		t.Set(1, state.SumPage(1, page(id)))
		return t
	}
	at := func(id state.TXID) time.Time { return time.Date(2020, 3, 2, int(id)-1, 0, 0, 0, time.UTC) }
	b, err := file.Open(ts.MkAbs(args[0]), file.Options{Create: true})
	ts.Check(err)
	a, err := archive.Create(ctx, b, size, at(1))
	ts.Check(err)
	for _, id := range []state.TXID{1, 10, 24, 48, 100, 200, 400} {
		h := snapshot.Header{PageSize: size, TXID: id, Pages: 1, Time: at(id).UnixMilli()}
		_, err := a.PutSnapshot(ctx, h, databaseFile{page(id), int(size)}, snapshot.WriteOptions{})
		ts.Check(err)
	}
	for first := state.TXID(2); first <= 400; first += 100 {
		var raw bytes.Buffer
		w := segment.NewWriter(&raw, segment.Header{
			PageSize: size, Replica: a.Meta().Replica, First: first, Before: table(first - 1).Checksum(), PagesBefore: 1, Time: at(first),
		})
		last := min(first+99, 400)
		for id := first; id <= last; id++ {
			ts.Check(w.Full(1, page(id)))
			_, err := w.Commit(segment.Commit{Time: at(id), Pages: 1, After: table(id).Checksum()})
			ts.Check(err)
		}
		_, err := w.Close(table(last).At)
		ts.Check(err)
		body := archive.Body{Size: int64(raw.Len()), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw.Bytes())), nil }}
		ts.Check(a.PutSegment(ctx, first, body))
	}
}
