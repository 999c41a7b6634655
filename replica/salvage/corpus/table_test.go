package corpus_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidemark/replica/salvage"
)

// line is a row of the table that compares salvage with SQLite's own means.
type line struct {
	damage  string
	commits string
	rows    int // that the last committed state has
	// What SQLite reads, and recovers. Nil is not measured.
	reads, recovered *score
	// by has the best candidate, under its proof; and the fullest one of each lesser proof, if it
	// has more of the rows than those before it.
	by map[salvage.Proof]*score
}

// table collects lines, in the order of the damages.
type table struct {
	mu      sync.Mutex
	version string       // of the shell, guarded by mu
	lines   map[int]line // guarded by mu
}

// enter computes a line. It fails the test if SQLite's own means bring more than
// salvage did.
func (tab *table) enter(t *testing.T, at int, s *salvaged, sh *shell) {
	t.Helper()
	state := s.o.Ledger.State(s.o.Committed()).Rows()
	l := line{damage: s.d.Name, rows: len(state), by: map[salvage.Proof]*score{}}
	l.commits = fmt.Sprintf("%d + %d of %d", s.e.Proven, s.e.Probable, len(s.o.Frames))
	count := func(f *found) *score { return f.score(state, s.ledgers()...) }
	best := s.candidates[0]
	l.by[best.Proof] = count(best.found)
	fullest := l.by[best.Proof].right
	for _, proof := range []salvage.Proof{salvage.Proven, salvage.Probable, salvage.Damaged} {
		for _, c := range s.candidates {
			if got := count(c.found); c.Proof == proof && got.right > fullest {
				fullest = got.right
				l.by[proof] = got
			}
		}
	}
	if sh != nil {
		l.reads = count(sh.reads(t, s.f))
		if sh.recovers {
			l.recovered = count(sh.recover(t, s.f))
		}
	}
	for _, other := range []*score{l.reads, l.recovered} {
		if other != nil && other.right > fullest {
			t.Errorf("SQLite brings %v of %d rows, salvage %d", other, l.rows, fullest)
		}
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.lines[at] = l
	if sh != nil {
		tab.version = sh.version
	}
}

// String is the table in Markdown.
func (tab *table) String() string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "| damage | commits proven + probable | rows committed | `sqlite3` %s reads | its `.recover` | proven | probable | damaged |\n", tab.version)
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, at := range slices.Sorted(maps.Keys(tab.lines)) {
		l := tab.lines[at]
		fmt.Fprintf(&b, "| %s | %s | %d | %v | %v | %v | %v | %v |\n", l.damage, l.commits, l.rows, l.reads, l.recovered,
			l.by[salvage.Proven], l.by[salvage.Probable], l.by[salvage.Damaged])
	}
	return b.String()
}

// print shows the table, and writes it into the file that TIDEMARK_TEST_TABLE names.
func (tab *table) print(t *testing.T) {
	t.Helper()
	t.Logf("rows that come back; \"old\" are versions of rows that were replaced or deleted later, \"false\" ones were never committed\n%s", tab)
	if name := os.Getenv("TIDEMARK_TEST_TABLE"); name != "" {
		if err := os.WriteFile(name, []byte(tab.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}
