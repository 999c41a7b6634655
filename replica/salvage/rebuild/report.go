package rebuild

import "tidemark/replica/salvage/btree"

// Report is what was made of a damaged database.
type Report struct {
	// Header is what is known of the database as a whole.
	Header btree.Header
	// Schema is what could be read of sqlite_schema.
	Schema btree.Schema
	// Tables has each table that the schema names and that has rows of its own, in
	// its order.
	Tables []Table
	// Failed are the objects that could not be made again.
	Failed []Failure
	// Orphans is what was found on pages that no tree reaches.
	Orphans btree.Orphans
	// LostAndFound is what no table has.
	LostAndFound LostAndFound
	// Integrity is what SQLite's check says of the output: "ok", or up to a
	// hundred lines. It is empty if it was not asked for.
	Integrity string
}

// Table is what became of a table.
type Table struct {
	// Name is the table's.
	Name string
	// Rows is the number of rows that it has now.
	Rows int64
	// Refused is the number of those that it did not take, or of which only a part
	// is left. They are in lost_and_found.
	Refused int64
	// Why is the first reason for which SQLite refused one, or empty.
	Why string
	// Tree tells which of its pages could be read.
	Tree btree.Tree
}

// Failure is an object of the schema that could not be made.
type Failure struct {
	Type, Name, SQL string
	// Why is the reason.
	Why string
}

// LostAndFound is what is in the table of what has no other.
type LostAndFound struct {
	// Name is the table's: lost_and_found, or lost_and_found_0 and so on if the
	// database has one of that name. It is empty if there was no need for it.
	Name string
	// Rows is how many it has.
	Rows int64
	// Fields is the number of fields for which there was no column: a row can have
	// more than a table.
	Fields int64
	// Unstored is the number of rows that SQLite would not store at all, as they
	// are too long.
	Unstored int64
}
