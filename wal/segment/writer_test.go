package segment_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// noise fills b with bytes that do not compress.
func noise(b []byte, seed byte) {
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
}

func noisePage(size int) []byte {
	b := make([]byte, size)
	noise(b, 1)
	return b
}

func noSums(wal.PageNo) state.Sum { return 0 }

// TestOrder calls a Writer in every way that it must refuse.
func TestOrder(t *testing.T) {
	t.Parallel()
	page := make([]byte, 512)
	ok := segment.Header{PageSize: 512, First: 1}
	closed := func(w *segment.Writer) error {
		_, err := w.Commit(segment.Commit{})
		return errors.Join(err, second(w.Close(noSums)))
	}
	tests := []struct {
		name string
		hdr  segment.Header
		use  func(*segment.Writer) error
	}{
		{"close without a commit", ok, func(w *segment.Writer) error { return second(w.Close(noSums)) }},
		{"close in a transaction", ok, func(w *segment.Writer) error {
			_, err := w.Commit(segment.Commit{})
			err = errors.Join(err, w.Full(1, page))
			return errors.Join(err, second(w.Close(noSums)))
		}},
		{"page 0", ok, func(w *segment.Writer) error { return w.Full(0, page) }},
		{"short image", ok, func(w *segment.Writer) error { return w.Full(1, page[1:]) }},
		{"long image", ok, func(w *segment.Writer) error { return w.Full(1, append(page, 0)) }},
		{"short delta", ok, func(w *segment.Writer) error { return w.Delta(1, page[1:], page[1:]) }},
		{"short delta base", ok, func(w *segment.Writer) error { return w.Delta(1, page, page[1:]) }},
		{"no delta base", ok, func(w *segment.Writer) error { return w.Delta(1, page, nil) }},
		{"short copy", ok, func(w *segment.Writer) error { return w.Copy(segment.Record{Page: 1, Data: page[1:]}) }},
		{"unknown flags", ok, func(w *segment.Writer) error { return second(w.Commit(segment.Commit{Flags: 4})) }},
		{"page size", segment.Header{PageSize: 513, First: 1}, closed},
		{"no first TXID", segment.Header{PageSize: 512}, closed},
		{"full after close", ok, func(w *segment.Writer) error { return after(closed(w), func() error { return w.Full(1, page) }) }},
		{"commit after close", ok, func(w *segment.Writer) error {
			return after(closed(w), func() error { return second(w.Commit(segment.Commit{})) })
		}},
		{"flush after close", ok, func(w *segment.Writer) error { return after(closed(w), w.Flush) }},
		{"close after close", ok, func(w *segment.Writer) error {
			return after(closed(w), func() error { return second(w.Close(noSums)) })
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.use(segment.NewWriter(io.Discard, tt.hdr)); !errors.Is(err, segment.ErrOrder) {
				t.Errorf("error %v, want ErrOrder", err)
			}
		})
	}
}

// after gives the error of a call that comes after a close without an error.
func after(closed error, call func() error) error {
	if closed != nil {
		return errors.New("close has failed") // and that is not ErrOrder
	}
	return call()
}

// TestRefusedCallsLeaveNothing goes on after calls that were refused.
func TestRefusedCallsLeaveNothing(t *testing.T) {
	t.Parallel()
	h := small()
	var b bytes.Buffer
	w := segment.NewWriter(&b, h.hdr)
	for _, rec := range h.records() {
		for _, err := range []error{
			w.Full(0, make([]byte, 512)), w.Delta(7, make([]byte, 512), nil), w.Full(7, nil),
			second(w.Commit(segment.Commit{Flags: 128})), w.Copy(segment.Record{Commit: segment.Commit{TXID: 99}}),
		} {
			if err == nil {
				t.Fatal("not refused")
			}
		}
		if err := w.Copy(rec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(table(512, h.pages()).At); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), h.closed(t)) {
		t.Error("refused calls have left something")
	}
}

// TestCopyNeedsTheNextCommit copies a commit that does not follow.
func TestCopyNeedsTheNextCommit(t *testing.T) {
	t.Parallel()
	w := segment.NewWriter(io.Discard, segment.Header{PageSize: 512, First: 4})
	for _, id := range []state.TXID{3, 5} {
		if err := w.Copy(segment.Record{Commit: segment.Commit{TXID: id}}); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("commit %v: error %v, want ErrCorrupt", id, err)
		}
	}
	if err := w.Copy(segment.Record{Commit: segment.Commit{TXID: 4}}); err != nil {
		t.Error(err)
	}
}

// full is a writer that takes n bytes, fails once and then takes everything.
type full struct{ n int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	n := min(f.n, len(p))
	if f.n -= n; n < len(p) {
		f.n = 1 << 30
		return n, errFull
	}
	return n, nil
}

// TestWriteErrorsStick lets the underlying writer fail at every byte.
func TestWriteErrorsStick(t *testing.T) {
	t.Parallel()
	h := small()
	for n := range flushed().closed(t) {
		w := segment.NewWriter(&full{n}, h.hdr)
		var first error
		call := func(err error) {
			if first != nil && err != first { //nolint:errorlint // the very same
				t.Errorf("full at %d: error %v after %v", n, err, first)
			}
			first = err
		}
		for _, rec := range h.records() {
			call(w.Copy(rec))
			call(w.Flush())
		}
		_, err := w.Close(table(512, h.pages()).At)
		call(err)
		call(w.Flush())
		if !errors.Is(first, errFull) || w.Stored() != int64(n) {
			t.Errorf("full at %d: error %v, %d bytes stored", n, first, w.Stored())
		}
	}
}

// TestFlushBringsCommits reads, after each flush, every commit so far.
func TestFlushBringsCommits(t *testing.T) {
	t.Parallel()
	h := small()
	var b bytes.Buffer
	w := segment.NewWriter(&b, h.hdr)
	for i, rec := range h.records() {
		if err := errors.Join(w.Copy(rec), w.Flush(), w.Flush()); err != nil {
			t.Fatal(err)
		}
		_, got, err := read(bytes.NewReader(b.Bytes()), -1)
		if err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatal(err)
		}
		if diff := differ(h.records()[:i+1], got); diff != "" {
			t.Errorf("after record %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestStreamsInBoundedMemory writes one long transaction. It measures the whole
// process, so it is not parallel.
func TestStreamsInBoundedMemory(t *testing.T) {
	const frames = 300 << 20 / 65536
	w := segment.NewWriter(io.Discard, segment.Header{PageSize: 65536, First: 1, Time: time.UnixMilli(1)})
	page := noisePage(65536)
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	before, most := inUse(), int64(0)
	for i := range frames {
		if err := w.Full(wal.PageNo(i+1), page); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			most = max(most, inUse()-before)
		}
	}
	if _, err := w.Commit(segment.Commit{Pages: frames}); err != nil {
		t.Fatal(err)
	}
	most = max(most, inUse()-before)
	if _, err := w.Close(noSums); err != nil {
		t.Fatal(err)
	}
	if most > 20<<20 {
		t.Errorf("the heap grew by %d bytes", most)
	}
}
