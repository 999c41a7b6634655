package corpus_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark/replica/salvage"
	"tidemark/replica/salvage/corpus"
	"tidemark/wal"
)

// candidate is what salvage made, and the rows that are in it.
type candidate struct {
	salvage.Candidate
	*found
}

// salvaged is what came of one damage.
type salvaged struct {
	o *corpus.Original
	d corpus.Damage
	f corpus.Files
	e corpus.Expectation
	r *salvage.Report
	// candidates are in the report's order, the best one first.
	candidates []candidate
}

// hurt damages an original and computes what must come back.
func hurt(o *corpus.Original, d corpus.Damage) *salvaged {
	if d.Closed {
		o = o.Closed()
	}
	s := &salvaged{o: o, d: d, f: o.Clone()}
	d.Hurt(o, &s.f)
	s.e = corpus.Expect(o, s.f, d)
	return s
}

// run salvages, and reads what was made.
func (s *salvaged) run(t *testing.T) {
	t.Helper()
	path := put(t, s.f)
	given := path
	if s.f.DB == nil {
		given += "-wal"
	}
	out, all := filepath.Join(t.TempDir(), "out.db"), filepath.Join(t.TempDir(), "all")
	r, err := salvage.Run(t.Context(), salvage.Options{Path: given, Output: out, All: all, Logger: slog.New(slog.DiscardHandler)})
	s.untouched(t, path)
	if err != nil {
		t.Fatalf("salvage: %v", err)
	}
	s.r = r
	for i, c := range r.Candidates {
		if i == 0 && c.Output != out {
			t.Errorf("the best candidate, %s, is in %q, want %s", c.Kind, c.Output, out)
		}
		if _, err := os.Stat(c.Output + "-wal"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a WAL lies beside %s: %v", c.Kind, err)
		}
		s.candidates = append(s.candidates, candidate{c, read(t, c.Output)})
	}
	if len(s.candidates) == 0 {
		t.Fatal("no candidate")
	}
}

// untouched checks that the originals are as they were, and alone.
func (s *salvaged) untouched(t *testing.T, path string) {
	t.Helper()
	var want []string
	for name, b := range map[string][]byte{path: s.f.DB, path + "-wal": s.f.WAL} {
		if b == nil {
			continue
		}
		want = append(want, filepath.Base(name))
		if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, b) {
			t.Errorf("%s is not what it was: %v", name, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("beside the originals lies %q, want %q", have, want)
	}
}

// meets says what a candidate lacks of an expectation, in a few words; empty for nothing.
func (c candidate) meets(want corpus.Content) string {
	if want.Exact {
		if c.err != nil {
			return c.err.Error()
		}
		return wrong(c.all(), want.State.Rows())
	}
	have := c.all()
	var missing []string
	for r := range want.Rows {
		if have[r] == 0 {
			missing = append(missing, r.Tag)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("of %d rows missing: %s", len(want.Rows), some(missing))
}

// some checks that some candidate meets an expectation.
func (s *salvaged) some(t *testing.T, what string, want corpus.Content) {
	t.Helper()
	for _, c := range s.candidates {
		if c.meets(want) == "" {
			return
		}
	}
	for _, c := range s.candidates {
		t.Errorf("%s: %s (%s, %d commits, integrity %.40s): %s", what, c.Kind, c.Proof, c.Commits, c.Integrity, c.meets(want))
	}
}

// check holds everything against the oracle.
func (s *salvaged) check(t *testing.T) {
	t.Helper()
	switch {
	case s.d.StrangeDB != nil:
		s.counts(t)
		s.some(t, "the database's", corpus.Expect(s.d.StrangeDB(s.o), corpus.Files{DB: s.f.DB}, s.d).Prefix)
		s.some(t, "the WAL's", s.e.All)
	case s.d.StrangeWAL != nil:
		s.some(t, "the database's", s.e.Prefix)
		s.some(t, "the WAL's", corpus.Expect(s.d.StrangeWAL(s.o), corpus.Files{WAL: s.f.WAL}, s.d).All)
	default:
		s.counts(t)
		if s.e.Prefix.Exact || s.e.Probable == 0 {
			s.some(t, "proven", s.e.Prefix)
		}
		s.some(t, "with probable ones", s.e.All)
		if best := s.candidates[0]; best.meets(s.e.Prefix) != "" && best.meets(s.e.All) != "" {
			t.Errorf("the best one, %s, lacks of what is proven: %s; and with probable ones: %s", best.Kind, best.meets(s.e.Prefix), best.meets(s.e.All))
		}
	}
	s.verdict(t)
	for _, c := range s.candidates {
		s.honest(t, c)
		for _, table := range c.Tables {
			if n := c.count[table.Name]; n != table.Rows {
				t.Errorf("%s has %d rows in %s, and is said to have %d", c.Kind, n, table.Name, table.Rows)
			}
		}
	}
}

// verdict checks that what is whole is called so, and nothing else that can be told
// from it.
func (s *salvaged) verdict(t *testing.T) {
	t.Helper()
	best, last := s.candidates[0], s.o.Ledger.State(s.o.Committed()).Rows()
	if s.e.Proven == len(s.o.Frames) && bytes.Equal(s.f.DB, s.o.DB) && s.d.StrangeWAL == nil {
		if w := wrong(best.all(), last); best.Proof != salvage.Proven || w != "" {
			t.Errorf("all is there, but the best candidate, %s, is %s (%s): %s", best.Kind, best.Proof, best.Why, w)
		}
	}
	if s.r.Verdict == salvage.Whole && !s.d.Unseen && !slices.ContainsFunc(s.originals(), best.committed) {
		t.Errorf("called whole, but the best candidate, %s, is no state that was committed", best.Kind)
	}
	if lost := s.e.Proven < len(s.o.Frames) && len(s.f.WAL) >= len(s.o.WAL); lost && s.r.Verdict == salvage.Whole {
		t.Errorf("called whole, but %d of %d commits cannot be proven", len(s.o.Frames)-s.e.Proven, len(s.o.Frames))
	}
}

// counts checks the numbers of commits.
func (s *salvaged) counts(t *testing.T) {
	t.Helper()
	proven, probable := 0, 0
	if s.r.Log != nil {
		proven, probable = s.r.Log.Proven, s.r.Log.Probable
	}
	if s.e.Gone || s.r.Log != nil && s.r.Log.Healed > 0 && proven+probable >= s.e.Proven+s.e.Probable {
		return // With an image of the database's, a lost frame is proven after all.
	}
	if proven != s.e.Proven || probable != s.e.Probable {
		t.Errorf("of %d commits %d are proven and %d probable, want %d and %d", len(s.o.Frames), proven, probable, s.e.Proven, s.e.Probable)
	}
}

// originals are the databases of which something is in play.
func (s *salvaged) originals() []*corpus.Original {
	all := []*corpus.Original{s.o}
	for _, stranger := range []func(*corpus.Original) *corpus.Original{s.d.StrangeDB, s.d.StrangeWAL} {
		if stranger != nil {
			all = append(all, stranger(s.o))
		}
	}
	return all
}

func (s *salvaged) ledgers() []*corpus.Ledger {
	var all []*corpus.Ledger
	for _, o := range s.originals() {
		all = append(all, o.Ledger)
	}
	return all
}

// honest checks that a candidate claims nothing that was not committed: no false row,
// and, if it is called proven, that it is a state that was committed.
func (s *salvaged) honest(t *testing.T, c candidate) {
	t.Helper()
	limit := 0
	if s.d.Unseen || s.e.Unseen { // Nothing can tell such a row from a true one.
		limit = len(s.e.All.State) - len(s.e.All.Rows)
	}
	n := c.score(nil, s.ledgers()...)
	if n.wrong > limit {
		t.Errorf("%s (%s) has %d rows that were never committed: %s", c.Kind, c.Proof, n.wrong, c.never(s.ledgers()))
	}
	// Where a commit is lost, older pages can be left in use unseen; so it is not proven.
	mixable := s.d.Unseen || c.Proof != salvage.Proven && s.e.Proven+s.e.Probable < len(s.o.Frames)
	for table := range n.tables {
		if !mixable && !c.doubts(table) {
			t.Errorf("%s (%s) has %d rows that are mixed of others, and does not say that %s is damaged", c.Kind, c.Proof, n.mixed, table)
		}
	}
	if s.d.Unseen && s.d.StrangeDB == nil || c.Proof != salvage.Proven || slices.ContainsFunc(s.originals(), c.committed) {
		return
	}
	t.Errorf("%s, %d commits, is called proven, but is no state that was committed; against commit %d: %s", c.Kind, c.Commits,
		s.o.Base+c.Commits, wrong(c.all(), s.o.Ledger.State(min(s.o.Base+c.Commits, s.o.Committed())).Rows()))
}

// doubts reports whether a table is called damaged, and so is the candidate.
func (c candidate) doubts(table string) bool {
	return c.Proof == salvage.Damaged && slices.ContainsFunc(c.Tables, func(t salvage.Table) bool {
		return t.Name == table && t.Proof == salvage.Damaged
	})
}

// never tells some rows that were never committed.
func (c candidate) never(ledgers []*corpus.Ledger) string {
	var all []string
	for _, r := range c.strange {
		all = append(all, r.table+": "+brief(r.literals))
	}
	for r := range c.all() {
		if !slices.ContainsFunc(ledgers, func(l *corpus.Ledger) bool { return l.Ever()[r] || l.Part(c.fields[r]) }) {
			all = append(all, fmt.Sprintf("%s %s", r.Tag, brief(c.fields[r])))
		}
	}
	return some(all)
}

// committed reports whether the candidate is a committed state.
func (c candidate) committed(o *corpus.Original) bool {
	have := c.all()
	if len(have) == 0 {
		return false
	}
	for n := o.Committed(); n > 0; n-- {
		if wrong(have, o.Ledger.State(n).Rows()) == "" {
			return true
		}
	}
	return false
}

// stage is a database and what happens to it.
type stage struct {
	size    wal.PageSize
	reorder bool
	seed    uint64
	// of the damages, each of these many is tried, from this one on; or that with this name.
	each, from int
	only       string
}

// stages try each damage once, with some page size, unless TIDEMARK_TEST_LONG is set; with the race
// detector each third one.
func stages() []stage {
	if os.Getenv("TIDEMARK_TEST_LONG") == "" {
		all := []stage{
			{size: 4096, seed: 1, each: 3},
			{size: 512, seed: 4, each: 3, from: 1, reorder: true},
			{size: 1024, seed: 7, each: 6, from: 2, reorder: true},
			{size: 65536, seed: 10, each: 6, from: 5},
		}
		for i := range all {
			if slowly {
				all[i].each *= 3
			}
		}
		return all
	}
	var all []stage
	for seed := uint64(1); seed < 60; seed += 3 {
		for _, size := range []wal.PageSize{512, 1024, 4096, 65536} {
			all = append(all, stage{size: size, seed: seed, each: 1}, stage{size: size, seed: seed, each: 1, reorder: true})
		}
	}
	return all
}

// TestSalvage salvages what damages leave.
func TestSalvage(t *testing.T) {
	t.Parallel()
	for _, st := range stages() {
		t.Run(fmt.Sprintf("size=%d/reordered=%v/seed=%d", st.size, st.reorder, st.seed), func(t *testing.T) {
			st.run(t, write(t, spec(st.size, st.seed)), func(*testing.T, int, *salvaged) {})
		})
	}
}

// TestOnceWrong salvages again what was read wrong once, and is not among what TestSalvage tries
// by default.
func TestOnceWrong(t *testing.T) {
	t.Parallel()
	for i, st := range []stage{
		// No page of these says its size, and those of other sizes look like some, too.
		{size: 512, seed: 16, only: "database: header zeroed, no WAL"},
		{size: 1024, seed: 16, only: "database: header zeroed, no WAL"},
		{size: 4096, seed: 22, only: "database: first page zeroed, no WAL"},
		// The database is whole, and looks as if it had the WAL's page size.
		{size: 512, seed: 16, only: "WAL: of another page size"},
		// Half of a frame is another one's, and nothing proves it.
		{size: 4096, seed: 16, only: "WAL mixed: each 2nd block of 4 KiB older"},
		// More entries of indexes are left than rows.
		{size: 512, seed: 22, only: "database: cut to half, good WAL"},
	} {
		t.Run(fmt.Sprintf("%d/size=%d/seed=%d", i, st.size, st.seed), func(t *testing.T) {
			t.Parallel()
			st.reorder = true
			st.run(t, write(t, spec(st.size, st.seed)), func(*testing.T, int, *salvaged) {})
		})
	}
}

// TestTable salvages what every damage leaves of one database, lets SQLite's own means
// try the same, and prints how many rows come back.
func TestTable(t *testing.T) {
	t.Parallel()
	if slowly {
		t.Skip("counts the same rows with the race detector as without")
	}
	o := write(t, spec(4096, 1))
	sh, tab := newShell(t, o.Files), &table{lines: map[int]line{}}
	t.Run("damage", func(t *testing.T) {
		stage{size: 4096, seed: 1, each: 1}.run(t, o, func(t *testing.T, at int, s *salvaged) {
			t.Helper()
			tab.enter(t, at, s, sh)
		})
	})
	tab.print(t)
}

// run tries the damages of a stage, and then gives each with its number.
func (st stage) run(t *testing.T, o *corpus.Original, then func(*testing.T, int, *salvaged)) {
	t.Helper()
	odd := st.size * 2
	if st.size > 4096 {
		odd = 4096
	}
	x := corpus.Others{Same: write(t, spec(st.size, st.seed+1)), Odd: write(t, spec(odd, st.seed+2))}
	fresh := write(t, corpus.Spec{Seed: st.seed, PageSize: st.size, Generations: []int{30}, Tail: 5})
	if st.reorder {
		o, fresh = o.Reordered(), fresh.Reordered()
	}
	try := func(at int, o *corpus.Original, d corpus.Damage) {
		if st.only != "" && d.Name != st.only || st.only == "" && at%st.each != st.from {
			return
		}
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			s := hurt(o, d)
			s.run(t)
			s.check(t)
			then(t, at, s)
		})
	}
	damages := corpus.Damages(x)
	for at, d := range damages {
		try(at, o, d)
	}
	for at, d := range corpus.FreshDamages()[1:] {
		try(len(damages)+at, fresh, d)
	}
}
