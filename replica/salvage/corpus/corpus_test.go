package corpus_test

import (
	"fmt"
	"slices"
	"testing"

	"tidemark/replica/salvage/corpus"
	"tidemark/wal"
)

// spec is the database of a page size: three generations, of which the last is short.
func spec(size wal.PageSize, seed uint64) corpus.Spec {
	s := corpus.Spec{Seed: seed, PageSize: size, Generations: []int{40, 34, 20}, Tail: 12}
	if size > 16<<10 {
		s.Generations, s.Tail = []int{20, 14, 9}, 4
	}
	return s
}

func write(t *testing.T, s corpus.Spec) *corpus.Original {
	t.Helper()
	o, err := corpus.Write(t.Context(), t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// wrong says how rows that were found differ from a state, in a few words; empty if they
// don't.
func wrong(got map[corpus.Row]int, want map[corpus.Row]bool) string {
	var missing, more, twice []string
	for r := range want {
		if got[r] == 0 {
			missing = append(missing, r.Tag)
		}
	}
	for r, n := range got {
		if !want[r] {
			more = append(more, r.Tag)
		} else if n > 1 {
			twice = append(twice, r.Tag)
		}
	}
	if len(missing)+len(more)+len(twice) == 0 {
		return ""
	}
	return fmt.Sprintf("of %d rows missing: %s; not wanted: %s; more than once: %s", len(want), some(missing), some(more), some(twice))
}

// some tells a number of tags, and the first of them.
func some(tags []string) string {
	slices.Sort(tags)
	return fmt.Sprintf("%d %q", len(tags), tags[:min(len(tags), 3)])
}

// TestWritten holds the oracle against SQLite, and against the files.
func TestWritten(t *testing.T) {
	t.Parallel()
	for _, size := range []wal.PageSize{512, 1024, 4096, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			o := write(t, spec(size, 1))
			t.Logf("database %d bytes, WAL %d; %d commits in the file and %d in the WAL, of %d frames; tail of %d; %d frames in all; %d rows",
				len(o.DB), len(o.WAL), o.Base, len(o.Frames), o.Last(len(o.Frames)), o.Tail, (len(o.WAL)-32)/o.Stride(), len(o.Ledger.State(o.Committed())))
			if o.Tail == 0 || o.Offset(o.Last(len(o.Frames))+o.Tail+1) >= len(o.WAL) {
				t.Error("no open transaction, or nothing stale behind it")
			}
			want := o.Ledger.State(o.Committed()).Rows()
			for name, o := range map[string]*corpus.Original{
				"as written": o, "reordered": o.Reordered(), "closed": o.Closed(), "closed after it was reordered": o.Reordered().Closed(),
			} {
				f := read(t, put(t, o.Files))
				if f.err != nil || len(f.strange) > 0 {
					t.Errorf("%s: %v, %d strange rows", name, f.err, len(f.strange))
				}
				if w := wrong(f.all(), want); w != "" {
					t.Errorf("%s: %s", name, w)
				}
				e := corpus.Expect(o, o.Files, corpus.Whole())
				if e.Proven != len(o.Frames) || e.Probable != 0 || !e.All.Exact || !e.Prefix.Exact || len(e.All.Rows) != len(want) {
					t.Errorf("%s: of whole files %d proven, %d probable, exact %v, %d of %d rows", name, e.Proven, e.Probable, e.All.Exact, len(e.All.Rows), len(want))
				}
			}
			for _, table := range corpus.Tables() {
				if n := o.Ledger.State(o.Committed()).Count(table); n < 1 {
					t.Errorf("%s has %d rows", table, n)
				}
			}
			for k, e := range o.Earlier {
				if w := wrong(read(t, put(t, e.Files)).all(), o.Ledger.State(e.Committed()).Rows()); w != "" {
					t.Errorf("generation %d: %s", k, w)
				}
			}
		})
	}
}
