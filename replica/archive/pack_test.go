package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// logged makes a replica whose log has so many segments, of one to three commits
// each, in which the database shrinks and grows.
func logged(t *testing.T, segments int) *history {
	t.Helper()
	h := begin(t, 512, 6)
	for range segments {
		for range 1 + h.rng.IntN(3) {
			h.commit(2 + h.rng.IntN(9))
		}
		h.segment()
	}
	return h
}

// end is the last commit of one of the log's objects.
func end(h *history, log []archive.Segment, i int) state.TXID {
	if log[i].IsPack() {
		return log[i].Last
	}
	if i+1 < len(log) {
		return log[i+1].First - 1
	}
	return h.last()
}

// join joins the objects [from, to) of the log.
func (h *history) join(from, to int, opts archive.JoinOptions) (archive.Segment, error) {
	h.t.Helper()
	a := h.open()
	log := a.Listing().Segments
	return a.Join(h.t.Context(), log[from:to], end(h, log, to-1), opts)
}

// look is all that can be read off a log: the commits with their times, and the
// records.
type look struct {
	Commits []archive.Commit
	Records []segment.Record
	Sums    state.Checksum
}

func (h *history) look() (l look) {
	h.t.Helper()
	a := h.open()
	err := a.Commits(h.t.Context(), archive.Query{}, func(c archive.Commit) error {
		c.Bytes = 0 // a share of its object
		l.Commits = append(l.Commits, c)
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range a.Listing().Segments {
		b := h.object(s.Key())
		r, err := segment.NewReader(bytes.NewReader(b), s.Size)
		for err == nil {
			var rec segment.Record
			if rec, err = r.Next(); err == nil {
				rec.Data = bytes.Clone(rec.Data)
				l.Records = append(l.Records, rec)
			}
		}
		if !errors.Is(err, io.EOF) {
			h.t.Fatal(s.Key(), err)
		}
	}
	table, err := a.Table(h.t.Context(), 0, nil, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	l.Sums = table.Checksum()
	return l
}

func (h *history) object(key string) []byte {
	h.t.Helper()
	r, err := h.bucket.Get(h.t.Context(), key, 0, -1)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// keys are the objects of the log and the packs.
func (h *history) keys() (keys []string) {
	h.t.Helper()
	for _, prefix := range []string{"log/", "pack/"} {
		err := h.bucket.List(h.t.Context(), prefix, "", func(o storage.Info) error {
			keys = append(keys, o.Key)
			return nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return keys
}

// TestJoin joins segments, and then packs and segments: the log reads the same,
// also when what was joined is deleted.
func TestJoin(t *testing.T) {
	t.Parallel()
	h := logged(t, 20)
	want := h.look()
	for _, r := range [][2]int{{0, 5}, {1, 4}, {3, 9}, {0, 2}} {
		a := h.open()
		log := slices.Clone(a.Listing().Segments)
		pack, err := h.join(r[0], r[1], archive.JoinOptions{Writer: "packer"})
		if err != nil {
			t.Fatal(err)
		}
		head, err := a.SegmentHeader(t.Context(), pack)
		if err != nil || head.Writer != "packer" {
			t.Errorf("pack of %v has writer %q, error %v", r, head.Writer, err)
		}
		after := h.open().Listing()
		if diff := cmp.Diff(slices.Replace(slices.Clone(log), r[0], r[1], pack), after.Segments); diff != "" {
			t.Fatalf("the log after joining %v (-want +got):\n%s", r, diff)
		}
		if diff := cmp.Diff(log[r[0]:r[1]], after.Covered); diff != "" {
			t.Errorf("covered after joining %v (-want +got):\n%s", r, diff)
		}
		for range 2 {
			if diff := cmp.Diff(want, h.look()); diff != "" {
				t.Errorf("after joining %v (-want +got):\n%s", r, diff)
			}
			for _, s := range after.Covered {
				if err := h.bucket.Delete(t.Context(), s.Key()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestJoinLocal reads local copies where there are some, and gives a copy.
func TestJoinLocal(t *testing.T) {
	t.Parallel()
	h := logged(t, 6)
	counter := storage.Count(h.bucket)
	bucket := h.bucket
	h.bucket = counter
	a := h.open()
	log := a.Listing().Segments
	before := counter.Requests()
	var closed int
	var copied bytes.Buffer
	pack, err := a.Join(t.Context(), log, end(h, log, 5), archive.JoinOptions{
		Local: func(s archive.Segment) io.ReadCloser {
			if s == log[2] {
				return nil
			}
			r, err := bucket.Get(t.Context(), s.Key(), 0, -1)
			if err != nil {
				t.Error(err)
			}
			return closing{r, &closed}
		},
		Tee: &copied,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := counter.Requests().Sub(before), (storage.Requests{Get: 1, Put: 1}); got != want {
		t.Errorf("requests %+v, want %+v", got, want)
	}
	if closed != 5 {
		t.Errorf("%d local copies closed, want 5", closed)
	}
	if !bytes.Equal(copied.Bytes(), h.object(pack.Key())) || pack.Size != int64(copied.Len()) {
		t.Errorf("the copy has %d bytes and is not the pack of %d", copied.Len(), pack.Size)
	}
}

type closing struct {
	io.Reader
	n *int
}

func (c closing) Close() error { *c.n++; return nil }

// TestJoinAgain joins what has been joined, by the same process and by another one.
func TestJoinAgain(t *testing.T) {
	t.Parallel()
	h := logged(t, 6)
	a := h.open()
	log := a.Listing().Segments
	first, err := a.Join(t.Context(), log, end(h, log, 5), archive.JoinOptions{Writer: "one"})
	if err != nil {
		t.Fatal(err)
	}
	was := h.object(first.Key())
	for _, b := range []storage.Bucket{h.bucket, eager{h.bucket}} {
		for _, writer := range []string{"one", "two, which is longer"} {
			again, err := reopened(t, b).Join(t.Context(), log, end(h, log, 5), archive.JoinOptions{Writer: writer})
			if err != nil || again != first {
				t.Errorf("joined again by %q: %v, error %v, want %v", writer, again, err, first)
			}
		}
	}
	if !bytes.Equal(was, h.object(first.Key())) {
		t.Error("the pack has changed")
	}
	for name, other := range map[string][]byte{"damaged": damaged(was), "other history": h.elsewhere(first)} {
		put(t, h.bucket, first.Key(), other)
		if _, err := a.Join(t.Context(), log, end(h, log, 5), archive.JoinOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// eager is a bucket that looks whether an object exists before it reads the body.
type eager struct{ storage.Bucket }

func (e eager) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if r, err := e.Get(ctx, key, 0, 1); err == nil {
		return errors.Join(storage.ErrExists, r.Close())
	}
	return e.Bucket.Put(ctx, key, body, opts)
}

func reopened(t *testing.T, b storage.Bucket) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func damaged(b []byte) []byte {
	b = bytes.Clone(b)
	b[segment.HeaderSize+40] ^= 1 // an index does not show it
	return b
}

// elsewhere is a whole segment with the same commits of another history, which is
// the same until then.
func (h *history) elsewhere(s archive.Segment) []byte {
	h.t.Helper()
	was := h.states[s.First-2].table(h.size)
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{
		PageSize: h.size, Replica: h.arch.Meta().Replica, First: s.First, Before: was.Checksum(), PagesBefore: was.Len(), Time: h.times[s.First-1],
	})
	for id := s.First; id <= s.Last; id++ {
		if _, err := w.Commit(segment.Commit{Time: h.times[id-1], Pages: uint32(len(h.states[id-1])), After: 1}); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := w.Close(func(wal.PageNo) state.Sum { return 1 }); err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes()
}

// TestJoinLostReply joins when the answer to the PUT gets lost.
func TestJoinLostReply(t *testing.T) {
	t.Parallel()
	h := logged(t, 4)
	log := h.open().Listing().Segments
	lost := errors.New("the answer is lost")
	b := &lossy{Bucket: h.bucket, err: lost}
	a := reopened(t, b)
	if _, err := a.Join(t.Context(), log, end(h, log, 3), archive.JoinOptions{}); !errors.Is(err, lost) {
		t.Fatalf("error %v, want the lost answer", err)
	}
	b.err = nil
	pack, err := a.Join(t.Context(), log, end(h, log, 3), archive.JoinOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]archive.Segment{pack}, h.open().Listing().Segments); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// lossy is a bucket whose Put is done and then fails.
type lossy struct {
	storage.Bucket
	err error
}

func (d *lossy) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	return errors.Join(d.Bucket.Put(ctx, key, body, opts), d.err)
}

// TestJoinRefuses joins what does not belong together. No pack is made of it.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(h *history, log *[]archive.Segment)
		at   int // of the object that is to blame
		want error
	}{
		{"gap", func(_ *history, log *[]archive.Segment) { *log = slices.Delete(*log, 2, 3) }, 2, archive.ErrBroken},
		{"short", func(_ *history, log *[]archive.Segment) { *log = slices.Delete(*log, 5, 6) }, 4, archive.ErrBroken},
		{"missing", func(h *history, log *[]archive.Segment) {
			if err := h.bucket.Delete(h.t.Context(), (*log)[3].Key()); err != nil {
				h.t.Fatal(err)
			}
		}, 3, storage.ErrNotExist},
		{"damaged", func(h *history, log *[]archive.Segment) {
			put(h.t, h.bucket, (*log)[3].Key(), damaged(h.object((*log)[3].Key())))
		}, 3, block.ErrCorrupt},
		{"cut off", func(h *history, log *[]archive.Segment) {
			b := h.object((*log)[5].Key())
			put(h.t, h.bucket, (*log)[5].Key(), b[:len(b)-1])
		}, 5, block.ErrCorrupt},
		{"another state", func(h *history, log *[]archive.Segment) {
			s := (*log)[1]
			s.Last = (*log)[2].First - 1
			put(h.t, h.bucket, s.Key(), h.elsewhere(s))
			s.Size = int64(len(h.object(s.Key())))
			(*log)[1] = s
		}, 2, archive.ErrBroken},
		{"under another key", func(h *history, log *[]archive.Segment) {
			put(h.t, h.bucket, (*log)[2].Key(), h.object((*log)[3].Key()))
			(*log)[2].Size = (*log)[3].Size
		}, 2, archive.ErrBroken},
		{"of another replica", func(h *history, log *[]archive.Segment) {
			other := logged(h.t, 1)
			put(h.t, h.bucket, (*log)[0].Key(), other.object((*log)[0].Key()))
			(*log)[0].Size = other.open().Listing().Segments[0].Size
		}, 0, archive.ErrBroken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := logged(t, 6)
			a := h.open()
			log := slices.Clone(a.Listing().Segments)
			last := end(h, log, 5)
			tt.do(h, &log)
			keys := h.keys()
			_, err := a.Join(t.Context(), log, last, archive.JoinOptions{})
			var where *archive.JoinError
			if !errors.Is(err, tt.want) || !errors.As(err, &where) || where.Segment != log[tt.at] {
				t.Errorf("error %v, want %v at %s", err, tt.want, log[tt.at].Key())
			}
			if diff := cmp.Diff(keys, h.keys()); diff != "" {
				t.Errorf("objects (-before +after):\n%s", diff)
			}
		})
	}
}

// TestJoinStops ends a Join by its context, and by storage that fails.
func TestJoinStops(t *testing.T) {
	t.Parallel()
	h := logged(t, 6)
	log := h.open().Listing().Segments
	a := reopened(t, refusing{h.bucket})
	if _, err := a.Join(t.Context(), log, end(h, log, 5), archive.JoinOptions{}); !errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("error %v, want that storage is unreachable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.open().Join(ctx, log, end(h, log, 5), archive.JoinOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was canceled", err)
	}
	if n := len(h.open().Listing().Covered); n != 0 {
		t.Errorf("%d objects are covered", n)
	}
}

// refusing is a bucket that reads a little of what is put, and fails.
type refusing struct{ storage.Bucket }

func (r refusing) Put(_ context.Context, _ string, body io.Reader, _ storage.PutOptions) error {
	_, err := io.ReadFull(body, make([]byte, 100))
	return errors.Join(err, storage.ErrUnreachable)
}

// TestJoinKeepsTimes joins segments whose first commits have the very time of the
// last one before.
func TestJoinKeepsTimes(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 3)
	for range 3 {
		h.commitAt(3, at(7))
		h.segment()
	}
	want := h.look()
	if _, err := h.join(0, 3, archive.JoinOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, h.look()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
