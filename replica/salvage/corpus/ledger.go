package corpus

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Tables are the engine's tables, in the order in which they are created.
func Tables() []string { return []string{"sessions", "orders", "fills", "ticks", "positions"} }

// schema creates the tables. The column tag is near to the beginning of each, so that
// it is never on an overflow page; the columns of a primary key come first, so that the
// order in the file is that of the columns. No real number is an integer, since SQLite
// stores those as integers.
const schema = `
CREATE TABLE sessions(id INTEGER PRIMARY KEY, tag TEXT, state TEXT, equity REAL);
CREATE TABLE orders(id INTEGER PRIMARY KEY, tag TEXT, session INTEGER, symbol TEXT, qty INTEGER, price REAL, note TEXT);
CREATE INDEX orders_by_symbol ON orders(symbol, price);
CREATE TABLE fills(tag TEXT, order_id INTEGER, qty INTEGER, price REAL);
CREATE TABLE ticks(id INTEGER PRIMARY KEY, tag TEXT, data BLOB);
CREATE TABLE positions(account TEXT, symbol TEXT, tag TEXT, qty INTEGER, PRIMARY KEY(account, symbol)) WITHOUT ROWID;
`

// Columns are the columns of a table, in order.
func Columns(table string) []string {
	return map[string][]string{
		"sessions":  {"id", "tag", "state", "equity"},
		"orders":    {"id", "tag", "session", "symbol", "qty", "price", "note"},
		"fills":     {"tag", "order_id", "qty", "price"},
		"ticks":     {"id", "tag", "data"},
		"positions": {"account", "symbol", "tag", "qty"},
	}[table]
}

// Row is one version of a row. It is comparable: two are equal if all columns are.
type Row struct {
	// Table is the table's name.
	Table string
	// Tag names the version, and no other.
	Tag string
	// Sum is a hash of all columns, as SQL literals.
	Sum uint64
}

// key names the row in all its versions.
func (r Row) key() string { return r.Tag[:strings.LastIndexByte(r.Tag, '.')] }

// tagged matches a tag. The letter tells the table.
var tagged = regexp.MustCompile(`~[softp][0-9]+\.[0-9]+~`)

// letters are the letters of tags, in the order of [Tables].
const letters = "softp"

// NewRow makes a row of its columns as SQL literals, as quote() gives them. It reports
// whether they hold a tag, and as many columns as the tag's table has.
func NewRow(literals []string) (Row, bool) {
	for _, l := range literals {
		if !strings.HasPrefix(l, "'~") || !tagged.MatchString(l) {
			continue
		}
		tag := strings.Trim(l, "'")
		table := Tables()[strings.IndexByte(letters, tag[1])]
		h := fnv.New64a()
		_, _ = h.Write([]byte(strings.Join(literals, ",")))
		return Row{Table: table, Tag: tag, Sum: h.Sum64()}, len(literals) == len(Columns(table))
	}
	return Row{}, false
}

// Select is the query for all rows of a table, each as one text: its columns as SQL
// literals, with commas between. No column has a comma in it.
func Select(table string) string {
	return "SELECT quote(" + strings.Join(Columns(table), ")||','||quote(") + ") FROM " + table
}

// Literal is a column's value, as a database/sql driver gives it, as quote() gives it.
func Literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return "X'" + strings.ToUpper(hex.EncodeToString(v)) + "'"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	default:
		return fmt.Sprint(v)
	}
}

// State is the content of the database after a commit: its rows by their keys.
type State map[string]Row

// Count is the number of rows of a table.
func (s State) Count(table string) int {
	n := 0
	for _, r := range s {
		if r.Table == table {
			n++
		}
	}
	return n
}

// Rows are all rows, as a set.
func (s State) Rows() map[Row]bool {
	all := make(map[Row]bool, len(s))
	for _, r := range s {
		all[r] = true
	}
	return all
}

// change is what a commit does to one row. Gone says that it removes it.
type change struct {
	row      Row
	literals []string
	gone     bool
}

// Ledger is what the writer knows of its commits, counted from 1. It is not changed
// after [Write].
type Ledger struct {
	commits [][]change
	open    []change // the transaction that was left open
}

// Commits is the number of commits.
func (l *Ledger) Commits() int { return len(l.commits) }

// State is the content after a commit; after commit 0 there is none.
func (l *Ledger) State(commit int) State {
	s := State{}
	for _, changes := range l.commits[:commit] {
		for _, c := range changes {
			if c.gone {
				delete(s, c.row.key())
			} else {
				s[c.row.key()] = c.row
			}
		}
	}
	return s
}

// Ever are all rows that any committed state had.
func (l *Ledger) Ever() map[Row]bool {
	all := map[Row]bool{}
	for _, changes := range l.commits {
		last := map[string]change{} // What a commit itself replaces was never committed.
		for _, c := range changes {
			last[c.row.key()] = c
		}
		for _, c := range last {
			if !c.gone {
				all[c.row] = true
			}
		}
	}
	return all
}

// Part reports whether these are columns of a row that was once committed, as SQL
// literals, of which some are NULL or cut short, and others can be missing at the end, or
// NULL be more. The last one can go on as it never did.
func (l *Ledger) Part(literals []string) bool { return part(literals, l.whole(literals)) }

// Mixed reports whether these are columns of a row that was once committed, as SQL
// literals, but that the last one goes on as it never did: overflow pages have become
// others.
func (l *Ledger) Mixed(literals []string) bool {
	whole := l.whole(literals)
	last := len(whole) - 1
	return last > 0 && len(literals) == len(whole) && slices.Equal(literals[:last], whole[:last]) &&
		len(literals[last]) == len(whole[last]) && strings.HasPrefix(literals[last], whole[last][:min(8, len(whole[last]))])
}

// whole are the columns of the committed row that has the tag which is in these, or nil.
func (l *Ledger) whole(literals []string) []string {
	r, _ := NewRow(literals)
	for _, changes := range l.commits {
		for _, c := range changes {
			if r.Tag != "" && c.row.Tag == r.Tag && !c.gone {
				return c.literals
			}
		}
	}
	return nil
}

func part(have, whole []string) bool {
	for i, l := range have {
		if i >= len(whole) {
			return i > 0 && !slices.ContainsFunc(have[i:], func(l string) bool { return l != "NULL" })
		}
		short := strings.TrimSuffix(l, "'")
		if i == len(whole)-1 {
			short = short[:min(8, len(short))]
		}
		if l != "NULL" && l != whole[i] && (short == l || !strings.HasPrefix(whole[i], short)) {
			return false
		}
	}
	return true
}

// Uncommitted are the rows that only the open transaction wrote, sorted by tag.
func (l *Ledger) Uncommitted() []Row {
	rows := map[Row]bool{}
	for _, c := range l.open {
		if !c.gone {
			rows[c.row] = true
		}
	}
	return slices.SortedFunc(maps.Keys(rows), func(a, b Row) int { return strings.Compare(a.Tag, b.Tag) })
}
