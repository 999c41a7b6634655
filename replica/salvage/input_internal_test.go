package salvage

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"tidemark/wal"
)

// badDisk can't read some of its sectors.
type badDisk struct {
	b   []byte
	bad map[int64]bool // by offset
}

func (d badDisk) ReadAt(b []byte, off int64) (int, error) {
	for at := off / sector * sector; at < off+int64(len(b)); at += sector {
		if d.bad[at] {
			n := copy(b[:max(at-off, 0)], d.b[off:])
			return n, errors.New("input/output error")
		}
	}
	n := copy(b, d.b[min(off, int64(len(d.b))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	d := badDisk{bytes.Repeat([]byte{7}, 10*sector), map[int64]bool{2 * sector: true, 3 * sector: true, 7 * sector: true}}
	b := bytes.Repeat([]byte{9}, 10*sector)
	got := readAll(d, b, 0)
	if want := []span{{2 * sector, 4 * sector}, {7 * sector, 8 * sector}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for i, x := range b {
		want := byte(7)
		if d.bad[int64(i/sector*sector)] {
			want = 0
		}
		if x != want {
			t.Fatalf("byte %d: %d, want %d", i, x, want)
		}
	}
	p := pages{size: 1024, count: 5}
	p.without(got)
	for no, want := range map[wal.PageNo]bool{1: true, 2: false, 3: true, 4: false, 5: true, 6: false} {
		if p.has(no) != want {
			t.Errorf("page %v: %v", no, !want)
		}
	}
}
