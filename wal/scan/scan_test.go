package scan_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
	"tidemark/wal/scan"
)

func pageSizes() []wal.PageSize {
	return []wal.PageSize{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}
}

// asReader compares what is proven with what wal.Reader gives.
func asReader(t *testing.T, b []byte) {
	t.Helper()
	src := bytes.NewReader(b)
	h, err := wal.ReadHeader(src)
	if err != nil {
		t.Fatal(err)
	}
	type commit struct {
		First, Last int64
		Pages       uint32
	}
	var want, got []commit
	reader := wal.NewReader(src, h, h.Start())
	for {
		c, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, commit{h.Offset(c.Start.Frame + 1), h.Offset(c.End.Frame), c.Pages})
	}
	r := must(t, b, scan.Options{})
	if r.Header.Err != nil || r.Header.Trust != scan.Whole || len(r.Header.Rebuilt) != 0 || r.Header.Used != h {
		t.Errorf("header %+v", r.Header)
	}
	for _, c := range r.Proven() {
		got = append(got, commit{r.Frames[c.First].Offset, r.Frames[c.Last].Offset, c.Pages})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commits (-reader +scan):\n%s", diff)
	}
}

// TestWhole scans WALs that SQLite wrote, and their stale tails, in both byte orders.
func TestWhole(t *testing.T) {
	t.Parallel()
	for _, size := range pageSizes() {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			first, second := written(t, size)
			for _, o := range []*original{first, first.reordered(), second, second.reordered()} {
				asReader(t, o.b)
				r := must(t, o.b, scan.Options{})
				newModel(o, o.b, false).compare(t, r)
				if n := len(r.Proven()); n != len(o.commits) {
					t.Errorf("%d commits proven, want %d", n, len(o.commits))
				}
				for i, f := range r.Frames {
					want := scan.Committed
					if i >= o.frames() {
						want = scan.Stale
					}
					if f.Verdict != want || r.Number(i) != uint32(i+1) {
						t.Fatalf("frame %d is %v, want %v", r.Number(i), f.Verdict, want)
					}
				}
			}
			// The stale tail still has whole commits of the first generation.
			m := newModel(first, second.b, true)
			m.compare(t, must(t, second.b, scan.Options{}))
			if len(m.expect()) == 0 {
				t.Error("no stale commit: the test has lost its point")
			}
		})
	}
}

// damages are ways to hurt a file in place, by name. at is one of its frames.
func damages(o *original, at int) map[string]func(b []byte) []byte {
	off := o.offset(at)
	flip := func(where int) func([]byte) []byte {
		return func(b []byte) []byte { b[where] ^= 0x10; return b }
	}
	zero := func(from, n int) func([]byte) []byte {
		return func(b []byte) []byte { clear(b[max(from, 0):min(from+n, len(b))]); return b }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	all := map[string]func([]byte) []byte{
		"header zeroed":          zero(0, 32),
		"header bad magic":       flip(0),
		"header other order":     func(b []byte) []byte { b[3] ^= 1; return b },
		"header bad version":     flip(5),
		"header bad page size":   flip(9),
		"header other page size": func(b []byte) []byte { b[10] ^= 0x30; return b },
		"header bad sequence":    flip(14),
		"header bad salts":       flip(18),
		"header bad sum":         flip(25),
		"header and frame 1":     zero(0, 60),
		"page number":            flip(off + 2),
		"page number zero":       zero(off, 4),
		"commit size":            flip(off + 6),
		"commit size zero":       zero(off+4, 4),
		"salt 1":                 flip(off + 11),
		"salt 2":                 flip(off + 14),
		"sum 1":                  flip(off + 17),
		"sum 2":                  flip(off + 23),
		"salts and sum":          zero(off+8, 16),
		"frame header":           zero(off, 24),
		"first byte of page":     flip(off + 24),
		"last byte of page":      flip(off + o.stride() - 1),
		"sum and next salts": func(b []byte) []byte {
			b[off+17] ^= 1
			b[min(off+o.stride()+9, len(b)-1)] ^= 1
			return b
		},
	}
	for name, n := range map[string]int{"4K": 4 << 10, "64K": 64 << 10} {
		all["zero "+name+" at frame"] = zero(off, n)
		all["zero "+name+" in page"] = zero(off+200, n)
		all["zero "+name+" in header"] = zero(off+12, n)
		all["zero "+name+" aligned"] = zero(off/n*n, n)
	}
	for name, n := range map[string]int{
		"at frame": off, "in page number": off + 2, "in salts": off + 11, "after header": off + 24,
		"in page": off + 300, "before frame's end": off + o.stride() - 1,
	} {
		all["cut "+name] = cut(n)
	}
	return all
}

// TestDamage hurts WALs that SQLite wrote, at frames of every kind.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 4096} {
		first, second := written(t, size)
		for k, o := range []*original{first.short(8), first.short(8).reordered(), second.short(9)} {
			n := 0
			for c, length := range o.commits[:3] {
				for _, at := range []int{n + 1, n + (length+1)/2, n + length} {
					for name, hurt := range damages(o, at) {
						b := hurt(bytes.Clone(o.b))
						t.Run(fmt.Sprintf("%d/%d/commit=%d/frame=%d/%s", size, k, c, at, name), func(t *testing.T) {
							r := must(t, b, scan.Options{PageSize: size})
							newModel(o, b, false).compare(t, r)
							checkShape(t, r, b)
						})
					}
				}
				n += length
			}
		}
	}
}

// Every second block of the older WAL over the newer one, both as SQLite wrote them,
// which is what a share that mixes up writes leaves behind.
func TestMixedReal(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 4096} {
		older, newer := written(t, size)
		// Its stale tail has the other byte order than the older one has then.
		short := &original{b: newer.b[:newer.offset(newer.frames()+1)], h: newer.h, commits: newer.commits}
		for _, pair := range [][2]*original{{older, newer}, {older.reordered(), short.reordered()}, {older.reordered(), short}} {
			for _, block := range []int{4096, 16384, 65536} {
				for first := range 2 {
					b := bytes.Clone(pair[1].b)
					for at := first * block; at < len(b); at += 2 * block {
						copy(b[at:min(at+block, len(b))], pair[0].b[at:])
					}
					r := must(t, b, scan.Options{PageSize: size})
					checkShape(t, r, b)
					m := newModel(pair[1], b, true)
					m.compare(t, r)
					newModel(pair[0], b, true).compare(t, r)
					if slices.Contains(m.holds, true) && r.Header.Used.Salts != newer.h.Salts {
						t.Errorf("page size %d, blocks of %d: current generation %v, want %v", size, block, r.Header.Used.Salts, newer.h.Salts)
					}
				}
			}
		}
	}
}
