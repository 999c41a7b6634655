package archive_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	const (
		good = `{"format":1,"replica":"000102030405060708090a0b0c0d0e0f","page_size":4096,"created":"2026-01-02T03:04:05Z"}`
		seg  = "log/0000000000000002.seg"
		snap = "snapshot/0000000000000001-0000000000000000.snap"
	)
	for name, tc := range map[string]struct {
		objects map[string]string
		want    error
		says    string
	}{
		"empty":            {nil, archive.ErrNoReplica, "tidemark.json"},
		"foreign objects":  {map[string]string{"a": "", "log/readme": "", "tidemark.json.bak": good}, archive.ErrNoReplica, ""},
		"meta only":        {map[string]string{"tidemark.json": good}, nil, ""},
		"segment only":     {map[string]string{seg: ""}, archive.ErrBroken, "tidemark.json is missing beside 1"},
		"all but meta":     {map[string]string{seg: "", snap: ""}, archive.ErrBroken, "tidemark.json is missing beside 2"},
		"later format":     {map[string]string{"tidemark.json": strings.Replace(good, "1", "2", 1)}, block.ErrVersion, "2, this program reads 1"},
		"much later":       {map[string]string{"tidemark.json": `{"format":3,"replica":{"id":7},"page_size":"4K"}`}, block.ErrVersion, "3, this program reads 1"},
		"later, with more": {map[string]string{"tidemark.json": strings.Replace(good, "{", `{"more":[{}],`, 1)}, nil, ""},
		"no format":        {map[string]string{"tidemark.json": `{}`}, block.ErrCorrupt, "tidemark.json"},
		"no bytes":         {map[string]string{"tidemark.json": ""}, block.ErrCorrupt, "tidemark.json"},
		"cut off":          {map[string]string{"tidemark.json": good[:60]}, block.ErrCorrupt, "tidemark.json"},
		"null":             {map[string]string{"tidemark.json": "null"}, block.ErrCorrupt, "tidemark.json"},
		"another kind":     {map[string]string{"tidemark.json": `"tidemark"`}, block.ErrCorrupt, "tidemark.json"},
		"format in words":  {map[string]string{"tidemark.json": strings.Replace(good, "1", `"one"`, 1)}, block.ErrCorrupt, "tidemark.json"},
		"short id":         {map[string]string{"tidemark.json": strings.Replace(good, "00010203", "", 1)}, block.ErrCorrupt, "tidemark.json"},
		"id of no hex":     {map[string]string{"tidemark.json": strings.Replace(good, "00010203", "0001020x", 1)}, block.ErrCorrupt, "tidemark.json"},
		"page size":        {map[string]string{"tidemark.json": strings.Replace(good, "4096", "4095", 1)}, block.ErrCorrupt, "tidemark.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := mem.New()
			for key, content := range tc.objects {
				put(t, b, key, []byte(content))
			}
			_, err := archive.Open(t.Context(), b)
			if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// A replica that was created and got nothing more holds no state.
func TestCreated(t *testing.T) {
	t.Parallel()
	h := bare(t, 512, 3)
	a := h.open()
	if diff := cmp.Diff(h.arch.Meta(), a.Meta()); diff != "" {
		t.Errorf("meta (-created +opened):\n%s", diff)
	}
	if got := a.Meta(); got.Format != 1 || got.PageSize != 512 || !got.Created.Equal(epoch()) {
		t.Errorf("meta %+v", got)
	}
	assertNothing(t, a)
	h.commits(3)
	h.segment() // the first snapshot may come later than the first commits
	a = h.open()
	assertNothing(t, a)
	if head, err := a.Head(t.Context()); err != nil || head.Last != 4 {
		t.Errorf("head %+v, %v", head, err)
	}
}

// assertNothing checks that nothing can be restored yet.
func assertNothing(t *testing.T, a *archive.Archive) {
	t.Helper()
	if _, err := a.Range(t.Context()); !errors.Is(err, archive.ErrNoReplica) {
		t.Errorf("range: %v", err)
	}
	if _, _, err := a.Plan(t.Context(), 0); !errors.Is(err, archive.ErrNoReplica) {
		t.Errorf("plan: %v", err)
	}
	if _, _, err := a.At(t.Context(), at(100)); !errors.Is(err, archive.ErrNoReplica) {
		t.Errorf("at: %v", err)
	}
	if err := a.Commits(t.Context(), archive.Query{}, nil); !errors.Is(err, archive.ErrNoReplica) {
		t.Errorf("commits: %v", err)
	}
	if _, err := a.Table(t.Context(), 0, nil, 0); !errors.Is(err, archive.ErrBroken) {
		t.Errorf("table: %v", err)
	}
}

// Keys that are not of the layout are nobody's business.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	h.commits(2)
	h.segment()
	want := h.open().Listing()
	for _, key := range []string{
		"readme.txt", "log/readme.txt", "log/0000000000000009.seg.tmp", "log/0000000000000009", "log/9.seg",
		"log/000000000000000A.seg", "log/0000000000000000.seg", "log/00000000000000009.seg", "log/sub/0000000000000009.seg",
		"logs/0000000000000009.seg", "old/log/0000000000000009.seg", "snapshot/0000000000000009.snap",
		"snapshot/0000000000000009-0000000000000009.snap", "snapshot/0000000000000009-000000000000000a.snap",
		"snapshot/0000000000000009-0000000000000000.snap.part", "snapshot/0000000000000009-0000000000000000-0000000000000000.snap",
		"snapshot/-0000000000000000.snap", "tidemark.json.bak",
	} {
		put(t, h.bucket, key, []byte("x"))
	}
	if diff := cmp.Diff(want, h.open().Listing(), cmp.AllowUnexported(archive.Listing{})); diff != "" {
		t.Errorf("listing (-before +after):\n%s", diff)
	}
}

// Of all that create a replica at once one does, and the replica is its.
func TestCreateRace(t *testing.T) {
	t.Parallel()
	b := mem.New()
	made := make([]*archive.Archive, 16)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			a, err := archive.Create(t.Context(), b, 512, epoch())
			if err != nil && !errors.Is(err, archive.ErrFenced) {
				t.Error(err)
			}
			made[i] = a
		})
	}
	all.Wait()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for _, m := range made {
		if m != nil {
			won++
			if m.Meta() != a.Meta() {
				t.Errorf("the winner's meta is %+v, the replica's %+v", m.Meta(), a.Meta())
			}
		}
	}
	if won != 1 {
		t.Errorf("%d created it", won)
	}
}

func TestPutSegment(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 30)
	h.commits(20)
	ours, theirs := h.file(2, 11), h.file(2, 21)
	for range 2 { // an answer may get lost
		if err := h.arch.PutSegment(t.Context(), 2, fileBody(ours)); err != nil {
			t.Error(err)
		}
	}
	want := object(t, h.bucket, archive.SegmentKey(2))
	b, err := os.ReadFile(ours)
	if err != nil || string(b) != want {
		t.Errorf("not what is in the file (%v)", err)
	}
	b[len(b)-1] ^= 1
	for name, path := range map[string]string{
		"longer": theirs, "shorter": file(t, b[:len(b)-1]), "other last byte": file(t, b), "empty": file(t, nil),
	} {
		if err := h.arch.PutSegment(t.Context(), 2, fileBody(path)); !errors.Is(err, archive.ErrFenced) || !strings.Contains(err.Error(), archive.SegmentKey(2)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if object(t, h.bucket, archive.SegmentKey(2)) != want {
		t.Error("it was replaced")
	}
	if err := h.arch.PutSegment(t.Context(), 12, fileBody(filepath.Join(t.TempDir(), "none"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func file(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func object(t *testing.T, b storage.Bucket, key string) string {
	t.Helper()
	r, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// deaf is a bucket whose answers get lost: every Put takes effect, and fails;
// the retry finds the object.
type deaf struct{ storage.Bucket }

func (d deaf) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if err := d.Bucket.Put(ctx, key, body, opts); err != nil {
		return err
	}
	return storage.ErrExists
}

// An object that is in the way and is one's own is success.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	inner := mem.New()
	b := deaf{inner}
	a, err := archive.Create(t.Context(), b, 512, epoch())
	if err != nil {
		t.Fatal(err)
	}
	h := bare(t, 512, 40)
	head := snapshot.Header{PageSize: 512, TXID: 1, Pages: 40, Time: epoch().UnixMilli()}
	if _, err := a.PutSnapshot(t.Context(), head, h.states[0], snapshot.WriteOptions{}); err != nil {
		t.Error(err)
	}
	other := pages{h.page()}
	head.Pages = 1
	if _, err := a.PutSnapshot(t.Context(), head, other, snapshot.WriteOptions{}); !errors.Is(err, archive.ErrFenced) {
		t.Errorf("another one: %v", err)
	}
	got, err := archive.Open(t.Context(), inner)
	if err != nil || got.Meta() != a.Meta() {
		t.Errorf("opened %+v, %v", got, err)
	}
}

// An object that lies under another's key is not taken for it.
func TestWrongPlace(t *testing.T) {
	t.Parallel()
	h, foreign := begin(t, 512, 5), begin(t, 512, 5)
	for _, x := range []*history{h, foreign} {
		x.commits(6)
		x.segmentUpTo(4)
		x.segment()
	}
	first := object(t, h.bucket, archive.SegmentKey(2))
	full := object(t, h.bucket, archive.SnapshotKey(1, 0))
	put(t, h.bucket, archive.SegmentKey(5), []byte(first))
	put(t, h.bucket, archive.SegmentKey(8), []byte(object(t, foreign.bucket, archive.SegmentKey(5))))
	put(t, h.bucket, archive.SnapshotKey(2, 0), []byte(full))
	put(t, h.bucket, archive.SnapshotKey(3, 0), []byte(object(t, foreign.bucket, archive.SnapshotKey(1, 0))))
	a := h.open()
	for _, id := range []state.TXID{5, 8} {
		s := archive.Segment{First: id, Size: int64(len(object(t, h.bucket, archive.SegmentKey(id))))}
		_, _, err1 := a.Index(t.Context(), s)
		_, err2 := a.SegmentHeader(t.Context(), s)
		for _, err := range []error{err1, err2} {
			if !errors.Is(err, archive.ErrBroken) || !strings.Contains(err.Error(), s.Key()) {
				t.Errorf("%s: %v", s.Key(), err)
			}
		}
	}
	for _, s := range []archive.Snapshot{{TXID: 2, Size: int64(len(full))}, {TXID: 3, Size: int64(len(full))}, {TXID: 1, Base: 0, Size: int64(len(full))}} {
		_, err1 := a.Snapshot(t.Context(), s)
		_, err2 := a.SnapshotHeader(t.Context(), s)
		for _, err := range []error{err1, err2} {
			if s.TXID != 1 && (!errors.Is(err, archive.ErrBroken) || !strings.Contains(err.Error(), s.Key())) || s.TXID == 1 && err != nil {
				t.Errorf("%s: %v", s.Key(), err)
			}
		}
	}
}

// isBroken tells whether an error is ErrBroken and names an object.
func isBroken(err error, key string) bool {
	return errors.Is(err, archive.ErrBroken) && strings.Contains(err.Error(), key)
}
