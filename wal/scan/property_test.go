package scan_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark/wal"
	"tidemark/wal/scan"
)

func drawHeader(t *rapid.T) wal.Header {
	return wal.Header{
		Order:    rapid.SampledFrom([]wal.ByteOrder{wal.LittleEndian, wal.BigEndian}).Draw(t, "order"),
		PageSize: rapid.SampledFrom(pageSizes()[:4]).Draw(t, "page size"),
		Sequence: rapid.Uint32().Draw(t, "sequence"),
		Salts:    wal.Salts{Salt1: rapid.Uint32().Draw(t, "salt1"), Salt2: rapid.Uint32Min(1).Draw(t, "salt2")},
	}
}

func drawCommits(t *rapid.T) []int {
	return rapid.SliceOfN(rapid.IntRange(1, 6), 1, 12).Draw(t, "commits")
}

// One damaged frame, whatever is damaged in it, costs as proven what comes from it
// on, and as intact only the commit that it is in.
func TestOneFrame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := made(drawHeader(t), rapid.Uint64().Draw(t, "seed"), drawCommits(t)...)
		b, n := bytes.Clone(o.b), rapid.IntRange(1, o.frames()).Draw(t, "frame")
		off := o.offset(n)
		// Page data only: then the limits of all commits stay known.
		at := off + 24 + rapid.IntRange(0, int(o.h.PageSize)-1).Draw(t, "byte")
		b[at] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		r := must(t, b, scan.Options{})
		last := 0
		for k, c := range r.Commits {
			first := last + 1
			last += o.commits[k]
			want := scan.Intact
			switch {
			case last < n:
				want = scan.Proven
			case first <= n:
				want = scan.Damaged
			case first == n+1:
				want = scan.Probable
			}
			if c.Proof != want {
				t.Fatalf("commit %d, frames %d to %d, is %v, want %v", k, first, last, c.Proof, want)
			}
		}
		if len(r.Commits) != len(o.commits) {
			t.Fatalf("%d commits, want %d", len(r.Commits), len(o.commits))
		}
		newModel(o, b, false).compare(t, r)
	})
}

// Any damage in place: what the model expects is found, and nothing more.
func TestAnyDamage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := made(drawHeader(t), rapid.Uint64().Draw(t, "seed"), drawCommits(t)...)
		b := bytes.Clone(o.b)
		for range rapid.IntRange(0, 4).Draw(t, "damages") {
			n := rapid.IntRange(1, o.frames()).Draw(t, "frame")
			at := o.offset(n) + rapid.OneOf(rapid.IntRange(0, 30), rapid.IntRange(0, o.stride()-1)).Draw(t, "place")
			switch rapid.IntRange(0, 3).Draw(t, "way") {
			case 0:
				b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			case 1:
				clear(b[at:min(at+rapid.IntRange(1, 8192).Draw(t, "length"), len(b))])
			case 2:
				b[rapid.IntRange(0, 31).Draw(t, "header byte")] ^= 1
			case 3:
				at = at / 512 * 512
				clear(b[at:min(at+4096, len(b))])
			}
		}
		if rapid.Bool().Draw(t, "cut") {
			b = b[:rapid.IntRange(32, len(b)).Draw(t, "length")]
		}
		r := must(t, b, scan.Options{PageSize: o.h.PageSize})
		checkShape(t, r, b)
		m := newModel(o, b, false)
		if r.Header.Used.PageSize != o.h.PageSize || r.Header.Used.Order != o.h.Order {
			// Too little was left to tell; but then nothing may be claimed, either.
			if slices.Contains(m.holds, true) && m.headerSame() {
				t.Fatalf("header %+v", r.Header)
			}
			for _, c := range r.Commits {
				if c.Proof >= scan.Intact {
					t.Fatalf("%v commit under a wrong layout", c.Proof)
				}
			}
			return
		}
		m.compare(t, r)
	})
}

// Blocks of an older WAL over a newer one: both are told apart, and of each what
// is left is found.
func TestMixed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHeader(t)
		older := made(h, 1, drawCommits(t)...)
		h.Salts.Salt1++
		h.Salts.Salt2 = ^h.Salts.Salt2
		h.Sequence++
		newer := made(h, 2, drawCommits(t)...)
		b := bytes.Clone(newer.b)
		block := rapid.SampledFrom([]int{512, 4096, 65536}).Draw(t, "block")
		for at := 0; at < len(b) && at < len(older.b); at += block {
			if rapid.IntRange(0, 2).Draw(t, "older") == 0 {
				copy(b[at:min(at+block, len(b))], older.b[at:])
			}
		}
		if len(older.b) > len(b) && rapid.Bool().Draw(t, "stale tail") {
			b = append(b, older.b[len(b):]...)
		}
		r := must(t, b, scan.Options{})
		checkShape(t, r, b)
		if r.Header.Used.PageSize != h.PageSize {
			t.Fatalf("header %+v", r.Header)
		}
		m := newModel(newer, b, true)
		m.compare(t, r)
		newModel(older, b, true).compare(t, r)
		if slices.Contains(m.holds, true) && r.Header.Used.Salts != newer.h.Salts {
			t.Fatalf("current generation is %v, want %v", r.Header.Used.Salts, newer.h.Salts)
		}
	})
}

// A lost or an inserted run of sectors shifts what follows: it costs the frames that
// it touches, and the first one after it is an orphan.
func TestShifted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := made(drawHeader(t), rapid.Uint64().Draw(t, "seed"), drawCommits(t)...)
		n := 512 * rapid.IntRange(1, 20).Draw(t, "sectors")
		at := 512 * rapid.IntRange(1, len(o.b)/512).Draw(t, "place")
		lost := rapid.Bool().Draw(t, "lost")
		b := bytes.Clone(o.b[:at])
		end := at // the first byte of the original that lies after the damage
		if lost {
			end = min(at+n, len(o.b))
		} else {
			b = append(b, bytes.Repeat([]byte{0xa7}, n)...)
		}
		shift := len(b) - end
		b = append(b, o.b[end:]...)
		r := must(t, b, scan.Options{})
		checkShape(t, r, b)
		holding := map[int64]bool{}
		for _, f := range r.Frames {
			if f.Link.Holds() {
				holding[f.Offset] = true
			}
		}
		orphan := true // the first frame after the damage
		for k := 1; k <= o.frames(); k++ {
			switch off := o.offset(k); {
			case off+o.stride() <= at:
				if !holding[int64(off)] {
					t.Fatalf("frame %d before the damage at %d does not hold", k, at)
				}
			case off >= end:
				if !holding[int64(off+shift)] && !orphan {
					t.Fatalf("frame %d after the damage of %d bytes at %d does not hold", k, n, at)
				}
				orphan = false
			}
		}
		sound(t, o, r)
	})
}

// A block of the WAL that was written to a wrong place, too, gives no commit twice,
// and none out of order.
func TestMisdirected(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := made(drawHeader(t), rapid.Uint64().Draw(t, "seed"), drawCommits(t)...)
		sectors := len(o.b) / 512
		n := rapid.IntRange(1, max(sectors/3, 1)).Draw(t, "sectors")
		from := rapid.IntRange(0, sectors-n).Draw(t, "from")
		to := rapid.IntRange(0, sectors-n).Draw(t, "to")
		if from-n < to && to < from+n {
			return
		}
		b := bytes.Clone(o.b)
		if rapid.Bool().Draw(t, "first frame damaged") {
			b[o.offset(1)+100] ^= 1
		}
		copy(b[512*to:512*(to+n)], bytes.Clone(b[512*from:]))
		r := must(t, b, scan.Options{})
		checkShape(t, r, b)
		sound(t, o, r)
		last := -1
		for _, c := range r.Commits {
			if c.Proof < scan.Intact {
				continue
			}
			f := r.Frames[c.Last]
			k := 1
			for wal.ParseFrameHeader(o.b[o.offset(k):]).Sum != f.Sum {
				k++
			}
			if k <= last {
				t.Fatalf("commit that ends with the writer's frame %d comes after frame %d", k, last)
			}
			last = k
		}
	})
}

// sound checks that every proven or intact commit is one of the writer's,
// wherever it lies.
func sound(t *rapid.T, o *original, r *scan.Result) {
	image := make([]byte, o.h.PageSize)
	for _, c := range r.Commits {
		if c.Proof < scan.Intact {
			continue
		}
		var got []byte
		for i := range r.FramesOf(c) {
			f := r.Frames[i]
			if err := r.ReadPage(i, image); err != nil {
				t.Fatal(err)
			}
			got = append(append(got, byte(f.Page>>8), byte(f.Page)), image...)
		}
		n, found := 0, false
		for _, length := range o.commits {
			var want []byte
			for k := n + 1; k <= n+length; k++ {
				f := o.b[o.offset(k):o.offset(k+1)]
				want = append(append(want, f[2], f[3]), f[24:]...)
			}
			n += length
			found = found || bytes.Equal(got, want)
		}
		if !found {
			t.Fatalf("%v commit %+v was never written", c.Proof, c)
		}
	}
}
