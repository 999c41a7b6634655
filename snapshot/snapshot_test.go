package snapshot_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// example is the database of the golden files: two pages, then five of which
// the second, fourth and fifth are new.
func example() (full, incremental *database, changes *snapshot.Changes) {
	page := func(text string) []byte {
		b := make([]byte, 512)
		copy(b, text)
		return b
	}
	full = newDatabase(512, 2)
	full.pages[1] = page("This is page one.")
	full.pages[2] = page("This is page two.")
	incremental = newDatabase(512, 5)
	incremental.header.TXID, incremental.header.Base = 772, 258
	incremental.header.Time += 60_000
	incremental.pages[1] = full.pages[1]
	incremental.pages[2] = page("This is page two, changed.")
	incremental.pages[4] = page("This is page four.")
	incremental.pages[5] = page("This is page five.")
	return full, incremental, &snapshot.Changes{
		Base: full.table(), Runs: []snapshot.Run{{First: 2, Pages: 1}, {First: 4, Pages: 2}},
	}
}

// TestGolden holds the format to what has been written once. Should a new
// version of the LZ4 library compress otherwise, then only the comparison of
// bytes may go: the files have to stay readable for ever.
func TestGolden(t *testing.T) {
	t.Parallel()
	full, incremental, changes := example()
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		want := golden(t, "v1-full.snap")
		same(t, want, full.contents(nil))
		if diff := cmp.Diff(want, full.write(t, snapshot.WriteOptions{})); diff != "" {
			t.Errorf("encoded again (-want +got):\n%s", diff)
		}
	})
	t.Run("incremental", func(t *testing.T) {
		t.Parallel()
		want := golden(t, "v1-incremental.snap")
		same(t, want, incremental.contents([]wal.PageNo{2, 4, 5}))
		if diff := cmp.Diff(want, incremental.write(t, snapshot.WriteOptions{Changes: changes})); diff != "" {
			t.Errorf("encoded again (-want +got):\n%s", diff)
		}
	})
}

// TestDocumentedExample compares the hex dump in the package's doc with the
// golden file.
func TestDocumentedExample(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("snapshot.go")
	if err != nil {
		t.Fatal(err)
	}
	var dump []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([0-9a-f]{8}  .*\|)$`).FindAllSubmatch(src, -1) {
		dump = append(dump, string(m[1]))
	}
	want := strings.TrimSuffix(hex.Dump(golden(t, "v1-full.snap")), "\n")
	if diff := cmp.Diff(want, strings.Join(dump, "\n")); diff != "" {
		t.Errorf("(-file +doc):\n%s", diff)
	}
}

func TestUnknownVersion(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"whole object":   golden(t, "v1-full.snap"),
		"other trailer":  append(golden(t, "v1-full.snap"), "another ending"...),
		"short header":   golden(t, "v1-full.snap")[:10],
		"no trailer yet": golden(t, "v1-full.snap")[:snapshot.HeaderSize],
	} {
		b[9] = 2
		_, headErr := snapshot.ReadHeader(b)
		_, readErr := read(b)
		_, _, verifyErr := snapshot.Verify(bytes.NewReader(b))
		for _, err := range []error{headErr, readErr, verifyErr} {
			if !errors.Is(err, block.ErrVersion) || errors.Is(err, block.ErrCorrupt) {
				t.Errorf("%s: error %v, want ErrVersion", name, err)
			}
		}
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	t.Parallel()
	h := newDatabase(512, 2).header
	good := headerBytes(h)
	if got, err := snapshot.ReadHeader(append(good, 1, 2, 3)); err != nil || got != h {
		t.Fatalf("header %+v, error %v", got, err)
	}
	for n := range good {
		if _, err := snapshot.ReadHeader(good[:n]); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("header of %d bytes: error %v", n, err)
		}
	}
	edit := func(f func(*snapshot.Header)) []byte {
		h := h
		f(&h)
		return headerBytes(h)
	}
	for name, b := range map[string][]byte{
		"page size 0":       edit(func(h *snapshot.Header) { h.PageSize = 0 }),
		"page size 1000":    edit(func(h *snapshot.Header) { h.PageSize = 1000 }),
		"page size 131072":  edit(func(h *snapshot.Header) { h.PageSize = 131072 }),
		"TXID 0":            edit(func(h *snapshot.Header) { h.TXID = 0 }),
		"base is TXID":      edit(func(h *snapshot.Header) { h.Base = h.TXID }),
		"base after TXID":   edit(func(h *snapshot.Header) { h.Base = 1 << 63 }),
		"too many pages":    edit(func(h *snapshot.Header) { h.Pages = 1<<32 - 1 }),
		"reserved, first":   headerBytesWith(h, 10),
		"reserved, second":  headerBytesWith(h, 55),
		"magic of trailers": append([]byte("SNAPTIDE"), good[8:]...),
	} {
		if got, err := snapshot.ReadHeader(b); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("%s: header %+v, error %v", name, got, err)
		}
	}
}

// TestEveryByteIsChecked flips bits of every byte of a small object and cuts it
// at every byte. Nothing else than the object may be accepted, by either way of
// reading.
func TestEveryByteIsChecked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"v1-full.snap", "v1-incremental.snap"} {
		good := golden(t, name)
		refused := func(what string, i int, b []byte) {
			t.Helper()
			_, readErr := read(b)
			_, _, verifyErr := snapshot.Verify(bytes.NewReader(b))
			for _, err := range []error{readErr, verifyErr} {
				if !errors.Is(err, block.ErrCorrupt) && !errors.Is(err, block.ErrVersion) {
					t.Errorf("%s: %s %d: error %v", name, what, i, err)
				}
			}
		}
		for i := range good {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				refused("flipped in byte", i, bad)
			}
			refused("cut at byte", i, good[:i])
			refused("cut before byte", i+1, good[i+1:])
			refused("zeros from byte", i, append(bytes.Clone(good[:i]), make([]byte, len(good)-i)...))
		}
		refused("bytes at the end:", 1, append(bytes.Clone(good), 0))
		refused("twice", 2, append(bytes.Clone(good), good...))
	}
}

func TestCorruptionHasAPlace(t *testing.T) {
	t.Parallel()
	d := newDatabase(4096, 200).fill()
	b := d.write(t, snapshot.WriteOptions{})
	r, err := snapshot.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	second := r.Blocks()[1]
	b[second.Offset+100] ^= 1
	_, _, verifyErr := snapshot.Verify(bytes.NewReader(b))
	decodeErr := r.DecodeBlocks(0, b[snapshot.HeaderSize:second.Offset+second.Stored],
		func(wal.PageNo, []byte) error { return nil })
	for _, err := range []error{verifyErr, decodeErr} {
		var place *block.Error
		if !errors.As(err, &place) || place.Offset != second.Offset || !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("error %v, want one at offset %d", err, second.Offset)
		}
	}
}

func TestNotASnapshot(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, []byte("TIDE"), []byte("SQLite format 3\x00"), make([]byte, 100_000)} {
		if _, err := read(b); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("%d bytes: error %v", len(b), err)
		}
		if _, _, err := snapshot.Verify(bytes.NewReader(b)); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("%d bytes: Verify's error %v", len(b), err)
		}
	}
	if _, err := snapshot.Open(bytes.NewReader(nil), -1); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("size -1: error %v", err)
	}
	if _, err := snapshot.Open(bytes.NewReader(make([]byte, 10)), 100); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("object shorter than its size: error %v", err)
	}
}

// FuzzOpen feeds anything. What Verify accepts, every other way of reading has
// to accept too, with the same result.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(golden(f, "v1-full.snap"))
	f.Add(golden(f, "v1-incremental.snap"))
	f.Add(forged(newDatabase(512, 0).header, nil).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, readErr := read(b)
		h, checksum, err := snapshot.Verify(bytes.NewReader(b))
		if err == nil && (readErr != nil || c.Header != h || c.Checksum != checksum) {
			t.Fatalf("Verify gives %+v and %v, reading %+v and %v (%v)", h, checksum, c.Header, c.Checksum, readErr)
		}
	})
}

// FuzzPageBlock feeds anything as the payload of a page block whose checksums
// are all right.
func FuzzPageBlock(f *testing.F) {
	f.Add(pageBlock(512, 3, 1, 1, 1, 1), uint32(1), uint32(2), uint32(3), uint8(0))
	f.Add(pageBlock(512, 3, 1, 2), uint32(1), uint32(2), uint32(5), uint8(1))
	f.Add(pageBlock(65536, 1, 16386, 1), uint32(16386), uint32(1), uint32(16386), uint8(1))
	f.Fuzz(func(t *testing.T, payload []byte, first, pages, length uint32, base uint8) {
		if len(payload) > block.Limit || length > 1<<16 {
			return
		}
		h := newDatabase(512, length).header
		if len(payload) > 65536 {
			h.PageSize = 65536
		}
		h.Base = state.TXID(base)
		o := forged(h, [][]byte{payload})
		o.index = [][]byte{indexEntry(o.blockLength(payload), first, pages)}
		c, err := read(o.bytes())
		for no, page := range c.Pages {
			if no == 0 || uint32(no) > length || no == h.PageSize.LockPage() || len(page) != int(h.PageSize) {
				t.Fatalf("page %v of %d bytes in a database of %d (error %v)", no, len(page), length, err)
			}
		}
	})
}
