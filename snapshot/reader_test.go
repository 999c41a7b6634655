package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/wal"
)

// counted is a source that counts its reads and fails at the n-th, if n is not
// negative.
type counted struct {
	b        []byte
	n, calls int
	err      error
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	if c.calls-1 == c.n {
		return 0, c.err
	}
	return bytes.NewReader(c.b).ReadAt(p, off)
}

func TestFewReads(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		object             []byte
		open, openAndTable int
	}{
		"small": {object: newDatabase(512, 100).fill().write(t, snapshot.WriteOptions{}), open: 1, openAndTable: 1},
		"large": {object: newDatabase(512, 20_000).fill().write(t, snapshot.WriteOptions{}), open: 2, openAndTable: 3},
	} {
		src := &counted{b: tt.object, n: -1}
		r, err := snapshot.Open(src, int64(len(tt.object)))
		if err != nil {
			t.Fatal(err)
		}
		if src.calls != tt.open {
			t.Errorf("%s: Open reads %d times, want %d", name, src.calls, tt.open)
		}
		if _, err := r.Table(); err != nil || src.calls != tt.openAndTable {
			t.Errorf("%s: after Table %d reads (error %v), want %d", name, src.calls, err, tt.openAndTable)
		}
	}
}

// TestSourceErrorsAreNotCorruption lets every read fail in turn.
func TestSourceErrorsAreNotCorruption(t *testing.T) {
	t.Parallel()
	object := newDatabase(512, 20_000).fill().write(t, snapshot.WriteOptions{})
	for _, cause := range []error{errors.New("connection reset"), fmt.Errorf("get object: %w", io.ErrUnexpectedEOF)} {
		for n := range 3 {
			r, err := snapshot.Open(&counted{b: object, n: n, err: cause}, int64(len(object)))
			if err == nil {
				_, err = r.Table()
			}
			if !errors.Is(err, cause) || errors.Is(err, block.ErrCorrupt) {
				t.Errorf("read %d failed: error %v, want %v", n, err, cause)
			}
		}
		small := golden(t, "v1-full.snap")
		for n := range len(small) + 1 {
			_, _, err := snapshot.Verify(io.MultiReader(bytes.NewReader(small[:n]), iotest.ErrReader(cause)))
			if !errors.Is(err, cause) || errors.Is(err, block.ErrCorrupt) {
				t.Errorf("source failed at byte %d: Verify's error %v, want %v", n, err, cause)
			}
		}
	}
}

func TestDecodeBlocksMisuse(t *testing.T) {
	t.Parallel()
	object := newDatabase(4096, 200).fill().write(t, snapshot.WriteOptions{})
	r, err := snapshot.Open(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	blocks := r.Blocks()
	first := object[blocks[0].Offset : blocks[0].Offset+blocks[0].Stored]
	none := func(wal.PageNo, []byte) error { return nil }
	for name, tt := range map[string]struct {
		first int
		data  []byte
	}{
		"another block":      {1, first},
		"last but one":       {len(blocks) - 1, first},
		"past the last":      {len(blocks), first},
		"negative":           {-1, first},
		"part of a header":   {0, first[:10]},
		"part of a block":    {0, first[:len(first)-1]},
		"block and a byte":   {0, append(bytes.Clone(first), 0)},
		"the block twice":    {0, append(bytes.Clone(first), first...)},
		"goes on after last": {len(blocks) - 1, object[blocks[len(blocks)-1].Offset:]},
	} {
		if err := r.DecodeBlocks(tt.first, tt.data, none); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := r.DecodeBlocks(0, nil, none); err != nil {
		t.Errorf("no data: error %v", err)
	}
	cause := errors.New("disk full")
	calls := 0
	err = r.DecodeBlocks(0, first, func(wal.PageNo, []byte) error { calls++; return cause })
	if err != cause || calls != 1 { //nolint:errorlint // as it is
		t.Errorf("fn failed: error %v after %d calls", err, calls)
	}
}

// TestConcurrentUse decodes ranges and reads tables at once, several times
// over, from one Reader.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	d := newDatabase(1024, 3000).fill()
	object := d.write(t, snapshot.WriteOptions{})
	r, err := snapshot.Open(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for n := range 4 {
		g.Go(func() error {
			table, err := r.Table()
			if err == nil && table.Checksum() != r.Checksum() {
				err = errors.New("another checksum")
			}
			return err
		})
		g.Go(func() error {
			seen := wal.PageNo(0)
			err := decodeRanges(r, object, n+1, func(no wal.PageNo, page []byte) error {
				if no != seen+1 || !bytes.Equal(page, d.pages[no]) {
					return fmt.Errorf("page %v after %v, or with other bytes", no, seen)
				}
				seen = no
				return nil
			})
			if err == nil && uint32(seen) != d.header.Pages {
				err = fmt.Errorf("%v pages of %d", seen, d.header.Pages)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// decodeRanges decodes all blocks, n at a time.
func decodeRanges(r *snapshot.Reader, object []byte, n int, fn func(wal.PageNo, []byte) error) error {
	first := 0
	for blocks := range slices.Chunk(r.Blocks(), n) {
		last := blocks[len(blocks)-1]
		if err := r.DecodeBlocks(first, object[blocks[0].Offset:last.Offset+last.Stored], fn); err != nil {
			return err
		}
		first += n
	}
	return nil
}

// sparse is a database of zeros except for a few pages, the last and those
// around the lock-byte page among them.
func sparse(size wal.PageSize, pages uint32) *database {
	lock := size.LockPage()
	d := newDatabase(size, pages)
	for _, no := range []wal.PageNo{1, lock - 2, lock - 1, lock + 1, lock + 2, wal.PageNo(pages)} {
		if no != lock && uint32(no) <= pages {
			d.set(no, uint64(no))
		}
	}
	return d
}

func skipSlow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds")
	}
}

// TestOverOneGiB has the lock-byte page in the middle, and reads every page.
// The source refuses to be asked for it (see database.ReadPages).
func TestOverOneGiB(t *testing.T) {
	t.Parallel()
	skipSlow(t)
	const size = wal.PageSize(4096)
	lock := size.LockPage()
	d := sparse(size, uint32(lock)+70)
	object := d.write(t, snapshot.WriteOptions{})
	r := checkSums(t, d, object)
	zero := make([]byte, size)
	seen := wal.PageNo(0)
	err := decodeRanges(r, object, 16, func(no wal.PageNo, page []byte) error {
		if seen++; seen == lock {
			seen++
		}
		want := d.pages[no]
		if want == nil {
			want = zero
		}
		if no != seen || !bytes.Equal(page, want) {
			return fmt.Errorf("page %v, expected %v, or with other bytes", no, seen)
		}
		return nil
	})
	if err != nil || uint32(seen) != d.header.Pages {
		t.Errorf("error %v after page %v", err, seen)
	}
}

// TestOverOneGiBLargePages reads the pages around the lock-byte page only, and
// leaves the rest to Verify.
func TestOverOneGiBLargePages(t *testing.T) {
	t.Parallel()
	skipSlow(t)
	const size = wal.MaxPageSize
	lock := size.LockPage()
	d := sparse(size, uint32(lock)+70)
	object := d.write(t, snapshot.WriteOptions{})
	r := checkSums(t, d, object)
	from := slices.IndexFunc(r.Blocks(), func(i snapshot.BlockInfo) bool { return i.First > lock-10 })
	first, last := r.Blocks()[from], r.Blocks()[len(r.Blocks())-1]
	var got, want []wal.PageNo
	err := r.DecodeBlocks(from, object[first.Offset:last.Offset+last.Stored], func(no wal.PageNo, page []byte) error {
		got = append(got, no)
		if d.pages[no] != nil && !bytes.Equal(page, d.pages[no]) {
			return fmt.Errorf("page %v has other bytes", no)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for no := first.First; uint32(no) <= d.header.Pages; no++ {
		if no != lock {
			want = append(want, no)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if _, checksum, err := snapshot.Verify(bytes.NewReader(object)); err != nil || checksum != r.Checksum() {
		t.Errorf("Verify gives %v, error %v", checksum, err)
	}
}

func TestWholeDatabase(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 4096, wal.MaxPageSize} {
		lock := uint32(size.LockPage())
		before := snapshot.Run{First: 1, Pages: lock - 1}
		for pages, want := range map[uint32][]snapshot.Run{
			0:         nil,
			1:         {{First: 1, Pages: 1}},
			lock - 1:  {before},
			lock:      {before},
			lock + 1:  {before, {First: wal.PageNo(lock) + 1, Pages: 1}},
			1<<32 - 2: {before, {First: wal.PageNo(lock) + 1, Pages: 1<<32 - 2 - lock}},
		} {
			h := snapshot.Header{PageSize: size, Pages: pages}
			if diff := cmp.Diff(want, snapshot.WholeDatabase(h)); diff != "" {
				t.Errorf("%d pages of %d (-want +got):\n%s", pages, size, diff)
			}
		}
	}
}

// checkSums opens an object of d and compares its page sums.
func checkSums(t *testing.T, d *database, object []byte) *snapshot.Reader {
	t.Helper()
	r, err := snapshot.Open(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := r.Table()
	if err != nil {
		t.Fatal(err)
	}
	sameTable(t, d.table(), table)
	if lock := d.header.PageSize.LockPage(); table.At(lock) != 0 || table.At(lock-1) == 0 {
		t.Errorf("sums around the lock-byte page: %x, %x", table.At(lock-1), table.At(lock))
	}
	return r
}
