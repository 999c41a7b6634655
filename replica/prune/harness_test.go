package prune_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidemark/replica/archive"
	"tidemark/replica/prune"
	"tidemark/replica/retain"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	pageSize = wal.PageSize(512)
	day      = 24 * time.Hour
)

func epoch() time.Time { return time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) }

// at is the time of a commit: there is one every hour.
func at(id state.TXID) time.Time { return epoch().Add(time.Duration(id) * time.Hour) }

// page is the only page of the database after a commit.
func page(id state.TXID) []byte {
	return bytes.Repeat([]byte{byte(id), byte(id >> 8)}, int(pageSize)/2)
}

func table(id state.TXID) *state.Table {
	t := state.NewTable(pageSize)
	t.Set(1, state.SumPage(1, page(id)))
	return t
}

// source is the database after a commit.
type source state.TXID

func (s source) ReadPages(_ wal.PageNo, buf []byte) error {
	copy(buf, page(state.TXID(s)))
	return nil
}

// fixture is a replica that is being made up.
type fixture struct {
	t      *testing.T
	bucket storage.Bucket
	arch   *archive.Archive
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	b := mem.New()
	a, err := archive.Create(t.Context(), b, pageSize, epoch())
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, b, a}
}

// snapshots puts full snapshots.
func (f *fixture) snapshots(ids ...state.TXID) {
	f.t.Helper()
	for _, id := range ids {
		h := snapshot.Header{PageSize: pageSize, TXID: id, Pages: 1, Time: at(id).UnixMilli()}
		if _, err := f.arch.PutSnapshot(f.t.Context(), h, source(id), snapshot.WriteOptions{Workers: 1}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// adding puts snapshots that each add to the one before them.
func (f *fixture) adding(base state.TXID, ids ...state.TXID) {
	f.t.Helper()
	for _, id := range ids {
		h := snapshot.Header{PageSize: pageSize, TXID: id, Base: base, Pages: 1, Time: at(id).UnixMilli()}
		changes := &snapshot.Changes{Base: table(base), Runs: []snapshot.Run{{First: 1, Pages: 1}}}
		if _, err := f.arch.PutSnapshot(f.t.Context(), h, source(id), snapshot.WriteOptions{Changes: changes, Workers: 1}); err != nil {
			f.t.Fatal(err)
		}
		base = id
	}
}

// segments puts segments, each from one commit to another.
func (f *fixture) segments(ids ...state.TXID) {
	f.t.Helper()
	for i := 0; i < len(ids); i += 2 {
		raw := f.segment(ids[i], ids[i+1])
		body := archive.Body{Size: int64(len(raw)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }}
		if err := f.arch.PutSegment(f.t.Context(), ids[i], body); err != nil {
			f.t.Fatal(err)
		}
	}
}

// packs puts packs, and leaves what they cover.
func (f *fixture) packs(ids ...state.TXID) {
	f.t.Helper()
	for i := 0; i < len(ids); i += 2 {
		f.put(archive.PackKey(ids[i], ids[i+1]), f.segment(ids[i], ids[i+1]))
	}
}

func (f *fixture) segment(first, last state.TXID) []byte {
	f.t.Helper()
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{
		PageSize: pageSize, Replica: f.arch.Meta().Replica, First: first,
		Before: table(first - 1).Checksum(), PagesBefore: 1, Time: at(first),
	})
	for id := first; id <= last; id++ {
		err := w.Full(1, page(id))
		if err == nil {
			_, err = w.Commit(segment.Commit{Time: at(id), Pages: 1, After: table(id).Checksum()})
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	if _, err := w.Close(table(last).At); err != nil {
		f.t.Fatal(err)
	}
	return b.Bytes()
}

func (f *fixture) mark(name string, id state.TXID) {
	f.t.Helper()
	if err := f.arch.PutMark(f.t.Context(), archive.Mark{Name: name, TXID: id, Time: at(id), Created: at(id)}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) put(key string, content []byte) {
	f.t.Helper()
	if err := f.bucket.Put(f.t.Context(), key, bytes.NewReader(content), storage.PutOptions{Size: -1}); err != nil {
		f.t.Fatal(err)
	}
}

// clone is the same replica in a bucket of its own.
func (f *fixture) clone() *fixture {
	f.t.Helper()
	c := &fixture{f.t, mem.New(), f.arch}
	for _, key := range f.keys() {
		c.put(key, f.get(key))
	}
	return c
}

func (f *fixture) get(key string) []byte {
	f.t.Helper()
	r, err := f.bucket.Get(f.t.Context(), key, 0, -1)
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		f.t.Fatal(err)
	}
	return b
}

// keys are those of all objects, but for tidemark.json.
func (f *fixture) keys() []string {
	f.t.Helper()
	var keys []string
	err := f.bucket.List(f.t.Context(), "", "", func(o storage.Info) error { keys = append(keys, o.Key); return nil })
	if err != nil {
		f.t.Fatal(err)
	}
	return keys
}

// look opens the replica in a bucket that stands before f's.
func (f *fixture) look(b storage.Bucket, known *prune.Known) *prune.Inventory {
	f.t.Helper()
	a, err := archive.Open(f.t.Context(), b)
	if err != nil {
		f.t.Fatal(err)
	}
	v, err := prune.Look(f.t.Context(), a, known)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func policy() retain.Policy {
	return retain.Policy{History: 7 * day, Hourly: 2 * day, Daily: 30 * day, Weekly: 364 * day, Grace: time.Hour}
}

// faulty is a bucket of which deletions fail.
type faulty struct {
	storage.Bucket
	// fail decides about the deletion of an object, the nth from 0 on.
	fail func(n int, key string) error

	mu      sync.Mutex // guards what follows
	tried   []string
	deleted []string
}

func (b *faulty) Delete(ctx context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.tried)
	b.tried = append(b.tried, key)
	if b.fail != nil {
		if err := b.fail(n, key); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	b.deleted = append(b.deleted, key)
	return b.Bucket.Delete(ctx, key)
}

func deletedKeys(r prune.Result) []string {
	out := []string{}
	for _, o := range r.Deleted {
		out = append(out, o.Key)
	}
	return out
}

func keysOf(v *prune.Inventory, items []retain.Item) []string {
	out := []string{}
	for _, i := range items {
		for _, o := range v.Objects(i) {
			out = append(out, o.Key)
		}
	}
	return out
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
