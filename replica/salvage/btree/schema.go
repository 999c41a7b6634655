package btree

import (
	"context"
	"strings"

	"tidemark/wal"
)

// Object is a row of sqlite_schema (fileformat2, section 2.6).
type Object struct {
	// Type is "table", "index", "view" or "trigger".
	Type string
	// Name is the object's, Table that of the table which it belongs to.
	Name, Table string
	// Root is the root of its tree, 0 if it has none: views, triggers and virtual
	// tables, and what another object has as its root.
	Root wal.PageNo
	// SQL is the statement that made it, empty for what SQLite makes by itself.
	SQL string
	// Flaw tells whether the row is whole. If it is [Cut], then so may be SQL.
	Flaw Flaw
}

// Schema is what could be read of sqlite_schema.
type Schema struct {
	// Objects are those that could be read, in the order of the table. No two have the
	// same type and name, or the same root.
	Objects []Object
	// Tree tells how well the table could be read.
	Tree Tree
	// Found is the number of pages of the table that its tree does not reach any more
	// and that were known by what is on them.
	Found int
}

// Schema reads sqlite_schema. Where its tree is damaged, pages that look like it count
// as well, and pages of which no row is an object are nobody's yet: a write that went to
// a wrong place may have brought in the tree of a table. From then on the roots that it
// names are nobody's children. It fails only if the source does, or ctx ends.
func (f *File) Schema(ctx context.Context) (Schema, error) {
	c := collector{f: f, names: map[[2]string]bool{}}
	tree, err := f.walk(ctx, &walker{f: f, visit: c.add, known: &c.known, tree: Tree{Root: 1}, row: rowReader{f: f}})
	c.schema.Tree = tree
	if err != nil || !tree.Damages.Any() {
		return c.schema, err
	}
	return c.schema, c.search(ctx)
}

// collector gathers the objects of the schema.
type collector struct {
	f      *File
	schema Schema
	names  map[[2]string]bool
	known  int // rows that are objects, new or not
}

func (c *collector) add(r *Row) error {
	o, ok := c.f.object(r.Values)
	if !ok {
		return nil
	}
	c.known++
	o.Flaw = r.Flaw
	key := [2]string{o.Type, strings.ToLower(o.Name)}
	if c.names[key] {
		return nil
	}
	c.names[key] = true
	if o.Root != 0 && c.f.roots[o.Root] {
		o.Root, o.Flaw = 0, Misshapen // two cannot have one root
	}
	if o.Root != 0 {
		c.f.roots[o.Root] = true
	}
	c.schema.Objects = append(c.schema.Objects, o)
	return nil
}

// search goes through the pages that look like leaves of sqlite_schema.
func (c *collector) search(ctx context.Context) error {
	f := c.f
	w := &walker{f: f, visit: c.add, tree: c.schema.Tree, row: rowReader{f: f}}
	for i, l := range f.looks {
		no := wal.PageNo(i)
		if l&seenMask != seenSchema || f.roots[no] || f.freeSound && f.free[no] {
			continue
		}
		n, trouble, err := w.load(ctx, no, 0)
		if err != nil {
			return err
		}
		if trouble != 0 {
			continue
		}
		if err := w.node(ctx, &n, 0, span{}); err != nil {
			return err
		}
		c.schema.Found++
	}
	c.schema.Tree = w.tree
	return nil
}

// object makes an object of a row, if it is one.
func (f *File) object(values []Value) (o Object, ok bool) {
	if len(values) < 4 {
		return o, false
	}
	text := func(i int) (s string) {
		if i < len(values) && values[i].Type == Text {
			s, _ = f.header.Encoding.Decode(values[i].Bytes)
		}
		return s
	}
	o = Object{Type: text(0), Name: text(1), Table: text(2), SQL: text(4)}
	if root := values[3]; root.Type == Integer && root.Int > 0 && root.Int <= maxPage {
		o.Root = wal.PageNo(root.Int)
	}
	switch o.Type {
	case "table", "index", "view", "trigger":
	default:
		return o, false
	}
	return o, o.Name != "" && o.Table != "" && (o.SQL != "" || o.Root != 0)
}

// schemaLike tells whether a leaf looks like one of sqlite_schema: its first row does.
func (f *File) schemaLike(n *node) bool {
	r := rowReader{f: f}
	for i := range n.cells {
		c, ok := n.cell(i)
		if !ok {
			continue
		}
		values := r.fields(c)
		if len(values) != 5 || values[0].Type != Text || values[3].Type != Integer && values[3].Type != Null {
			return false
		}
		o, ok := f.object(values)
		return ok && (o.SQL == "" || strings.HasPrefix(strings.ToUpper(o.SQL), "CREATE "))
	}
	return false
}
