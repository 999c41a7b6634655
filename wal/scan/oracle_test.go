package scan_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	_ "modernc.org/sqlite" // the writer of real WALs
	"pgregory.net/rapid"

	"tidemark/wal"
	"tidemark/wal/scan"
)

// original is a WAL as its writer made it, and what the writer knows of it: the
// number of frames of each commit of its generation. Frames past them are older.
type original struct {
	b       []byte
	h       wal.Header
	commits []int
}

func (o *original) stride() int      { return 24 + int(o.h.PageSize) }
func (o *original) offset(n int) int { return 32 + (n-1)*o.stride() }

func (o *original) frames() int {
	n := 0
	for _, c := range o.commits {
		n += c
	}
	return n
}

// short is the WAL's first commits, with a few of the frames behind them.
func (o *original) short(commits int) *original {
	s := &original{h: o.h, commits: o.commits[:min(commits, len(o.commits))]}
	s.b = o.b[:min(s.offset(s.frames()+6), len(o.b))]
	if len(s.commits) < len(o.commits) { // what follows is no older generation
		s.b = s.b[:s.offset(s.frames()+1)]
	}
	return s
}

// made is a WAL made by hand, with random pages. A negative number of frames is a
// transaction that stays open, at the end.
func made(h wal.Header, seed uint64, commits ...int) *original {
	o, rng := &original{b: h.AppendTo(nil)}, rand.NewPCG(seed, 7)
	o.h, _ = wal.ParseHeader(o.b)
	pos, image := o.h.Start(), make([]byte, h.PageSize)
	for _, n := range commits {
		if n > 0 {
			o.commits = append(o.commits, n)
		}
		for k := range max(n, -n) {
			for i := 0; i < len(image); i += 8 {
				binary.LittleEndian.PutUint64(image[i:], rng.Uint64())
			}
			size := uint32(0)
			if k == n-1 {
				size = 100 + uint32(rng.Uint64()%50)
			}
			o.b, pos = o.h.AppendFrame(o.b, pos, wal.PageNo(1+rng.Uint64()%100), size, image)
		}
	}
	return o
}

// reordered is the same WAL with checksums of the other byte order.
func (o *original) reordered() *original {
	h := o.h
	h.Order = 1 - h.Order
	b := h.AppendTo(nil)
	h, _ = wal.ParseHeader(b)
	pos, n := h.Start(), o.frames()
	for k := 1; k <= n; k++ {
		f := o.b[o.offset(k):o.offset(k+1)]
		w := wal.ParseFrameHeader(f)
		b, pos = h.AppendFrame(b, pos, w.Page, w.Commit, f[24:])
	}
	return &original{b: append(b, o.b[len(b):]...), h: h, commits: o.commits}
}

// written has SQLite write WALs: one of a new database, and the next generation
// over it, shorter, so that the tail is stale.
func written(t *testing.T, size wal.PageSize) (first, second *original) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	exec := func(format string, args ...any) {
		t.Helper()
		if _, err := db.Exec(fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	exec("PRAGMA page_size=%d", size)
	exec("PRAGMA journal_mode=WAL")
	exec("PRAGMA wal_autocheckpoint=0")
	generation := func(commits int) *original {
		o := &original{}
		for k := range commits {
			switch {
			case k == 0:
				exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, b BLOB)")
				exec("INSERT INTO t (b) VALUES (randomblob(99))")
			case k%5 == 4:
				exec("UPDATE t SET b = randomblob(%d) WHERE id %% 3 = 0", 30*k)
			default:
				exec("WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM s WHERE n < %d)"+
					" INSERT INTO t (b) SELECT randomblob(%d) FROM s", 1+7*(k%4), int(size)/3)
			}
			b, err := os.ReadFile(path + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			if o.h, err = wal.ParseHeader(b); err != nil {
				t.Fatal(err)
			}
			// The writer's commit is what has this generation's salts since the last.
			o.b = b
			n := o.frames()
			for off := o.offset(n + 1); off+o.stride() <= len(b) && bytes.Equal(b[off+8:off+16], b[16:24]); off = o.offset(n + 1) {
				n++
				if binary.BigEndian.Uint32(b[off+4:]) != 0 {
					o.commits = append(o.commits, n-o.frames())
				}
			}
		}
		return o
	}
	first = generation(24)
	exec("PRAGMA wal_checkpoint(RESTART)")
	return first, generation(9)
}

// model says what must be found of a generation in a damaged file, from its
// writer's file alone: the frames that hold, and the commits.
type model struct {
	o     *original
	b     []byte
	mixed bool // damage came from another WAL, with salts of its own
	holds []bool
}

// same reports whether bytes of frame n are the writer's.
func (m *model) same(n, from, to int) bool {
	off := m.o.offset(n)
	return off+to <= len(m.b) && bytes.Equal(m.b[off+from:off+to], m.o.b[off+from:off+to])
}

func (m *model) headerSame() bool { return len(m.b) >= 32 && bytes.Equal(m.b[:32], m.o.b[:32]) }

func newModel(o *original, b []byte, mixed bool) *model {
	m := &model{o: o, b: b, mixed: mixed, holds: make([]bool, o.frames()+1)}
	content := func(n int) bool {
		return m.same(n, 0, 8) && m.same(n, 24, o.stride()) && (!mixed || m.same(n, 8, 16))
	}
	sum := func(n int) bool {
		if n == 0 {
			if m.headerSame() {
				return true
			}
			// A lost sequence leaves 32 bits that speak for a header: too few.
			salts := len(b) >= 32 && bytes.Equal(b[16:24], o.b[16:24])
			for k := 1; k < o.frames(); k++ {
				salts = salts || m.same(k, 8, 24) && binary.BigEndian.Uint32(b[o.offset(k):]) != 0 && m.same(k+1, 0, o.stride())
			}
			known := salts && o.h.Sequence == 0 || len(b) >= 32 &&
				(salts && bytes.Equal(b[12:16], o.b[12:16]) || bytes.Equal(b[24:32], o.b[24:32]))
			whole := false // of another generation, then it says nothing
			if _, err := wal.ParseHeader(b); err == nil {
				whole = true
			}
			return known && !whole && content(1) && m.same(1, 8, 24)
		}
		return m.same(n, 16, 24) && len(b) >= o.offset(n+1) && (!mixed || m.same(n, 8, 16))
	}
	// A frame holds if from a sum before it to one after it, or its own, all frames
	// have their contents.
	for from := range o.frames() {
		if !sum(from) {
			continue
		}
		for to := from + 1; to <= o.frames() && content(to); to++ {
			if !sum(to) {
				continue
			}
			for n := from + 1; n <= to; n++ {
				m.holds[n] = true
			}
			break
		}
	}
	return m
}

// span is a commit's place in the file.
type span struct{ first, last int }

// expect gives the commits that must be found, and as what. Those are left out
// of which the model knows only that they are no more than probable.
func (m *model) expect() map[span]scan.Proof {
	all, n, unbroken := map[span]scan.Proof{}, 0, true
	for _, length := range m.o.commits {
		first, last := n+1, n+length
		whole := !slices.Contains(m.holds[first:last+1], false)
		unbroken = unbroken && whole
		before := n > 0 && m.holds[n]
		at := span{m.o.offset(first), m.o.offset(last)}
		switch {
		case unbroken:
			all[at] = scan.Proven
		case whole && before:
			all[at] = scan.Intact
		case whole && n > 0 && m.o.offset(n)+8 <= len(m.b) && binary.BigEndian.Uint32(m.b[m.o.offset(n)+4:]) != 0:
			all[at] = scan.Probable
		}
		// A damaged frame that seems to commit: what follows seems to be a commit.
		for k := last - 1; k >= first && !whole && m.holds[k+1]; k-- {
			if !m.holds[k] && m.o.offset(k)+8 <= len(m.b) && binary.BigEndian.Uint32(m.b[m.o.offset(k)+4:]) != 0 {
				all[span{m.o.offset(k + 1), at.last}] = scan.Probable
			}
		}
		n = last
	}
	return all
}

// must scans and fails the test on an error.
func must(t rapid.TB, b []byte, opts scan.Options) *scan.Result {
	t.Helper()
	r, err := scan.Scan(bytes.NewReader(b), int64(len(b)), opts)
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return r
}

// compare holds a result against the model, and what is proven or intact against
// the writer's bytes.
func (m *model) compare(t rapid.TB, r *scan.Result) {
	t.Helper()
	got := map[span]scan.Proof{}
	image := make([]byte, r.Header.Used.PageSize)
	for _, c := range r.Commits {
		if r.Generations[c.Generation].Salts != m.o.h.Salts {
			continue
		}
		at := span{int(r.Frames[c.First].Offset), int(r.Frames[c.Last].Offset)}
		if c.Proof == scan.Damaged || c.Proof == scan.Probable && c.Reason != scan.StartUnproved {
			continue
		}
		if at.last > m.o.offset(m.o.frames()) {
			continue
		}
		got[at] = c.Proof
		if c.Proof == scan.Probable {
			continue
		}
		off := at.first
		for i := range r.FramesOf(c) {
			f := r.Frames[i]
			if err := r.ReadPage(i, image); err != nil {
				t.Fatal(err)
			}
			want := m.o.b[off : off+m.o.stride()]
			if f.Offset != int64(off) || uint32(f.Page) != binary.BigEndian.Uint32(want) ||
				f.Commit != binary.BigEndian.Uint32(want[4:]) || !bytes.Equal(image, want[24:]) {
				t.Fatalf("frame at %d of a %v commit is not what was written at %d", f.Offset, c.Proof, off)
			}
			off += m.o.stride()
		}
		if off != at.last+m.o.stride() {
			t.Fatalf("commit at %v has frames up to %d", at, off)
		}
	}
	want := m.expect()
	for at, p := range want {
		if got[at] != p {
			t.Errorf("commit at %d to %d is %v, want %v", at.first, at.last, got[at], p)
		}
	}
	for at, p := range got {
		if _, ok := want[at]; !ok {
			t.Errorf("commit at %d to %d is %v, want less", at.first, at.last, p)
		}
	}
}
