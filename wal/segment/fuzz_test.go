package segment_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// reseal makes every checksum of a damaged segment right again, so that a
// fuzzer gets behind them.
func reseal(b []byte) []byte {
	b = bytes.Clone(b)
	put := binary.BigEndian.PutUint64
	if len(b) < segment.HeaderSize+segment.TrailerSize {
		return b
	}
	const sumAt = segment.HeaderSize - 8
	put(b[sumAt:], xxhash.Sum64(b[:sumAt]))
	end := len(b) - segment.TrailerSize
	for at := segment.HeaderSize; at+block.HeaderSize <= end; {
		stored := int64(binary.BigEndian.Uint32(b[at+8:]))
		next := int64(at) + block.HeaderSize + stored
		if next > int64(end) {
			break
		}
		body := append(bytes.Clone(b[at:at+16]), b[at+block.HeaderSize:next]...)
		put(b[at+16:], xxhash.Sum64(body))
		at = int(next)
	}
	binary.BigEndian.PutUint32(b[end+44:], uint32(xxhash.Sum64(b[end:end+44])))
	put(b[end+48:], xxhash.Sum64(b[:end+48]))
	return b
}

// TestSeedsAreInTheTree keeps what is under testdata/fuzz in the format that is
// written now: seeds of another one lead a fuzzer nowhere.
func TestSeedsAreInTheTree(t *testing.T) {
	t.Parallel()
	for name, b := range namedSeeds(t) {
		for target, rest := range map[string]string{
			"FuzzReader":    fmt.Sprintf("bool(%v)\n", name != "unclosed" && name != "cut"),
			"FuzzReadIndex": "",
		} {
			path := filepath.Join("testdata/fuzz", target, name)
			want := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n%s", b, rest)
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%s is not what -update writes (%v)", path, err)
			}
		}
	}
}

// namedSeeds are those that stand under testdata/fuzz.
func namedSeeds(tb testing.TB) map[string][]byte {
	tb.Helper()
	whole := small().closed(tb)
	part, _ := flushed().unclosed(tb)
	changed := func(at int, v byte) []byte {
		b := bytes.Clone(whole)
		b[at] = v
		return reseal(b)
	}
	return map[string][]byte{
		"closed":              whole,
		"unclosed":            part,
		"cut":                 part[:len(part)-9],
		"index-flags":         changed(0x141, 0xff), // of the second commit
		"index-page-past-end": changed(0x18a, 0x7f), // the step to the second page
	}
}

func addSeeds(f *testing.F, add func([]byte)) {
	f.Helper()
	whole := small().closed(f)
	part, _ := flushed().unclosed(f)
	damaged := bytes.Clone(whole)
	damaged[0x141] = 0xff // the flags of the second commit in the index
	stored := storedSegment(f)
	for _, b := range [][]byte{nil, whole[:40], whole, part, damaged, reseal(damaged), flushed().closed(f), stored} {
		add(b)
	}
}

// storedSegment has a records block that is not compressed, which a fuzzer can
// change as it likes.
func storedSegment(f *testing.F) []byte {
	f.Helper()
	var b bytes.Buffer
	w := segment.NewWriter(&b, segment.Header{PageSize: 512, First: 1})
	noise := noisePage(512)
	err := w.Full(1, noise)
	if err == nil {
		_, err = w.Commit(segment.Commit{Pages: 1, After: table(512, [][]byte{noise}).Checksum()})
	}
	if err == nil {
		_, err = w.Close(table(512, [][]byte{noise}).At)
	}
	if err != nil {
		f.Fatal(err)
	}
	return b.Bytes()
}

// bounded runs fn and fails if it takes more than most bytes of memory, freed
// ones included.
func bounded(t *testing.T, most uint64, fn func()) {
	t.Helper()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.TotalAlloc
	fn()
	runtime.ReadMemStats(&m)
	if took := m.TotalAlloc - before; took > most {
		t.Errorf("%d bytes of memory taken, at most %d allowed", took, most)
	}
}

// FuzzReader reads from the beginning: no panic, no memory but for a block, no
// error of unknown kind, and no record that breaks a promise.
func FuzzReader(f *testing.F) {
	addSeeds(f, func(b []byte) {
		f.Add(b, true)
		f.Add(b, false)
	})
	f.Fuzz(func(t *testing.T, b []byte, closed bool) {
		for _, b := range [][]byte{b, reseal(b)} {
			size := int64(len(b))
			if !closed {
				size = -1
			}
			bounded(t, 6*block.Limit, func() { fuzzReader(t, b, size) })
		}
	})
}

func fuzzReader(t *testing.T, b []byte, size int64) {
	t.Helper()
	r, err := segment.NewReader(bytes.NewReader(b), size)
	if err != nil {
		if !known(err) {
			t.Errorf("header: error %v", err)
		}
		return
	}
	h, frames, last := r.Header(), uint32(0), r.Last()
	rec, err := r.Next()
	for ; err == nil; rec, err = r.Next() {
		if c := rec.Commit; c.TXID == 0 {
			frames++
			if rec.Page == 0 || len(rec.Data) != int(h.PageSize) {
				t.Errorf("page %v of %d bytes", rec.Page, len(rec.Data))
			}
		} else {
			if c.TXID != last.TXID+1 || c.Time.Before(last.Time) || c.Frames != frames || c.Bytes != 0 || c != r.Last() {
				t.Errorf("commit %+v after %+v and %d frames", c, last, frames)
			}
			last, frames = c, 0
		}
	}
	if err != io.EOF && !known(err) { //nolint:errorlint // bare by contract
		t.Errorf("error %v", err)
	}
	if err == io.EOF && size >= 0 && frames != 0 { //nolint:errorlint // as above
		t.Error("closed in a transaction")
	}
}

// FuzzReadIndex reads from the end, and all that the index tells.
func FuzzReadIndex(f *testing.F) {
	addSeeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			// LZ4 makes at most 255 bytes of one; the largest value that an
			// entry of them becomes is a Commit, and slices grow by doubling.
			bounded(t, 2*block.Limit+uint64(len(b))*255*100, func() { fuzzIndex(t, b) })
		}
	})
}

func fuzzIndex(t *testing.T, b []byte) {
	t.Helper()
	h, x, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		if !known(err) {
			t.Errorf("error %v", err)
		}
		return
	}
	cs, err := x.Commits()
	if err != nil && !known(err) {
		t.Errorf("commits: error %v", err)
	}
	want, at := h.First, h.Time
	for _, c := range cs {
		if c.TXID != want || c.Time.Before(at) || c.Flags > segment.Resync|segment.Complete || c.Bytes < 0 || c.After != 0 {
			t.Errorf("commit %+v, want number %v, not before %v", c, want, at)
		}
		want, at = want+1, c.Time
	}
	if err == nil && (uint64(len(cs)) != x.Trailer.Commits || want != x.Trailer.Last+1 || !at.Equal(x.Trailer.Time)) {
		t.Errorf("%d commits, trailer %+v", len(cs), x.Trailer)
	}
	last := wal.PageNo(0)
	err = x.Pages(func(no wal.PageNo, _ state.Sum) {
		if no <= last || uint32(no) > x.Trailer.PagesAfter || no == h.PageSize.LockPage() {
			t.Errorf("page %v after %v of %d", no, last, x.Trailer.PagesAfter)
		}
		last = no
	})
	if err != nil && !known(err) {
		t.Errorf("pages: error %v", err)
	}
}
