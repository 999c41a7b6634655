package btree_test

import (
	"encoding/binary"
	"testing"

	"tidemark/replica/salvage/btree"
	"tidemark/wal"
)

// counting notes how much is read.
type counting struct {
	btree.Pages
	reads int
}

func (c *counting) Page(no wal.PageNo) ([]byte, error) {
	c.reads++
	if no == 0 || no > c.Count() {
		panic("a page that is not there was asked for")
	}
	return c.Pages.Page(no)
}

// FuzzRead reads anything as a database, and bounds what that costs.
func FuzzRead(f *testing.F) {
	for _, pragma := range []string{"PRAGMA auto_vacuum=0", "PRAGMA auto_vacuum=1", "PRAGMA encoding='UTF-16le'"} {
		file := standard(f, 512, pragma)
		f.Add(file[:min(len(file), 40*512)], uint8(0), []byte{})
		f.Add(file[:min(len(file), 40*512)], uint8(0), []byte{0, 0, 16, 1, 2, 100, 0xff, 0xff})
	}
	f.Add([]byte{}, uint8(3), []byte{})
	f.Fuzz(func(t *testing.T, file []byte, size uint8, flips []byte) {
		if len(file) > 1<<20 {
			return
		}
		file = append([]byte(nil), file...)
		for ; len(flips) >= 4 && len(file) > 0; flips = flips[4:] { // an offset and a byte
			file[int(binary.BigEndian.Uint32(flips)>>8)%len(file)] = flips[3]
		}
		pageSize := 512 << (size % 8)
		src := &counting{Pages: source(t, file, pageSize)}
		r, err := btree.Open(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		rows, bytesSeen := 0, 0
		see := func(row *btree.Row) error {
			rows++
			for _, v := range row.Values {
				bytesSeen += len(v.Bytes)
				if v.Type == btree.Text {
					r.Header().Encoding.Decode(v.Bytes)
				}
			}
			return nil
		}
		schema, err := r.Schema(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range schema.Objects {
			if o.Root == 0 {
				continue
			}
			if _, err := r.Walk(t.Context(), o.Root, see); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Orphans(t.Context(), btree.OrphanOptions{Free: size%2 == 0}, see); err != nil {
			t.Fatal(err)
		}
		// Each page: by the sample, the survey, the freelist, the walk, as an orphan
		// twice and for the pointer map, and for overflow four times.
		if limit := 64 * (int(src.Count()) + 1); src.reads > limit {
			t.Errorf("%d reads of %d pages", src.reads, src.Count())
		}
		if limit := 16*len(file) + 1<<16; bytesSeen > limit {
			t.Errorf("%d bytes in %d rows out of %d", bytesSeen, rows, len(file))
		}
	})
}
