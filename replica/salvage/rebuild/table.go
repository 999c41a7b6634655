package rebuild

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"tidemark/replica/salvage/btree"
)

// target is a table of the output that rows are put into.
type target struct {
	name string
	// stored are the columns that a record has, in its order; of a generated one
	// the name is empty, as SQLite computes it again.
	stored []string
	// alias is which of them is the rowid, -1 if none is; rowid is another name for
	// it, empty if there is none.
	alias        int
	rowid        string
	withoutRowid bool
}

// newTarget asks SQLite about a table that was just made.
func newTarget(ctx context.Context, w *writer, name string) (*target, error) {
	t := &target{name: name, alias: -1}
	err := w.conn.QueryRowContext(ctx,
		"SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE", name).Scan(&t.withoutRowid)
	if err != nil {
		return nil, fmt.Errorf("look at table %s: %w", name, err)
	}
	columns, err := readColumns(ctx, w, name)
	if err != nil {
		return nil, fmt.Errorf("look at table %s: %w", name, err)
	}
	order, err := readKey(ctx, w, name)
	if err != nil {
		return nil, fmt.Errorf("look at the key of table %s: %w", name, err)
	}
	if t.withoutRowid {
		t.byKey(columns, order)
		return t, nil
	}
	t.byRowid(columns, order)
	return t, nil
}

// column is one of a table.
type column struct {
	name, kind string
	key        int // its place in the primary key, from 1
	virtual    bool
	generated  bool
}

func readColumns(ctx context.Context, w *writer, name string) (columns []column, err error) {
	rows, err := w.conn.QueryContext(ctx, "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c column
		var hidden int
		if err := rows.Scan(&c.name, &c.kind, &c.key, &hidden); err != nil {
			return nil, err
		}
		c.virtual, c.generated = hidden == 2, hidden == 2 || hidden == 3
		columns = append(columns, c)
	}
	return columns, rows.Err()
}

// readKey looks for the index that SQLite made for the primary key. A rowid that is
// the key needs none. order is the columns of a record, if the index is the table.
func readKey(ctx context.Context, w *writer, name string) (order []int, err error) {
	rows, err := w.conn.QueryContext(ctx, `SELECT x.cid FROM pragma_index_list(?) AS l,
		pragma_index_xinfo(l.name) AS x WHERE l.origin = 'pk' ORDER BY x.seqno`, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var cid int
		if err := rows.Scan(&cid); err != nil {
			return nil, err
		}
		order = append(order, cid)
	}
	return order, rows.Err()
}

// byRowid is the order of an ordinary table: that of its columns.
func (t *target) byRowid(columns []column, key []int) {
	names := map[string]bool{}
	keys, alias := 0, -1
	for _, c := range columns {
		names[strings.ToLower(c.name)] = true
		if c.key > 0 {
			keys++
		}
		if c.virtual {
			continue
		}
		if c.key > 0 && strings.EqualFold(c.kind, "INTEGER") {
			alias = len(t.stored)
		}
		t.stored = append(t.stored, c.insertable())
	}
	if keys == 1 && len(key) == 0 {
		t.alias = alias
	}
	for _, name := range []string{"oid", "rowid", "_rowid_"} {
		if !names[name] {
			t.rowid = name
		}
	}
}

// byKey is the order of a table WITHOUT ROWID: the key, then the other columns.
func (t *target) byKey(columns []column, order []int) {
	for _, cid := range order {
		if cid >= 0 && cid < len(columns) {
			t.stored = append(t.stored, columns[cid].insertable())
		}
	}
}

func (c column) insertable() string {
	if c.generated {
		return ""
	}
	return c.name
}

// takes tells whether a row can be one of this table. Where the rowid is a column, its
// field is NULL; a damaged page may have led to the rows of another table.
func (t *target) takes(r *btree.Row) bool {
	if t.alias >= 0 && (len(r.Values) <= t.alias || r.Values[t.alias].Type != btree.Null) {
		return false
	}
	return r.HasRowid != t.withoutRowid && len(r.Values) <= len(t.stored) && t.whole(r)
}

// whole tells whether all of a row is there, but for what SQLite computes again.
func (t *target) whole(r *btree.Row) bool {
	if r.Flaw == btree.Sound {
		return true
	}
	if r.Flaw != btree.Cut && r.Flaw != btree.Blank || len(r.Values) != len(t.stored) {
		return false
	}
	for i, v := range r.Values {
		if v.Cut && t.stored[i] != "" {
			return false
		}
	}
	return true
}

// first is the name of the first argument, if it is the rowid.
func (t *target) first() string {
	switch {
	case t.withoutRowid:
		return ""
	case t.alias >= 0:
		return t.stored[t.alias]
	}
	return t.rowid
}

// add puts a row in. A column that the record does not have, as it is younger, gets its
// default, which is what SQLite would read.
func (t *target) add(ctx context.Context, w *writer, r *btree.Row) error {
	args, values := w.args[:0], make([]btree.Value, 0, len(r.Values))
	if t.first() != "" {
		args = append(args, r.Rowid)
	}
	for i, v := range r.Values {
		if t.stored[i] != "" && i != t.alias {
			values = append(values, v)
		}
	}
	args, odd := w.bind(args, values)
	return w.insert(ctx, t, len(r.Values), args, odd)
}

// sql implements [inserter].
func (t *target) sql(fields int, odd map[int]bool) string {
	var names, marks []string
	put := func(name string) {
		marks = append(marks, mark(odd, len(names)))
		names = append(names, quoted(name))
	}
	if first := t.first(); first != "" {
		put(first)
	}
	for i, name := range t.stored[:fields] {
		if name != "" && i != t.alias {
			put(name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("INSERT OR IGNORE INTO %s DEFAULT VALUES", quoted(t.name))
	}
	return fmt.Sprintf("INSERT OR IGNORE INTO %s(%s) VALUES(%s)",
		quoted(t.name), strings.Join(names, ", "), strings.Join(marks, ", "))
}
