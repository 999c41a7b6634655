package corpus_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/replica/salvage/corpus"
)

// shell is SQLite's own, against which salvage is measured.
type shell struct {
	path, version string
	// recovers says that it has .recover, which some builds lack that still show it in
	// their help.
	recovers bool
}

// newShell finds sqlite3, or the program that TIDEMARK_TEST_SQLITE3 names; nil without one.
func newShell(t *testing.T, healthy corpus.Files) *shell {
	t.Helper()
	path := os.Getenv("TIDEMARK_TEST_SQLITE3")
	if path == "" {
		found, err := exec.LookPath("sqlite3")
		if err != nil {
			t.Log("no sqlite3 in PATH: nothing is measured against it")
			return nil
		}
		path = found
	}
	s := &shell{path: path}
	version, err := s.run(t, "", "--version")
	if err != nil {
		t.Fatalf("%s --version: %v", path, err)
	}
	s.version, _, _ = strings.Cut(version, " ")
	text, _ := s.run(t, "", put(t, healthy), ".recover")
	s.recovers = strings.Contains(text, "INSERT")
	if !s.recovers {
		t.Logf("%s has no working .recover: it is not measured; TIDEMARK_TEST_SQLITE3 names another sqlite3", path)
	}
	return s
}

// run gives what the shell prints, also beside an error.
func (s *shell) run(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.path, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
		return out.String(), fmt.Errorf("%w: %s", err, line)
	}
	return out.String(), nil
}

// reads gives the rows that SELECT brings from each table, up to an error.
func (s *shell) reads(t *testing.T, files corpus.Files) *found {
	t.Helper()
	var script strings.Builder
	for _, table := range corpus.Tables() {
		fmt.Fprintf(&script, "SELECT '%s:'||%s;\n", table, strings.TrimPrefix(corpus.Select(table), "SELECT "))
	}
	text, err := s.run(t, script.String(), put(t, files))
	f := newFound()
	f.err = err
	for line := range strings.Lines(text) {
		table, row, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		f.add(table, strings.Split(row, ","))
	}
	return f
}

// recover gives the rows that are in the database which .recover describes.
func (s *shell) recover(t *testing.T, files corpus.Files) *found {
	t.Helper()
	text, err := s.run(t, "", put(t, files), ".recover")
	out := filepath.Join(t.TempDir(), "recovered.db")
	if _, err := s.run(t, text, out); err != nil {
		t.Logf("into a new database: %v", err)
	}
	f := read(t, out)
	f.err = err
	return f
}

// score is how rows that were found stand to the last committed state.
type score struct {
	// right are rows of that state; old are other rows that were once committed, or copies;
	// part are those in lost_and_found of which columns are missing.
	right, old, part int
	// mixed are rows of which overflow pages are others', and rows in a table that is not theirs;
	// wrong are all others. Neither were ever committed.
	mixed, wrong int
	// tables are those with mixed rows.
	tables map[string]bool
}

// score compares rows with ledgers, the first of which knows the state to be reached.
func (f *found) score(state map[corpus.Row]bool, of ...*corpus.Ledger) *score {
	s := &score{tables: map[string]bool{}}
	ever := map[corpus.Row]bool{}
	for _, l := range of {
		maps.Copy(ever, l.Ever())
	}
	known := func(is func(*corpus.Ledger, []string) bool, literals []string) bool {
		return slices.ContainsFunc(of, func(l *corpus.Ledger) bool { return is(l, literals) })
	}
	for _, r := range f.strange {
		if known((*corpus.Ledger).Part, r.literals) {
			s.mixed++
			s.tables[r.table] = true
		} else {
			s.wrong++
		}
	}
	for r, n := range f.all() {
		lost, literals := f.lost[r], f.fields[r]
		switch {
		case state[r]:
			s.right++
			s.old += n - 1
		case ever[r]:
			s.old += n
		case lost == n && known((*corpus.Ledger).Part, literals):
			s.part += n
		case known((*corpus.Ledger).Mixed, literals):
			s.mixed += n
			s.tables[r.Table] = true
		default:
			s.wrong += n
		}
	}
	return s
}

// String is a cell of the table for people.
func (s *score) String() string {
	if s == nil {
		return "–"
	}
	text := strconv.Itoa(s.right)
	if s.old > 0 {
		text += fmt.Sprintf(" +%d old", s.old)
	}
	if s.part > 0 {
		text += fmt.Sprintf(" +%d in part", s.part)
	}
	if s.mixed+s.wrong > 0 {
		text += fmt.Sprintf(" +%d false", s.mixed+s.wrong)
	}
	return text
}
