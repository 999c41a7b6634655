package archive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

func mark(name string, id state.TXID) archive.Mark {
	return archive.Mark{Name: name, TXID: id, Time: at(int(id)), Created: at(1000)}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	a := h.open()
	marks := []archive.Mark{mark("v1.0", 2), mark("a", 7), mark("before-migration_2", 7), mark(strings.Repeat("x", 100), 9)}
	for _, i := range []int{2, 0, 3, 1} {
		if err := a.PutMark(t.Context(), marks[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"mark/no name.json", "mark/a/b.json", "mark/a.txt", "mark/.json", "mark/-x.json"} {
		if storage.ValidKey(key) {
			put(t, h.bucket, key, []byte("not a mark"))
		}
	}
	check := func(want ...archive.Mark) {
		t.Helper()
		got, err := a.Marks(t.Context()) // of now, not of when it was opened
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		if l := h.open().Listing(); len(l.Marks) < len(want) || len(l.Segments)+len(l.Covered) > 0 {
			t.Errorf("the listing is %+v", l)
		}
	}
	check(marks...)
	if got, err := a.Mark(t.Context(), "v1.0"); got != marks[0] || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if err := a.PutMark(t.Context(), marks[0]); err != nil {
		t.Errorf("once more: %v", err)
	}
	err := a.PutMark(t.Context(), mark("a", 8))
	if !errors.Is(err, archive.ErrMarked) || !strings.Contains(err.Error(), "a is TXID 7 of 2026-01-02T03:04:12.000Z, marked ") {
		t.Errorf("a name in use gives %v", err)
	}
	if err := a.DeleteMark(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	check(marks[0], marks[2], marks[3])
	for _, err := range []error{a.DeleteMark(t.Context(), "a"), ignore(a.Mark(t.Context(), "a"))} {
		if !errors.Is(err, archive.ErrNoMark) || !strings.Contains(err.Error(), ": a") {
			t.Errorf("a mark that is gone gives %v", err)
		}
	}
	if err := a.PutMark(t.Context(), mark("a", 8)); err != nil {
		t.Errorf("the name is free again: %v", err)
	}
}

func ignore(_ archive.Mark, err error) error { return err }

func TestMarkNames(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	for _, name := range []string{
		"", ".", "..", ".hidden", "-f", "_x", "a b", "a/b", "../tidemark", "a\\b", "é", "a\x00", "a\n", "a:b", "a%2fb", "a~", strings.Repeat("x", 101),
	} {
		for _, err := range []error{
			archive.CheckMarkName(name), h.arch.PutMark(t.Context(), mark(name, 1)), h.arch.DeleteMark(t.Context(), name),
			ignore(h.arch.Mark(t.Context(), name)),
		} {
			if !errors.Is(err, archive.ErrMarkName) {
				t.Errorf("%q gives %v", name, err)
			}
		}
	}
	for _, name := range []string{"a", "7", "Z", "v1.0", "a-b_c.d", "0.json", "a..b", "x."} {
		if err := archive.CheckMarkName(name); err != nil || !storage.ValidKey("mark/"+name+".json") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A mark that can't be read is an error wherever what it marks matters, and can be
// deleted.
func TestMarkDamaged(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content string
		want    error
	}{
		"empty":   {"", block.ErrCorrupt},
		"no JSON": {"x", block.ErrCorrupt},
		"no TXID": {`{"format":1}`, block.ErrCorrupt},
		"words":   {`{"format":1,"txid":"two"}`, block.ErrCorrupt},
		"foreign": {`{"txid":2}`, block.ErrCorrupt},
		"later":   {`{"format":2,"txid":{"id":2}}`, block.ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := begin(t, 512, 3)
			put(t, h.bucket, "mark/m.json", []byte(tc.content))
			_, err := h.arch.Marks(t.Context())
			for _, err := range []error{err, ignore(h.arch.Mark(t.Context(), "m")), h.arch.PutMark(t.Context(), mark("m", 3))} {
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "mark/m.json") {
					t.Errorf("got %v, want %v", err, tc.want)
				}
			}
			if err := h.arch.DeleteMark(t.Context(), "m"); err != nil {
				t.Error(err)
			}
			if marks, err := h.arch.Marks(t.Context()); len(marks) > 0 || err != nil {
				t.Error(marks, err)
			}
		})
	}
}

// Of many who want a name one gets it.
func TestMarkRace(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { errs[i] = h.arch.PutMark(t.Context(), mark("m", state.TXID(i+1))) })
	}
	wg.Wait()
	got, err := h.arch.Mark(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if mine := got.TXID == state.TXID(i+1); mine != (err == nil) || !mine && !errors.Is(err, archive.ErrMarked) {
			t.Errorf("%d: %v, and the mark is of TXID %v", i, err, got.TXID)
		}
	}
}

// overtaken is a bucket in which somebody puts an object right after it was found
// not to be there.
type overtaken struct {
	storage.Bucket
	once sync.Once
	put  func()
}

func (o *overtaken) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := o.Bucket.Get(ctx, key, off, n)
	if errors.Is(err, storage.ErrNotExist) {
		o.once.Do(o.put)
	}
	return r, err
}

func TestMarkOvertaken(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	a, b := h.open(), &overtaken{Bucket: h.bucket}
	b.put = func() {
		if err := a.PutMark(t.Context(), mark("m", 1)); err != nil {
			t.Error(err)
		}
	}
	h.bucket = b
	if err := h.open().PutMark(t.Context(), mark("m", 2)); !errors.Is(err, archive.ErrMarked) || !strings.Contains(err.Error(), "TXID 1 ") {
		t.Errorf("got %v", err)
	}
}

// careless is a bucket that ignores or refuses conditions.
type careless struct {
	storage.Bucket
	refuses bool
}

func (c careless) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if opts.IfAbsent && c.refuses {
		return fmt.Errorf("put %s: %w", key, storage.ErrUnconditional)
	}
	opts.IfAbsent = false
	return c.Bucket.Put(ctx, key, body, opts)
}

// Also without conditional writes no mark is overwritten.
func TestMarkUnconditional(t *testing.T) {
	t.Parallel()
	for _, refuses := range []bool{false, true} {
		h := begin(t, 512, 3)
		h.bucket = careless{h.bucket, refuses}
		a := h.open()
		if err := a.PutMark(t.Context(), mark("m", 1)); err != nil {
			t.Fatal(err)
		}
		if err := a.PutMark(t.Context(), mark("m", 2)); !errors.Is(err, archive.ErrMarked) {
			t.Errorf("a name in use gives %v", err)
		}
		if got, err := a.Mark(t.Context(), "m"); got.TXID != 1 || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// Times are kept to the millisecond, in UTC.
func TestMarkTimes(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	zone := time.FixedZone("", 3600)
	when := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, zone)
	if err := h.arch.PutMark(t.Context(), archive.Mark{Name: "m", TXID: 1, Time: when, Created: when}); err != nil {
		t.Fatal(err)
	}
	want := time.Date(2026, 1, 2, 2, 4, 5, 678_000_000, time.UTC)
	if got, err := h.arch.Mark(t.Context(), "m"); got.Time != want || got.Created != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCommitTime(t *testing.T) {
	t.Parallel()
	h := bare(t, 512, 3)
	h.commits(5)
	h.segment()
	h.snapshot(2)
	h.snapshot(6)
	h.commits(2)
	h.segment()
	a := h.open()
	for id := state.TXID(2); id <= 8; id++ {
		if got, err := a.CommitTime(t.Context(), id); !got.Equal(h.times[id-1]) || err != nil {
			t.Errorf("TXID %v: %v, %v; want %v", id, got, err, h.times[id-1])
		}
	}
	for _, id := range []state.TXID{0, 1, 9, 100} {
		if got, err := a.CommitTime(t.Context(), id); !errors.Is(err, archive.ErrOutOfRange) {
			t.Errorf("TXID %v: %v, %v", id, got, err)
		}
	}
	if err := h.bucket.Delete(t.Context(), archive.SegmentKey(2)); err != nil {
		t.Fatal(err)
	}
	if got, err := h.open().CommitTime(t.Context(), 6); !got.Equal(h.times[5]) || err != nil {
		t.Errorf("of a snapshot without a log: %v, %v", got, err)
	}
}
