// Package rebuild makes a new, clean SQLite database of what can still be read of a
// damaged one. It reads pages through package btree and writes through SQLite, as
// SQLite's own recovery does (https://www.sqlite.org/recovery.html):
//
//  1. The tables of the schema are made, then the UNIQUE indexes.
//  2. The rows of each table are put into it, with their rowids.
//  3. The other indexes, views and triggers are made, then the rows of the schema that
//     stand for virtual tables.
//
// What belongs to no table goes to a table lost_and_found, made if it is needed, with
// SQLite's own columns for it:
//
//	rootpgno  the root of the tree that the row was in, or the topmost page that leads to it
//	pgno      the page
//	nfield    how many fields the row has
//	id        the rowid, NULL if it has none
//	c0, c1 …  the fields, in the order of the record
//
// These are the rows of pages that no tree reaches; those of tables that could not be
// made, with the entries of their indexes; those that a table refuses, such as a second
// one with the same key; and those of which a part is missing, so that a table holds
// whole rows only.
//
// Constraints of CHECK and foreign keys are not enforced. Nothing of the schema runs:
// a statement is executed only if it is one CREATE statement of the kind and name that its
// row has, without a query, and with ATTACH switched off.
package rebuild
