package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// object is an object written by hand from the format's description: all its
// checksums are right, whatever it says.
type object struct {
	header  []byte
	pages   [][]byte // payloads
	sums    [][]byte
	index   [][]byte
	check   state.Checksum
	kinds   [3]block.Kind
	trailer func(fields []byte) // changes the trailer before it is summed
}

// forged gives an object whose page blocks have the payloads and whose index,
// if h is of a full snapshot, says of them what it has to; sums are of pages of
// zeros.
func forged(h snapshot.Header, payloads [][]byte) *object {
	o := &object{
		header: headerBytes(h), pages: payloads,
		kinds: [3]block.Kind{snapshot.KindPages, snapshot.KindSums, snapshot.KindIndex},
	}
	table := state.NewTable(512) // most headers here are
	if h.PageSize.Valid() {
		table = state.NewTable(h.PageSize)
	}
	table.Resize(h.Pages)
	o.check = table.Checksum()
	for from := uint32(0); from < h.Pages; from += 16384 {
		o.sums = append(o.sums, table.AppendBinary(nil, from, min(h.Pages, from+16384)))
	}
	return o
}

// describe makes the index: pages[i] is the first page of block i and how many
// it holds.
func (o *object) describe(pages ...[2]uint32) *object {
	o.index = nil
	var entries []byte
	for i, p := range pages {
		entries = append(entries, indexEntry(o.blockLength(o.pages[i]), p[0], p[1])...)
	}
	for len(entries) > 0 {
		n := min(len(entries), 8192*12)
		o.index = append(o.index, entries[:n])
		entries = entries[n:]
	}
	return o
}

func (o *object) blockLength(payload []byte) uint32 {
	return uint32(len(block.Append(nil, o.kinds[0], payload)))
}

func (o *object) bytes() []byte {
	b := bytes.Clone(o.header)
	var fields []byte
	for i, payloads := range [][][]byte{o.pages, o.sums, o.index} {
		if i > 0 {
			fields = binary.BigEndian.AppendUint64(fields, uint64(len(b)))
		}
		for _, p := range payloads {
			b = block.Append(b, o.kinds[i], p)
		}
	}
	fields = binary.BigEndian.AppendUint32(fields, uint32(len(o.pages)))
	fields = binary.BigEndian.AppendUint32(fields, 0)
	fields = binary.BigEndian.AppendUint64(fields, uint64(o.check))
	if o.trailer != nil {
		o.trailer(fields)
	}
	b = append(b, fields...)
	fields = binary.BigEndian.AppendUint64(fields, xxhash.Sum64(b))
	b = append(b, fields[len(fields)-8:]...)
	b = binary.BigEndian.AppendUint64(b, xxhash.Sum64(fields))
	return append(b, "SNAPTIDE"...)
}

func headerBytes(h snapshot.Header) []byte { return headerBytesWith(h, 0) }

// headerBytesWith sets the byte at the offset to 1 if that is not 0.
func headerBytesWith(h snapshot.Header, offset int) []byte {
	b := make([]byte, 64)
	copy(b, "TIDESNAP\x00\x01")
	binary.BigEndian.PutUint32(b[12:], uint32(h.PageSize))
	copy(b[16:], h.Replica[:])
	binary.BigEndian.PutUint64(b[32:], uint64(h.TXID))
	binary.BigEndian.PutUint64(b[40:], uint64(h.Base))
	binary.BigEndian.PutUint32(b[48:], h.Pages)
	binary.BigEndian.PutUint64(b[56:], uint64(h.Time))
	if offset > 0 {
		b[offset] = 1
	}
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
}

func indexEntry(length, first, pages uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	b = binary.BigEndian.AppendUint32(b, first)
	return binary.BigEndian.AppendUint32(b, pages)
}

// pageBlock is a payload with n pages of zeros and a list that says whatever
// numbers do after how many pairs there are.
func pageBlock(size wal.PageSize, n int, numbers ...uint64) []byte {
	b := binary.AppendUvarint(nil, uint64(len(numbers)/2))
	for _, v := range numbers {
		b = binary.AppendUvarint(b, v)
	}
	return append(b, make([]byte, n*int(size))...)
}

// incrementalOf is a header of an incremental snapshot.
func incrementalOf(size wal.PageSize, pages uint32) snapshot.Header {
	h := newDatabase(size, pages).header
	h.Base = 1
	return h
}

func TestForgedIsGood(t *testing.T) {
	t.Parallel()
	lock := uint32(wal.MaxPageSize.LockPage())
	many := forged(newDatabase(512, 20_000).header, nil)
	var list [][2]uint32
	for no := uint32(1); no <= 20_000; no++ {
		many.pages = append(many.pages, pageBlock(512, 1, uint64(no), 1))
		list = append(list, [2]uint32{no, 1})
	}
	for name, o := range map[string]*object{
		"empty":      forged(newDatabase(512, 0).header, nil),
		"one block":  forged(newDatabase(512, 3).header, [][]byte{pageBlock(512, 3, 1, 3)}).describe([2]uint32{1, 3}),
		"unchanged":  forged(incrementalOf(512, 9), nil),
		"many":       many.describe(list...),
		"interlaced": forged(incrementalOf(512, 9), [][]byte{pageBlock(512, 3, 2, 1, 1, 2)}).describe([2]uint32{2, 3}),
		"lock page": forged(incrementalOf(wal.MaxPageSize, lock+1), [][]byte{
			pageBlock(wal.MaxPageSize, 2, uint64(lock)-1, 1, 1, 1),
		}).describe([2]uint32{lock - 1, 2}),
	} {
		b := o.bytes()
		if _, err := read(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, checksum, err := snapshot.Verify(bytes.NewReader(b)); err != nil || checksum != o.check {
			t.Errorf("%s: checksum %v, error %v", name, checksum, err)
		}
	}
}

// TestForgedIsRefused is about what checksums can't find.
func TestForgedIsRefused(t *testing.T) {
	t.Parallel()
	lock := uint64(wal.MaxPageSize.LockPage())
	full := func(payload []byte) *object {
		return forged(newDatabase(512, 3).header, [][]byte{payload}).describe([2]uint32{1, 3})
	}
	incremental := func(first, pages uint32, payload []byte) *object {
		return forged(incrementalOf(512, 9), [][]byte{payload}).describe([2]uint32{first, pages})
	}
	two := func(a, b [2]uint32, payloads ...[]byte) *object {
		return forged(incrementalOf(512, 9), payloads).describe(a, b)
	}
	good := func(f func(*object)) *object {
		o := full(pageBlock(512, 3, 1, 3))
		f(o)
		return o
	}
	for name, o := range map[string]*object{
		"payload empty":     full(nil),
		"no runs":           full(pageBlock(512, 3)),
		"too many runs":     full(append([]byte{200, 1, 1, 1}, make([]byte, 3*512)...)),
		"list cut":          full([]byte{1, 1}),
		"uvarint too long":  full(append(bytes.Repeat([]byte{255}, 11), make([]byte, 600)...)),
		"page 0":            full(pageBlock(512, 3, 0, 3)),
		"run of 0":          full(pageBlock(512, 3, 1, 3, 1, 0)),
		"huge run":          full(pageBlock(512, 3, 1, 1<<40)),
		"huge skip":         incremental(1, 3, pageBlock(512, 3, 1, 1, 1<<63, 2)),
		"runs touch":        full(pageBlock(512, 3, 1, 1, 0, 2)),
		"past the end":      full(pageBlock(512, 3, 2, 3)),
		"one image more":    full(pageBlock(512, 4, 1, 3)),
		"one image less":    full(pageBlock(512, 2, 1, 3)),
		"a byte more":       full(append(pageBlock(512, 3, 1, 3), 0)),
		"page left out":     forged(newDatabase(512, 4).header, [][]byte{pageBlock(512, 3, 1, 3)}).describe([2]uint32{1, 3}),
		"page in between":   forged(newDatabase(512, 4).header, [][]byte{pageBlock(512, 3, 1, 1, 1, 2)}).describe([2]uint32{1, 3}),
		"not from page 1":   forged(newDatabase(512, 4).header, [][]byte{pageBlock(512, 3, 2, 3)}).describe([2]uint32{2, 3}),
		"full, no blocks":   forged(newDatabase(512, 4).header, nil),
		"index: first":      incremental(3, 3, pageBlock(512, 3, 2, 3)),
		"index: pages":      incremental(2, 2, pageBlock(512, 3, 2, 3)),
		"index: no pages":   incremental(2, 0, pageBlock(512, 3, 2, 3)),
		"index: past end":   incremental(8, 3, pageBlock(512, 3, 2, 3)),
		"index: huge":       incremental(1, 1<<31, pageBlock(512, 3, 2, 3)),
		"index: cut":        good(func(o *object) { o.index[0] = o.index[0][:11] }),
		"index: none":       good(func(o *object) { o.index = nil }),
		"index: more":       good(func(o *object) { o.index = append(o.index, o.index[0]) }),
		"index: length":     good(func(o *object) { o.index[0][3]++ }),
		"index: no length":  good(func(o *object) { clear(o.index[0][:4]) }),
		"blocks turned":     two([2]uint32{5, 1}, [2]uint32{1, 1}, pageBlock(512, 1, 5, 1), pageBlock(512, 1, 1, 1)),
		"blocks overlap":    two([2]uint32{1, 2}, [2]uint32{4, 1}, pageBlock(512, 2, 1, 1, 3, 1), pageBlock(512, 1, 4, 1)),
		"block twice":       two([2]uint32{1, 1}, [2]uint32{1, 1}, pageBlock(512, 1, 1, 1), pageBlock(512, 1, 1, 1)),
		"sums: one less":    good(func(o *object) { o.sums[0] = o.sums[0][:16] }),
		"sums: one more":    good(func(o *object) { o.sums[0] = append(o.sums[0], make([]byte, 8)...) }),
		"sums: none":        good(func(o *object) { o.sums = nil }),
		"sums: more blocks": good(func(o *object) { o.sums = append(o.sums, o.sums[0]) }),
		"sums: of nothing":  forgedWithSums(newDatabase(512, 0).header, make([]byte, 8)),
		"sums: other":       good(func(o *object) { o.check++ }),
		"kind: pages":       good(func(o *object) { o.kinds[0] = 7 }),
		"kind: sums":        good(func(o *object) { o.kinds[1] = 7 }),
		"kind: index":       good(func(o *object) { o.kinds[2] = 7 }),
		"trailer: order":    good(func(o *object) { o.trailer = func(b []byte) { binary.BigEndian.PutUint64(b, 1<<40) } }),
		"trailer: negative": good(func(o *object) { o.trailer = func(b []byte) { b[0] = 255 } }),
		"trailer: index":    good(func(o *object) { o.trailer = func(b []byte) { b[14]++ } }),
		"trailer: in front": good(func(o *object) { o.trailer = func(b []byte) { b[7]-- } }),
		"trailer: blocks":   good(func(o *object) { o.trailer = func(b []byte) { b[16] = 255 } }),
		"trailer: block":    good(func(o *object) { o.trailer = func(b []byte) { b[19]++ } }),
		"trailer: reserved": good(func(o *object) { o.trailer = func(b []byte) { b[23]++ } }),
		"lock page stored": forged(incrementalOf(wal.MaxPageSize, uint32(lock)+1), [][]byte{
			pageBlock(wal.MaxPageSize, 3, lock-1, 3),
		}).describe([2]uint32{uint32(lock) - 1, 3}),
		"lock page alone": forged(incrementalOf(wal.MaxPageSize, uint32(lock)+1), [][]byte{
			pageBlock(wal.MaxPageSize, 1, lock, 1),
		}).describe([2]uint32{uint32(lock), 1}),
		"lock page summed": lockPageSummed(),
	} {
		b := o.bytes()
		if _, err := read(b); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, _, err := snapshot.Verify(bytes.NewReader(b)); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("%s: Verify's error %v", name, err)
		}
	}
}

func forgedWithSums(h snapshot.Header, sums []byte) *object {
	o := forged(h, nil)
	o.sums = [][]byte{sums}
	return o
}

func lockPageSummed() *object {
	lock := uint32(wal.MaxPageSize.LockPage())
	o := forged(incrementalOf(wal.MaxPageSize, lock), nil)
	last := o.sums[len(o.sums)-1]
	last[len(last)-1] = 5
	o.check += 5
	return o
}

// TestVerifyComparesPagesWithSums is about an object that only Verify can find
// wrong: page sums in themselves right, but not those of the pages.
func TestVerifyComparesPagesWithSums(t *testing.T) {
	t.Parallel()
	payload := pageBlock(512, 3, 1, 3)
	payload[1000] = 1
	b := forged(newDatabase(512, 3).header, [][]byte{payload}).describe([2]uint32{1, 3}).bytes()
	if _, _, err := snapshot.Verify(bytes.NewReader(b)); !errors.Is(err, block.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}
