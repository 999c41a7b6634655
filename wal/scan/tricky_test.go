package scan_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
	"tidemark/wal/scan"
)

// letters gives the verdicts of all frames, one letter each; a frame that was
// healed has a capital H instead.
func letters(r *scan.Result) string {
	var all []byte
	for _, f := range r.Frames {
		l := "?cusbto"[f.Verdict]
		if f.Link == scan.Healed {
			l = 'H'
		}
		all = append(all, l)
	}
	return string(all)
}

// proofs gives the proofs of all commits, one letter each, generation by generation.
func proofs(r *scan.Result) string {
	var all []byte
	for _, c := range r.Commits {
		all = append(all, "dpiP"[c.Proof])
	}
	return string(all)
}

// appended is a WAL with a frame more, of given numbers.
func (o *original) appended(page wal.PageNo, commit uint32) *original {
	n := (len(o.b) - 32) / o.stride()
	last := wal.ParseFrameHeader(o.b[o.offset(n):])
	b, _ := o.h.AppendFrame(bytes.Clone(o.b), wal.Position{Sum: last.Sum}, page, commit, make([]byte, o.h.PageSize))
	return &original{b: b, h: o.h}
}

// TestTricky is a table of files that are easily read wrongly.
func TestTricky(t *testing.T) {
	t.Parallel()
	h := wal.Header{PageSize: 512, Sequence: 77, Salts: wal.Salts{Salt1: 41, Salt2: 0x1234567}}
	next := wal.Header{PageSize: 512, Sequence: 78, Salts: wal.Salts{Salt1: 42, Salt2: 0xfedcba9}}
	fresh := wal.Header{PageSize: 512, Salts: h.Salts}
	o := made(h, 1, 1, 3, 1, 2)
	edit := func(o *original, f func(b []byte)) []byte { b := bytes.Clone(o.b); f(b); return b }
	over := func(newer *original) []byte { return append(bytes.Clone(newer.b), o.b[len(newer.b):]...) }
	page := func(n int) int { return o.offset(n) + 100 }
	tests := []struct {
		name    string
		b       []byte
		frames  string
		commits string
		trust   scan.Trust
		salts   wal.Salts // of the current generation
	}{
		{"empty", nil, "", "", scan.Guessed, wal.Salts{}},
		{"31 bytes", o.b[:31], "", "", scan.Guessed, h.Salts},
		{"header only", o.b[:32], "", "", scan.Whole, h.Salts},
		{"cut in the first frame's header", o.b[:42], "t", "", scan.Whole, h.Salts},
		{"whole", o.b, "ccccccc", "PPPP", scan.Whole, h.Salts},
		{"last commit cut", o.b[:len(o.b)-1], "cccccut", "PPP", scan.Whole, h.Salts},
		{"open transaction", made(h, 1, 2, -3).b, "ccuuu", "P", scan.Whole, h.Salts},
		{"one frame, no header", edit(made(h, 1, 1), func(b []byte) { clear(b[:32]) }), "o", "p", scan.Likely, h.Salts},
		{"no header", edit(o, func(b []byte) { clear(b[:32]) }), "occcccc", "ppii", scan.Likely, h.Salts},
		{"no header, damaged first frame", edit(o, func(b []byte) { clear(b[:32]); b[page(1)] ^= 1 }), "occcccc", "dpii", scan.Guessed, h.Salts},
		{"no header, damaged second frame", edit(o, func(b []byte) { clear(b[:32]); b[page(2)] ^= 1 }), "obccccc", "pdii", scan.Likely, h.Salts},
		{"no header and only a stale tail that is long", edit(&original{b: over(made(next, 2, 1))}, func(b []byte) { clear(b[:32]) }), "ossssss", "pdii", scan.Likely, next.Salts},
		{"no header of a new WAL", edit(made(fresh, 1, 2, 1), func(b []byte) { clear(b[:32]) }), "ccc", "PP", scan.Confirmed, fresh.Salts},
		{"header of which only the sum is left", edit(o, func(b []byte) { clear(b[:24]) }), "ccccccc", "PPPP", scan.Confirmed, h.Salts},
		{"header of which only the sequence is left", edit(o, func(b []byte) { clear(b[:12]); clear(b[16:32]) }), "ccccccc", "PPPP", scan.Confirmed, h.Salts},
		{"damaged first frame", edit(o, func(b []byte) { b[page(1)] ^= 1 }), "bcccccc", "dpii", scan.Whole, h.Salts},
		{"damaged commit", edit(o, func(b []byte) { b[page(4)] ^= 1 }), "cccbccc", "Pdpi", scan.Whole, h.Salts},
		{"damaged commit that lost its mark", edit(o, func(b []byte) { clear(b[o.offset(4)+4 : o.offset(4)+8]) }), "cccbccc", "Pdi", scan.Whole, h.Salts},
		{"damaged commit at the end", edit(o, func(b []byte) { b[page(7)] ^= 1 }), "cccccub", "PPPd", scan.Whole, h.Salts},
		{"commit zeroed", edit(o, func(b []byte) { clear(b[o.offset(4):o.offset(5)]) }), "ccc?occ", "Pdp", scan.Whole, h.Salts},
		{"salts damaged", edit(o, func(b []byte) { b[o.offset(4)+9] ^= 1 }), "cccHccc", "PPPP", scan.Whole, h.Salts},
		{"salts of the last frame damaged", edit(o, func(b []byte) { b[o.offset(7)+11] ^= 1 }), "ccccccH", "PPPP", scan.Whole, h.Salts},
		{"sum damaged", edit(o, func(b []byte) { b[o.offset(4)+17] ^= 1 }), "cccHccc", "PPPP", scan.Whole, h.Salts},
		{"sum of the last frame damaged", edit(o, func(b []byte) { b[o.offset(7)+17] ^= 1 }), "cccccub", "PPPd", scan.Whole, h.Salts},
		{"salts and page damaged", edit(o, func(b []byte) { b[o.offset(3)+9] ^= 1; b[page(3)] ^= 1 }), "ccbcccc", "Pdii", scan.Whole, h.Salts},
		{"sum and page damaged", edit(o, func(b []byte) { b[o.offset(3)+17] ^= 1; b[page(3)] ^= 1 }), "ccboccc", "Pdpi", scan.Whole, h.Salts},
		{"sum and page of a commit damaged", edit(made(h, 1, 1, 3, 3), func(b []byte) { b[o.offset(4)+17] ^= 1; b[page(4)] ^= 1 }), "cccbocc", "Pdp", scan.Whole, h.Salts},
		{"page number 0 that the chain confirms", made(h, 1, 1).appended(0, 9).appended(3, 9).b, "cbc", "Pdp", scan.Whole, h.Salts},
		{"the same with damaged salts and sum", edit(made(h, 1, 1).appended(0, 9).appended(3, 9), func(b []byte) { clear(b[o.offset(2)+8 : o.offset(2)+24]) }), "cbc", "Pdp", scan.Whole, h.Salts},
		{"absurd numbers that the chain confirms", made(h, 1, 1).appended(1<<32-1, 1<<32-1).b, "cc", "PP", scan.Whole, h.Salts},
		{"restarted, nothing written yet", over(made(next, 2)), "sssssss", "ppii", scan.Whole, next.Salts},
		{"restarted", over(made(next, 2, 2, 1)), "cccssss", "PPdpi", scan.Whole, next.Salts},
		{"restarted, one stale frame", over(made(next, 2, 3, 3)), "ccccccs", "PPd", scan.Whole, next.Salts},
		{"header of the older generation", edit(made(next, 2, 2, 2), func(b []byte) { copy(b, o.b[:32]) }), "occc", "pi", scan.Likely, next.Salts},
		{"no version, damaged first salts", edit(o, func(b []byte) { b[5] ^= 1; b[o.offset(1)+8] ^= 1 }), "occcccc", "dpii", scan.Guessed, h.Salts},
		{"salts inside a lost page", edit(o, func(b []byte) {
			clear(b[o.offset(4):o.offset(5)])
			copy(b[o.offset(4)+96:], o.b[o.offset(4):o.offset(4)+16])
			b[o.offset(5)+8] ^= 1
		}), "ccc?occ", "Pdp", scan.Whole, h.Salts},
		{"two orphans", edit(made(h, 1, 1, 1, 4), func(b []byte) {
			for n := 2; n <= 3; n++ {
				b[page(n)] ^= 1
				b[o.offset(n)+17] ^= 1
			}
		}), "cboocc", "Pdd", scan.Whole, h.Salts},
		{"header of another database's WAL", edit(o, func(b []byte) { copy(b, made(wal.Header{PageSize: 1024}, 1).b) }), "occcccc", "ppii", scan.Likely, h.Salts},
		{"older blocks over the beginning", edit(made(next, 2, 2, 2, 1), func(b []byte) { copy(b[:o.offset(2)+30], o.b) }), "ssocc", "Pdi", scan.Guessed, next.Salts},
		{"zeros", make([]byte, 9000), "", "", scan.Guessed, wal.Salts{}},
		{"text", bytes.Repeat([]byte("no WAL. "), 2000), "", "", scan.Guessed, wal.Salts{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := must(t, tt.b, scan.Options{})
			checkShape(t, r, tt.b)
			type found struct {
				Frames, Commits string
				Trust           scan.Trust
				Salts           wal.Salts
			}
			want := found{tt.frames, tt.commits, tt.trust, tt.salts}
			if diff := cmp.Diff(want, found{letters(r), proofs(r), r.Header.Trust, r.Header.Used.Salts}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A header is rebuilt exactly, with its sequence, which no frame repeats.
func TestHeaderRebuilt(t *testing.T) {
	t.Parallel()
	for _, size := range pageSizes() {
		for _, order := range []wal.ByteOrder{wal.LittleEndian, wal.BigEndian} {
			h := wal.Header{Order: order, PageSize: size, Sequence: 0xabcdef, Salts: wal.Salts{Salt1: 9, Salt2: 8}}
			o := made(h, 3, 1, 2)
			b := bytes.Clone(o.b)
			clear(b[:32])
			r := must(t, b, scan.Options{})
			if r.Header.Used != o.h || r.Header.Trust != scan.Likely || r.Header.Err == nil || proofs(r) != "pp" {
				t.Errorf("page size %d, order %d: %+v, want %+v; commits %s", size, order, r.Header, o.h, proofs(r))
			}
			// The first frame does not hold, so it does not vote.
			want := []scan.Rebuilt{{scan.Magic, 2}, {scan.Version, 2}, {scan.PageSize, 2}, {scan.Sequence, 1}, {scan.Salts, 3}, {scan.Sum, 1}}
			if diff := cmp.Diff(want, r.Header.Rebuilt); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			copy(b[12:], o.b[12:16])
			if r := must(t, b, scan.Options{}); r.Header.Used != o.h || r.Header.Trust != scan.Confirmed || proofs(r) != "PP" {
				t.Errorf("with its sequence: %+v, commits %s", r.Header, proofs(r))
			}
		}
	}
	o := made(wal.Header{PageSize: 1024, Salts: wal.Salts{Salt1: 9, Salt2: 8}}, 3, 1, 2)
	o.b[14] ^= 1
	want := []scan.Rebuilt{{scan.Sequence, 1}}
	if diff := cmp.Diff(want, must(t, o.b, scan.Options{}).Header.Rebuilt); diff != "" {
		t.Errorf("sequence damaged (-want +got):\n%s", diff)
	}
}

// The file's beginning is lost, so that there is no header and no frame on the grid.
func TestBeginningLost(t *testing.T) {
	t.Parallel()
	for _, size := range pageSizes() {
		o := made(wal.Header{PageSize: size, Salts: wal.Salts{Salt1: 9, Salt2: 8}}, 3, 1, 2, 3, 4)
		b := o.b[512:]
		r := must(t, b, scan.Options{})
		checkShape(t, r, b)
		if got := proofs(r); r.Header.Used.PageSize != size || got[len(got)-2:] != "ii" {
			t.Errorf("page size %d: read as %d, commits %s", size, r.Header.Used.PageSize, got)
		}
	}
}

// What SQLite rolled back lies behind the last commit, of the same generation.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	h := wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 3, Salt2: 4}}
	o := made(h, 1, 2, -5)
	p := wal.Position{Sum: wal.ParseFrameHeader(o.b[o.offset(2):]).Sum}
	f, _ := o.h.AppendFrame(nil, p, 9, 50, make([]byte, 512))
	copy(o.b[o.offset(3):], f)
	asReader(t, o.b)
	r := must(t, o.b, scan.Options{})
	if got, want := letters(r)+" "+proofs(r), "cccbuuu PP"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A transaction whose beginning is lost does not take what was before the gap.
func TestGap(t *testing.T) {
	t.Parallel()
	o := made(wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 3, Salt2: 4}}, 1, 1, 2, 3)
	clear(o.b[o.offset(3):o.offset(4)])
	r := must(t, o.b, scan.Options{})
	want := []scan.Commit{
		{First: 0, Last: 0, Pages: r.Frames[0].Commit, Proof: scan.Proven},
		{First: 3, Last: 5, Bad: 3, Pages: r.Frames[5].Commit, Reason: scan.StartLost},
	}
	if diff := cmp.Diff(want, r.Commits); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Sectors that were inserted exactly between two frames cost nothing.
func TestInsertedBetween(t *testing.T) {
	t.Parallel()
	o := made(wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 3, Salt2: 4}}, 1, slices.Repeat([]int{1}, 25)...)
	if o.offset(21)%512 != 0 {
		t.Fatal("frame 21 begins no sector")
	}
	b := slices.Insert(bytes.Clone(o.b), o.offset(21), bytes.Repeat([]byte{0xee}, 1024)...)
	if got, want := proofs(must(t, b, scan.Options{})), strings.Repeat("P", 25); got != want {
		t.Errorf("commits %s, want %s", got, want)
	}
}

// Files made to cost much: the time is in proportion to their length.
func TestHostile(t *testing.T) {
	t.Parallel()
	h := wal.Header{PageSize: 65536, Salts: wal.Salts{Salt1: 7, Salt2: 7}}
	const size = 1 << 20
	salts := bytes.Repeat([]byte{0, 0, 0, 7}, size/4)
	rising := make([]byte, size)
	for i := 0; i < size; i += 4 {
		binary.BigEndian.PutUint32(rising[i:], uint32(i/536+1))
	}
	random, rng := make([]byte, 24+65536), rand.NewPCG(1, 2)
	for i := range random {
		random[i] = byte(rng.Uint64())
	}
	periodic := bytes.Repeat(random, size/len(random)+1)[:size]
	for _, fill := range [][]byte{salts, rising, periodic, make([]byte, size), bytes.Repeat([]byte{0xff}, size)} {
		for _, pageSize := range []wal.PageSize{512, 4096, 65536} {
			h.PageSize = pageSize
			b := h.AppendTo(nil)
			b = append(b, fill...)
			count := &counter{r: bytes.NewReader(b)}
			r, err := scan.Scan(count, int64(len(b)), scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			checkShape(t, r, b)
			if count.bytes > 40*size {
				t.Errorf("page size %d: %d bytes read of %d", pageSize, count.bytes, size)
			}
			if len(r.Generations) > 1024 || len(r.Frames) > size/512 {
				t.Errorf("page size %d: %d generations, %d frames", pageSize, len(r.Generations), len(r.Frames))
			}
		}
		b := append(make([]byte, 32), fill...)
		count := &counter{r: bytes.NewReader(b)}
		r, err := scan.Scan(count, int64(len(b)), scan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkShape(t, r, b)
		if count.bytes > 40*size {
			t.Errorf("no header: %d bytes read of %d", count.bytes, size)
		}
	}
}

// counter counts what is read.
type counter struct {
	r     io.ReaderAt
	bytes int
}

// ReadAt implements io.ReaderAt.
func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.bytes += len(p)
	return c.r.ReadAt(p, off)
}

func TestSourceFails(t *testing.T) {
	t.Parallel()
	o := made(wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 3, Salt2: 4}}, 1, 5, 5)
	for _, size := range []int64{int64(len(o.b)) + 1, 1 << 62} {
		if _, err := scan.Scan(bytes.NewReader(o.b), size, scan.Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := scan.Scan(failing{}, 4096, scan.Options{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("failing source: %v", err)
	}
	r := must(t, o.b[:len(o.b)-1], scan.Options{})
	if err := r.ReadPage(len(r.Frames)-1, make([]byte, 512)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("torn frame: %v", err)
	}
	if err := r.ReadPage(0, make([]byte, 511)); err == nil {
		t.Error("a buffer of the wrong length was taken")
	}
	if frames := slices.Collect(r.FramesOf(r.Commits[0])); len(frames) != 5 {
		t.Errorf("frames %v", frames)
	}
}

type failing struct{}

// ReadAt implements io.ReaderAt.
func (failing) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }
