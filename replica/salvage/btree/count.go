package btree

import "context"

// TableRows is how many rows a table has.
type TableRows struct {
	// Name is the table's, SQL what made it.
	Name, SQL string
	// Tree has the numbers, and what is damaged.
	Tree Tree
}

// Tally is how many rows there are in a database.
type Tally struct {
	// Header is what is known of the database as a whole.
	Header Header
	// Schema is what could be read of it.
	Schema Schema
	// Tables has each table with a tree, in the order of the schema.
	Tables []TableRows
	// Orphans is what no table reaches.
	Orphans Orphans
}

// Count counts the rows of each table, and those that belong to none, without writing
// anything. It fails only if the source does, or ctx ends.
func Count(ctx context.Context, src Pages) (Tally, error) {
	var t Tally
	f, err := Open(ctx, src)
	if err != nil {
		return t, err
	}
	t.Header = f.Header()
	if t.Schema, err = f.Schema(ctx); err != nil {
		return t, err
	}
	for _, o := range t.Schema.Objects {
		if o.Root == 0 {
			continue
		}
		if o.Type != "table" {
			continue
		}
		tree, err := f.Walk(ctx, o.Root, nil)
		if err != nil {
			return t, err
		}
		t.Tables = append(t.Tables, TableRows{Name: o.Name, SQL: o.SQL, Tree: tree})
	}
	for _, o := range t.Schema.Objects { // after the tables: what both claim is theirs
		if o.Root == 0 || o.Type == "table" {
			continue
		}
		if _, err := f.WalkIndex(ctx, o.Root, nil); err != nil {
			return t, err
		}
	}
	t.Orphans, err = f.Orphans(ctx, OrphanOptions{}, nil)
	return t, err
}
