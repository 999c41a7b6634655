package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// database is a database in memory, or the few pages of a large one that are
// not zeros. It is a PageSource that checks how it is used.
type database struct {
	header snapshot.Header
	pages  map[wal.PageNo][]byte
	busy   atomic.Bool
	asked  wal.PageNo // the highest page read
}

func newDatabase(size wal.PageSize, pages uint32) *database {
	return &database{
		header: snapshot.Header{
			PageSize: size, Replica: [16]byte([]byte("tidemark example")),
			TXID: 258, Pages: pages, Time: 1_700_000_000_123,
		},
		pages: map[wal.PageNo][]byte{},
	}
}

// set gives a page a content that compresses a little.
func (d *database) set(no wal.PageNo, content uint64) {
	b := make([]byte, d.header.PageSize)
	for i := 0; i+32 <= len(b); i += 32 {
		content = content*6364136223846793005 + 1442695040888963407
		copy(b[i:], fmt.Sprintf("%016x of page %v", content, no))
	}
	d.pages[no] = b
}

// fill sets every page of a small database.
func (d *database) fill() *database {
	for no := wal.PageNo(1); uint32(no) <= d.header.Pages; no++ {
		d.set(no, uint64(no))
	}
	return d
}

func (d *database) ReadPages(first wal.PageNo, buf []byte) error {
	if !d.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("page %v read while other pages are read", first)
	}
	defer d.busy.Store(false)
	size := int(d.header.PageSize)
	end := first + wal.PageNo(len(buf)/size)
	lock := d.header.PageSize.LockPage()
	switch {
	case len(buf) == 0 || len(buf)%size != 0 || len(buf) > 256<<10:
		return fmt.Errorf("%d bytes asked for", len(buf))
	case first <= d.asked || uint32(end) > d.header.Pages+1:
		return fmt.Errorf("pages from %v below %v asked for after page %v of %d", first, end, d.asked, d.header.Pages)
	case first <= lock && lock < end:
		return fmt.Errorf("lock-byte page asked for in pages %v below %v", first, end)
	}
	clear(buf)
	for no := first; no < end; no++ {
		copy(buf[int(no-first)*size:], d.pages[no])
	}
	d.asked = end - 1
	return nil
}

// table is the page sums by the plain way.
func (d *database) table() *state.Table {
	t := state.NewTable(d.header.PageSize)
	t.Resize(d.header.Pages)
	for no, b := range d.pages {
		if uint32(no) <= d.header.Pages {
			t.Set(no, state.SumPage(no, b))
		}
	}
	return t
}

// write makes the object and checks the summary.
func (d *database) write(tb testing.TB, opts snapshot.WriteOptions) []byte {
	tb.Helper()
	var b bytes.Buffer
	d.asked = 0
	sum, err := snapshot.Write(context.Background(), &b, d.header, d, opts)
	if err != nil {
		tb.Fatal(err)
	}
	want := d.table()
	if sum.Stored != int64(b.Len()) || sum.Checksum != want.Checksum() {
		tb.Fatalf("summary %+v of %d bytes with checksum %v", sum, b.Len(), want.Checksum())
	}
	sameTable(tb, want, sum.Table)
	return b.Bytes()
}

func sameTable(tb testing.TB, want, got *state.Table) {
	tb.Helper()
	if got.PageSize() != want.PageSize() || got.Checksum() != want.Checksum() ||
		!bytes.Equal(got.AppendBinary(nil, 0, got.Len()), want.AppendBinary(nil, 0, want.Len())) {
		tb.Fatalf("page sums differ: %d pages with checksum %v, want %d with %v",
			got.Len(), got.Checksum(), want.Len(), want.Checksum())
	}
}

// contents is everything that an object holds.
type contents struct {
	Header   snapshot.Header
	Checksum state.Checksum
	Sums     []byte
	Pages    map[wal.PageNo]string
}

// read reads an object by ranges, one range a block.
func read(b []byte) (contents, error) {
	r, err := snapshot.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return contents{}, err
	}
	table, err := r.Table()
	if err != nil {
		return contents{}, err
	}
	c := contents{
		Header: r.Header(), Checksum: r.Checksum(), Sums: table.AppendBinary(nil, 0, table.Len()),
		Pages: map[wal.PageNo]string{},
	}
	for i, info := range r.Blocks() {
		n := 0
		err := r.DecodeBlocks(i, b[info.Offset:info.Offset+info.Stored], func(no wal.PageNo, page []byte) error {
			if _, double := c.Pages[no]; double {
				return fmt.Errorf("page %v comes twice", no)
			}
			if state.SumPage(no, page) != table.At(no) {
				return fmt.Errorf("page %v does not match its sum", no)
			}
			c.Pages[no] = string(page)
			n++
			return nil
		})
		if err != nil {
			return contents{}, err
		}
		if n != info.Pages {
			return contents{}, fmt.Errorf("block %d gave %d pages, the index says %d", i, n, info.Pages)
		}
	}
	return c, nil
}

// contents is what an object made of the database has to hold; changed is the
// pages of an incremental one.
func (d *database) contents(changed []wal.PageNo) contents {
	table := d.table()
	c := contents{
		Header: d.header, Checksum: table.Checksum(), Sums: table.AppendBinary(nil, 0, table.Len()),
		Pages: map[wal.PageNo]string{},
	}
	if d.header.Base == 0 {
		for no := wal.PageNo(1); uint32(no) <= d.header.Pages; no++ {
			if no != d.header.PageSize.LockPage() {
				changed = append(changed, no)
			}
		}
	}
	for _, no := range changed {
		b := d.pages[no]
		if b == nil {
			b = make([]byte, d.header.PageSize)
		}
		c.Pages[no] = string(b)
	}
	return c
}

// same compares what an object holds in every way of reading it.
func same(tb testing.TB, object []byte, want contents) {
	tb.Helper()
	got, err := read(object)
	if err != nil {
		tb.Fatal(err)
	}
	if !cmp.Equal(want, got) {
		tb.Fatalf("object of %+v with %d pages holds %+v with %d pages, or other bytes",
			want.Header, len(want.Pages), got.Header, len(got.Pages))
	}
	header, checksum, err := snapshot.Verify(bytes.NewReader(object))
	if err != nil || header != want.Header || checksum != want.Checksum {
		tb.Fatalf("Verify gives %+v with checksum %v, error %v", header, checksum, err)
	}
	if header, err = snapshot.ReadHeader(object); err != nil || header != want.Header {
		tb.Fatalf("ReadHeader gives %+v, error %v", header, err)
	}
}
