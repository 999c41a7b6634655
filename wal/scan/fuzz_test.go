package scan_test

import (
	"bytes"
	"testing"

	"tidemark/wal"
	"tidemark/wal/scan"
)

// FuzzScan scans any bytes, and a WAL with these bytes over it.
func FuzzScan(f *testing.F) {
	h := wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 5, Salt2: 6}}
	o := made(h, 1, 2, 1, 3)
	f.Add(o.b, uint16(0), uint16(512))
	f.Add(o.b[:700], uint16(0), uint16(0))
	f.Add(made(wal.Header{Order: wal.BigEndian, PageSize: 1024, Salts: h.Salts}, 1, 1, 1).b, uint16(9), uint16(4096))
	f.Add([]byte{}, uint16(600), uint16(1))
	f.Add(make([]byte, 4096), uint16(100), uint16(0))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 5, 0, 0, 0, 6}, 400), uint16(32), uint16(512))
	f.Fuzz(func(t *testing.T, b []byte, at, hint uint16) {
		opts := scan.Options{PageSize: wal.PageSize(hint)}
		checkShape(t, must(t, b, opts), b)
		over := append([]byte(nil), o.b...)
		if int(at) < len(over) {
			copy(over[at:], b)
		}
		r := must(t, over, opts)
		checkShape(t, r, over)
		for _, c := range r.Commits {
			if c.Proof < scan.Intact || r.Header.Used.PageSize != 512 || len(b) > 64 {
				continue
			}
			// So few bytes cannot make a commit that was not written.
			for i := range r.FramesOf(c) {
				off := r.Frames[i].Offset
				if !bytes.Equal(over[off+24:off+536], o.b[off+24:off+536]) {
					t.Fatalf("%v commit has a frame at %d that was never written", c.Proof, off)
				}
			}
		}
	})
}
