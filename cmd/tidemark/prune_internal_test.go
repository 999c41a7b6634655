package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tidemark/replica/archive"
	"tidemark/replica/prune"
	"tidemark/replica/retain"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/file"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// aged FOLDER makes the replica of makeAged in a folder.
func aged(ts *testscript.TestScript, args []string) {
	b, err := file.Open(ts.MkAbs(args[0]), file.Options{Create: true})
	ts.Check(err)
	ts.Check(makeAged(context.Background(), b))
}

// makeAged makes a replica of 400 commits, one an hour from 2020-03-02T00:00:00Z
// on, with snapshots of 1, 10, 24, 48, 100, 200 and 400, and a segment for each
// hundred.
func makeAged(ctx context.Context, b storage.Bucket) error {
	const size = wal.PageSize(512)
	page := func(id state.TXID) []byte { return bytes.Repeat([]byte{byte(id), byte(id >> 8)}, int(size)/2) }
	table := func(id state.TXID) *state.Table {
		t := state.NewTable(size)
		t.Set(1, state.SumPage(1, page(id)))
		return t
	}
	at := func(id state.TXID) time.Time { return time.Date(2020, 3, 2, int(id)-1, 0, 0, 0, time.UTC) }
	a, err := archive.Create(ctx, b, size, at(1))
	for _, id := range []state.TXID{1, 10, 24, 48, 100, 200, 400} {
		if err != nil {
			return err
		}
		h := snapshot.Header{PageSize: size, TXID: id, Pages: 1, Time: at(id).UnixMilli()}
		_, err = a.PutSnapshot(ctx, h, databaseFile{page(id), int(size)}, snapshot.WriteOptions{})
	}
	for first := state.TXID(2); first <= 400 && err == nil; first += 100 {
		var raw bytes.Buffer
		w := segment.NewWriter(&raw, segment.Header{
			PageSize: size, Replica: a.Meta().Replica, First: first, Before: table(first - 1).Checksum(), PagesBefore: 1, Time: at(first),
		})
		last := min(first+99, 400)
		for id := first; id <= last && err == nil; id++ {
			if err = w.Full(1, page(id)); err == nil {
				_, err = w.Commit(segment.Commit{Time: at(id), Pages: 1, After: table(id).Checksum()})
			}
		}
		if err == nil {
			_, err = w.Close(table(last).At)
		}
		if err == nil {
			body := archive.Body{Size: int64(raw.Len()), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw.Bytes())), nil }}
			err = a.PutSegment(ctx, first, body)
		}
	}
	return err
}

// refusing is a bucket of which deletions fail.
type refusing struct {
	storage.Bucket
	why  error
	left int // deletions until then
}

func (r *refusing) Delete(ctx context.Context, key string) error {
	if r.left == 0 {
		return fmt.Errorf("delete %s: %w", key, r.why)
	}
	r.left--
	return r.Bucket.Delete(ctx, key)
}

// What ends a deletion is told, with what was done before.
func TestPruneEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		why        error
		message    string
		hint, text string
	}{
		"refused": {
			storage.ErrDenied, "storage refused to delete 2 objects, first: delete snapshot/0000000000000018-0000000000000000.snap: access denied",
			"Object Lock", "\ndeleted 1 object (3.1 KiB)\n",
		},
		"away":        {storage.ErrUnreachable, "deleted 1 object (3.1 KiB), and then failed: ", "check the endpoint", "\ndeleted 1 object"},
		"interrupted": {context.Canceled, "interrupted: deleted 1 object (3.1 KiB)", "run it again to delete the rest", "\ndeleted 1 object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &refusing{Bucket: mem.New(), why: tc.why, left: 1}
			if err := makeAged(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			a, err := archive.Open(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			v, err := prune.Look(t.Context(), a, nil)
			if err != nil {
				t.Fatal(err)
			}
			show := pruning{policy: retain.Default(), plan: retain.Default().Plan(v.State, time.Now()), inventory: v, confirmed: true}
			f := pruneFlags{confirm: true}
			err = f.delete(t.Context(), &show)
			d := describe(err, "tidemark prune")
			if !errors.Is(err, tc.why) || d.Code != exitFailed || !strings.HasPrefix(d.Message, tc.message) || !strings.Contains(d.Hint, tc.hint) {
				t.Errorf("%+v", d)
			}
			var text bytes.Buffer
			if err := show.printResult(&text); err != nil || !strings.HasPrefix(text.String(), tc.text) {
				t.Errorf("%q, %v", text.String(), err)
			}
		})
	}
}
