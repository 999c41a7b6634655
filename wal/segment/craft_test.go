package segment_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// The kinds of blocks, as the package's documentation gives them.
const (
	kindRecords block.Kind = 0x10 + iota
	kindCommits
	kindBlocks
	kindPages
)

// part is a block of a segment.
type part struct {
	kind block.Kind
	raw  []byte
}

// end is the part of a trailer that matters here.
type end struct {
	index, commits, last uint64
	pages                uint32
}

// craft makes a segment of page size 512 with first TXID 1 whose checksums are
// right, whatever it says. An index offset of 0 means the right one.
func craft(e end, parts ...part) []byte {
	var b bytes.Buffer
	segment.NewWriter(&b, segment.Header{PageSize: 512, First: 1})
	binary.BigEndian.PutUint64(b.Bytes()[56:], 0) // 1970, not the zero time
	s := b.Bytes()
	for _, p := range parts {
		if p.kind != kindRecords && e.index == 0 {
			e.index = uint64(len(s))
		}
		s = block.Append(s, p.kind, p.raw)
	}
	be := binary.BigEndian
	for _, v := range []uint64{e.index, e.commits, e.last, 0, 0} {
		s = be.AppendUint64(s, v)
	}
	s = be.AppendUint32(s, e.pages)
	return reseal(append(s, "....ssssssssTIDEEND\n"...))
}

func uv(vs ...uint64) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func commitRecord(flags byte, ms uint64, pages uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{3, flags}, ms)
	return append(binary.BigEndian.AppendUint32(b, pages), make([]byte, 8)...)
}

func frameRecord(kind byte, no uint64) []byte {
	return append(append([]byte{kind}, uv(no)...), make([]byte, 512)...)
}

// TestCraftedRecords has right checksums and wrong contents.
func TestCraftedRecords(t *testing.T) {
	t.Parallel()
	frame, ok := frameRecord(1, 1), commitRecord(0, 0, 1)
	records := func(raws ...[]byte) part { return part{kindRecords, slices.Concat(raws...)} }
	index := part{kindCommits, uv(0, 0, 1, 1, 536)}
	one := end{commits: 1, last: 1, pages: 1}
	tests := []struct {
		name  string
		end   end
		parts []part
		want  int // records
		good  bool
	}{
		{"good", one, []part{records(frame, ok), index}, 2, true},
		{"empty blocks", one, []part{records(), records(frame), records(), records(ok), index}, 2, true},
		{"full and delta of the last page", one, []part{records(frameRecord(1, 1<<32-1), frameRecord(2, 1<<32-1), ok), index}, 3, true},
		{"page 0", one, []part{records(ok, frameRecord(1, 0)), index}, 1, false},
		{"page of 33 bits", one, []part{records(ok, frameRecord(2, 1<<32)), index}, 1, false},
		{"page of 65 bits", one, []part{records(ok, append([]byte{1}, bytes.Repeat([]byte{0xff}, 600)...)), index}, 1, false},
		{"page number cut", one, []part{records(ok, []byte{1, 0x80}), index}, 1, false},
		{"frame cut", one, []part{records(ok, frame[:513]), index}, 1, false},
		{"frame over two blocks", one, []part{records(ok, frame[:9]), records(frame[9:]), index}, 1, false},
		{"commit cut", one, []part{records(frame, ok[:21]), index}, 1, false},
		{"unknown flags", one, []part{records(frame, commitRecord(4, 0, 1)), index}, 1, false},
		{"unknown kind", one, []part{records(ok, []byte{4}), index}, 1, false},
		{"kind 0", one, []part{records(ok, []byte{0}), index}, 1, false},
		{"older than the header", one, []part{records(commitRecord(0, 1<<64-1, 1)), index}, 0, false},
		{"older than the commit before", end{commits: 2, last: 2, pages: 1}, []part{records(commitRecord(0, 9, 1), commitRecord(0, 8, 1)), index}, 1, false},
		{"transaction without its commit", one, []part{records(frame, ok, frame), index}, 3, false},
		{"records after the index", one, []part{records(frame, ok), index, records(ok)}, 2, false},
		{"unknown block", one, []part{records(frame, ok), {0x14, nil}}, 2, false},
		{"unknown block in the index", one, []part{records(frame, ok), index, {0x0f, nil}}, 2, false},
		{"no index", one, []part{records(frame, ok)}, 2, false},
		{"wrong index offset", end{segment.HeaderSize + 1, 1, 1, 1}, []part{records(frame, ok), index}, 2, false},
		{"wrong number of commits", end{0, 2, 1, 1}, []part{records(frame, ok), index}, 2, false},
		{"no commits", end{0, 0, 1, 1}, []part{records(frame, ok), index}, 2, false},
		{"wrong last commit", end{0, 1, 2, 1}, []part{records(frame, ok), index}, 2, false},
		{"wrong pages", end{0, 1, 1, 2}, []part{records(frame, ok), index}, 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := craft(tt.end, tt.parts...)
			_, rs, err := read(bytes.NewReader(b), int64(len(b)))
			if len(rs) != tt.want || tt.good != (err == io.EOF) || !tt.good && !errors.Is(err, block.ErrCorrupt) { //nolint:errorlint // bare by contract
				t.Errorf("%d records, error %v", len(rs), err)
			}
		})
	}
}

func TestCraftedHeader(t *testing.T) {
	t.Parallel()
	good := small().closed(t)
	for _, field := range []struct {
		what  string
		at    int
		value byte
	}{
		{"page size 0", 14, 0},
		{"page size 513", 15, 1},
		{"page size 256", 14, 1},
		{"first TXID 0", 39, 0},
		{"a name that is no UTF-8", 70, 0xff},
		{"a name cut in a character", 79, 0xc3},
		{"a zero in the name", 68, 0},
		{"a name after zeros", 119, 'x'},
	} {
		bad := bytes.Clone(good)
		bad[field.at] = field.value
		if _, err := segment.ParseHeader(reseal(bad)); !errors.Is(err, block.ErrCorrupt) {
			t.Errorf("%s: error %v, want ErrCorrupt", field.what, err)
		}
	}
}

// TestCraftedIndex has right checksums and wrong contents, of which one of
// ReadIndex, Commits and Pages must complain.
func TestCraftedIndex(t *testing.T) {
	t.Parallel()
	const huge = 1<<64 - 1
	sum := make([]byte, 8)
	page := func(steps ...uint64) []byte {
		var b []byte
		for _, s := range steps {
			b = append(append(b, uv(s)...), sum...)
		}
		return b
	}
	good := [3][]byte{uv(0, 0, 4, 1, 536), uv(162, 536), page(1, 1)}
	e := end{commits: 1, last: 1, pages: 4}
	lock := uint64(wal.PageSize(512).LockPage())
	tests := []struct {
		name     string
		end      end
		sections [3][]byte
		good     bool
	}{
		{"good", e, good, true},
		{"no pages", e, [3][]byte{good[0], good[1], nil}, true},
		{"last page", e, [3][]byte{good[0], good[1], page(3, 1)}, true},
		{"no commits", e, [3][]byte{nil, good[1], good[2]}, false},
		{"no blocks", e, [3][]byte{good[0], nil, good[2]}, false},
		{"commit cut", e, [3][]byte{good[0][:5], good[1], good[2]}, false},
		{"commit cut at its flags", e, [3][]byte{good[0][:1], good[1], good[2]}, false},
		{"commit too many", e, [3][]byte{append(good[0], uv(0, 0, 4, 0, 0)...), good[1], good[2]}, false},
		{"time goes back", e, [3][]byte{uv(huge, 0, 4, 1, 536), good[1], good[2]}, false},
		{"time goes back and returns", end{0, 3, 3, 4}, [3][]byte{slices.Concat(uv(7, 0, 4, 1, 500), binary.AppendUvarint(nil, huge-6), uv(0, 4, 0, 18), uv(0, 0, 4, 0, 18)), good[1], good[2]}, false},
		{"time is not the trailer's", e, [3][]byte{uv(1, 0, 4, 1, 536), good[1], good[2]}, false},
		{"unknown flags", e, [3][]byte{uv(0, 4, 4, 1, 536), good[1], good[2]}, false},
		{"pages of 33 bits", e, [3][]byte{uv(0, 0, 1<<32, 1, 536), good[1], good[2]}, false},
		{"frames of 33 bits", e, [3][]byte{uv(0, 0, 4, 1<<32, 536), good[1], good[2]}, false},
		{"more bytes than the blocks have", e, [3][]byte{uv(0, 0, 4, 1, 537), good[1], good[2]}, false},
		{"fewer bytes than the blocks have", e, [3][]byte{uv(0, 0, 4, 1, 535), good[1], good[2]}, false},
		{"bytes of 64 bits", e, [3][]byte{uv(0, 0, 4, 1, huge), good[1], good[2]}, false},
		{"block cut", e, [3][]byte{good[0], good[1][:2], good[2]}, false},
		{"empty block", e, [3][]byte{good[0], append(uv(24, 0), good[1]...), good[2]}, false},
		{"block over the limit", e, [3][]byte{good[0], uv(162, block.Limit+1), good[2]}, false},
		{"block stored over the limit", e, [3][]byte{good[0], uv(2*block.Limit, 536), good[2]}, false},
		{"block of 64 bits", e, [3][]byte{good[0], uv(huge, huge), good[2]}, false},
		{"page cut", e, [3][]byte{good[0], good[1], good[2][:17]}, false},
		{"page 0", e, [3][]byte{good[0], good[1], page(0)}, false},
		{"page twice", e, [3][]byte{good[0], good[1], page(1, 0)}, false},
		{"page past the end", e, [3][]byte{good[0], good[1], page(1, 4)}, false},
		{"pages go back", e, [3][]byte{good[0], good[1], page(3, huge)}, false},
		{"lock-byte page", end{0, 1, 1, 1 << 30}, [3][]byte{good[0], good[1], page(lock-1, 1)}, false},
		{"wrong number of commits", end{0, 2, 1, 4}, good, false},
		{"no last commit", end{0, 1, 0, 4}, good, false},
		{"index in the header", end{8, 1, 1, 4}, good, false},
		{"index past the end", end{1 << 40, 1, 1, 4}, good, false},
		{"negative index", end{huge, 1, 1, 4}, good, false},
		{"index among the records", end{segment.HeaderSize + 1, 1, 1, 4}, good, false},
		{"records in the index", end{segment.HeaderSize, 1, 1, 4}, good, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := craftIndex(tt.end, tt.sections)
			_, x, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				_, err = x.Commits()
				err = errors.Join(err, x.Pages(func(wal.PageNo, state.Sum) {}))
			}
			if tt.good != (err == nil) || !tt.good && !errors.Is(err, block.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func craftIndex(e end, sections [3][]byte) []byte {
	parts := []part{{kindRecords, slices.Concat(frameRecord(1, 1), commitRecord(0, 0, e.pages))}}
	for i, raw := range sections {
		for raw := range slices.Chunk(raw, block.MaxRaw) {
			parts = append(parts, part{kindCommits + block.Kind(i), raw})
		}
	}
	if e.index == 0 && len(parts) == 1 {
		e.index = uint64(len(craft(e, parts...)) - segment.TrailerSize)
	}
	return craft(e, parts...)
}

// FuzzSections gives the index's sections as they are before compression.
func FuzzSections(f *testing.F) {
	f.Add(uv(0, 0, 4, 1, 536), uv(162, 536), slices.Concat(uv(1), make([]byte, 8), uv(2), make([]byte, 8)), uint64(1), uint32(4))
	f.Add(slices.Concat(uv(0, 1, 4, 1, 500), uv(0, 3, 9, 0, 36)), uv(100, 400, 62, 136), []byte{}, uint64(2), uint32(1<<32-1))
	f.Fuzz(func(t *testing.T, commits, blocks, pages []byte, n uint64, after uint32) {
		b := craftIndex(end{commits: n, last: n, pages: after}, [3][]byte{commits, blocks, pages})
		fuzzIndex(t, b)
	})
}
