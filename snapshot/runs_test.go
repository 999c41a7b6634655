package snapshot_test

import (
	"bytes"
	"errors"
	"testing"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/wal"
)

// Runs are the pages that DecodeBlocks gives, in longer pieces, whether a snapshot is full
// or has gaps, and around the lock-byte page.
func TestDecodeRuns(t *testing.T) {
	t.Parallel()
	gaps := newDatabase(512, 2000).fill()
	gaps.header.Base = 7
	changes := &snapshot.Changes{Base: gaps.table()}
	for no := wal.PageNo(2); no < 2000; no += 3 {
		changes.Runs = append(changes.Runs, snapshot.Run{First: no, Pages: 1 + uint32(no)%2})
	}
	huge := newDatabase(65536, 16390) // the lock-byte page is 16385
	huge.header.Base = 7
	around := &snapshot.Changes{Base: huge.table(), Runs: []snapshot.Run{{First: 16380, Pages: 5}, {First: 16386, Pages: 5}}}
	for name, object := range map[string][]byte{
		"full": newDatabase(512, 2000).fill().write(t, snapshot.WriteOptions{}),
		"gaps": gaps.write(t, snapshot.WriteOptions{Changes: changes}),
		"lock": huge.write(t, snapshot.WriteOptions{Changes: around}),
	} {
		r, err := snapshot.Open(bytes.NewReader(object), int64(len(object)))
		if err != nil {
			t.Fatal(err)
		}
		size := int(r.Header().PageSize)
		for i, b := range r.Blocks() {
			data := object[b.Offset : b.Offset+b.Stored]
			want := map[wal.PageNo][]byte{}
			if err := r.DecodeBlocks(i, data, func(no wal.PageNo, page []byte) error {
				want[no] = bytes.Clone(page)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			last := wal.PageNo(0)
			if err := r.DecodeRuns(i, data, func(first wal.PageNo, images []byte) error {
				if last > 0 && first <= last+1 {
					t.Errorf("%s: a run from %v after page %v", name, first, last)
				}
				for ; len(images) > 0; first, images = first+1, images[size:] {
					if !bytes.Equal(want[first], images[:size]) {
						t.Errorf("%s: page %v is another", name, first)
					}
					delete(want, first)
					last = first
				}
				return nil
			}); err != nil || len(want) > 0 {
				t.Fatalf("%s: %d pages are missing, %v", name, len(want), err)
			}
		}
		checkRunErrors(t, r, object)
	}
}

// checkRunErrors checks what DecodeRuns says of damage, and that it gives back the callback's
// errors.
func checkRunErrors(t *testing.T, r *snapshot.Reader, object []byte) {
	t.Helper()
	b := r.Blocks()[0]
	bad := bytes.Clone(object[b.Offset : b.Offset+b.Stored])
	bad[len(bad)/2] ^= 1
	if err := r.DecodeRuns(0, bad, func(wal.PageNo, []byte) error {
		t.Error("a damaged block's pages are given")
		return nil
	}); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("damage: %v", err)
	}
	mine := errors.New("mine")
	fail := func(wal.PageNo, []byte) error { return mine }
	if err := r.DecodeRuns(0, object[b.Offset:b.Offset+b.Stored], fail); err != mine { //nolint:errorlint // as it is
		t.Errorf("got %v", err)
	}
	if err := r.DecodeRuns(len(r.Blocks()), bad, fail); err == nil {
		t.Error("a block past the last one is decoded")
	}
}
