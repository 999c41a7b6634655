package scan_test

import (
	"pgregory.net/rapid"

	"tidemark/wal/scan"
)

// checkShape checks what is true of every result.
func checkShape(t rapid.TB, r *scan.Result, b []byte) {
	t.Helper()
	at, stride := int64(-1), 24+int64(r.Header.Used.PageSize)
	holding := make([]int, len(r.Generations))
	frames := make([]int, len(r.Generations))
	for i, f := range r.Frames {
		if f.Offset <= at || f.Offset >= int64(len(b)) || f.Offset%8 != 0 {
			t.Fatalf("frame %d at %d, after %d", i, f.Offset, at)
		}
		at = f.Offset
		torn := f.Offset+stride > int64(len(b))
		if torn != (f.Verdict == scan.Torn) && f.Verdict != scan.Unknown {
			t.Fatalf("frame %d at %d is %v", i, f.Offset, f.Verdict)
		}
		if f.Link.Holds() && (torn || f.Page == 0 || f.Generation < 0) {
			t.Fatalf("frame %+v holds", f)
		}
		if f.Generation >= 0 {
			frames[f.Generation]++
			if f.Link.Holds() {
				holding[f.Generation]++
			}
		}
	}
	for g, want := range r.Generations {
		if want.Frames != frames[g] || want.Holding != holding[g] {
			t.Fatalf("generation %+v has %d frames, %d hold", want, frames[g], holding[g])
		}
	}
	last := -1
	for _, c := range r.Commits {
		if c.First > c.Last || c.Last <= last {
			t.Fatalf("commit %+v after %d", c, last)
		}
		last = c.Last
		n := 0
		for i := range r.FramesOf(c) {
			n++
			if c.Proof >= scan.Intact && !r.Frames[i].Link.Holds() {
				t.Fatalf("%v commit has a frame that is %v", c.Proof, r.Frames[i].Link)
			}
		}
		if n == 0 || (c.Proof >= scan.Intact) != (c.Reason == scan.NoReason) && c.Proof != scan.Probable {
			t.Fatalf("commit %+v of %d frames", c, n)
		}
	}
}
