package rebuild

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"tidemark/replica/salvage/btree"
)

// lostAndFound writes the table of what has no other.
type lostAndFound struct {
	db      *writer
	free    string // the name to take
	columns int    // how many of c0, c1 … there are
	report  LostAndFound
}

// maxColumns is how many columns of a table SQLite has room for (SQLITE_MAX_COLUMN),
// less the four that come first.
const maxColumns = 2000 - 4

// freeName finds a name that nothing in the schema has.
func freeName(want string, objects []btree.Object) string {
	taken := map[string]bool{}
	for _, o := range objects {
		taken[strings.ToLower(o.Name)] = true
	}
	name := want
	for i := 0; taken[strings.ToLower(name)]; i++ {
		name = fmt.Sprintf("%s_%d", want, i)
	}
	return name
}

// add puts a row in.
func (l *lostAndFound) add(ctx context.Context, r *btree.Row) error {
	fields := min(len(r.Values), maxColumns)
	if err := l.widen(ctx, fields); err != nil {
		return err
	}
	values := r.Values[:fields]
	l.report.Fields += int64(len(r.Values) - fields)
	args := append(l.db.args[:0], int64(r.Root), int64(r.Page), int64(len(r.Values)), nil)
	if r.HasRowid {
		args[3] = r.Rowid
	}
	args, odd := l.db.bind(args, values)
	err := l.db.insert(ctx, l, fields, args, odd)
	if errors.Is(err, errRefused) {
		l.report.Unstored++
		return nil
	}
	if err != nil {
		return fmt.Errorf("insert into %s: %w", l.report.Name, err)
	}
	l.report.Rows++
	return nil
}

// sql implements [inserter].
func (l *lostAndFound) sql(fields int, odd map[int]bool) string {
	var names, marks strings.Builder
	for i := range fields {
		fmt.Fprintf(&names, ", c%d", i)
		marks.WriteString(", " + mark(odd, i+4))
	}
	return fmt.Sprintf("INSERT INTO %s(rootpgno, pgno, nfield, id%s) VALUES(?, ?, ?, ?%s)",
		quoted(l.report.Name), names.String(), marks.String())
}

// widen makes the table, or gives it columns. That costs nothing: rows that have fewer
// fields are left as they are.
func (l *lostAndFound) widen(ctx context.Context, fields int) error {
	if l.report.Name == "" {
		var names strings.Builder
		for i := range fields {
			fmt.Fprintf(&names, ", c%d", i)
		}
		err := l.db.exec(ctx, fmt.Sprintf(
			"CREATE TABLE %s(rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER%s)", plain(l.free), names.String()))
		if err != nil {
			return fmt.Errorf("make %s: %w", l.free, err)
		}
		l.report.Name, l.columns = l.free, fields
	}
	for ; l.columns < fields; l.columns++ {
		if err := l.db.exec(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN c%d", quoted(l.free), l.columns)); err != nil {
			return fmt.Errorf("widen %s: %w", l.free, err)
		}
	}
	return nil
}

// plain quotes a name only if it needs it, so that the table looks as SQLite's.
func plain(name string) string {
	for i := range len(name) {
		if !wordChar(name[i]) {
			return quoted(name)
		}
	}
	return name
}
