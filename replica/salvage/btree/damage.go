package btree

import (
	"fmt"

	"tidemark/wal"
)

// Trouble is what is wrong with a page.
type Trouble uint8

// The troubles.
const (
	// Lost: the source does not have the page.
	Lost Trouble = iota + 1
	// PastEnd: the number lies outside the file.
	PastEnd
	// NotTree: the page is no page of a tree, or makes no sense as one.
	NotTree
	// WrongKind: the page is one of an index in a table, or the other way round.
	WrongKind
	// Taken: the page is in a tree already, or it is the root of another.
	Taken
	// Foreign: another page claims it too, and its keys do not belong here.
	Foreign
	// Twin: another page is the same, byte for byte, so one of them was written to a
	// wrong place, and nothing tells which.
	Twin
	// TooDeep: no tree of SQLite's has so many levels; this is a circle.
	TooDeep
	// Cells: the page was read, but not all of its cells.
	Cells
)

// String says it in a few words.
func (t Trouble) String() string {
	switch t {
	case Lost:
		return "lost"
	case PastEnd:
		return "past the end of the file"
	case NotTree:
		return "not a page of a tree"
	case WrongKind:
		return "page of another kind of tree"
	case Taken:
		return "belongs to another tree"
	case Foreign:
		return "keys belong elsewhere"
	case Twin:
		return "there twice"
	case TooDeep:
		return "too deep"
	case Cells:
		return "damaged cells"
	}
	return fmt.Sprintf("trouble %d", uint8(t))
}

// Damage is a page that a tree should have and that could not be read, or only
// in part.
type Damage struct {
	// Page is the page, Parent the page that names it: 0 for a root.
	Page, Parent wal.PageNo
	// Trouble is what is wrong.
	Trouble Trouble
	// Cells is the number of cells that could not be read, if that is the trouble.
	Cells int
}

// String gives a line for people.
func (d Damage) String() string {
	if d.Trouble == Cells {
		return fmt.Sprintf("page %d: %d damaged cells", d.Page, d.Cells)
	}
	return fmt.Sprintf("page %d: %s", d.Page, d.Trouble)
}

// maxDamages is how many damages a list holds: a tree can have as many as there
// are pages.
const maxDamages = 1000

// Damages are the damages of a tree.
type Damages struct {
	// List holds the first thousand, in the order of the keys.
	List []Damage
	// Pages is the number of pages that could not be read at all.
	Pages int
	// Cells is the number of cells that could not be read on pages that could.
	Cells int
}

// Any reports whether anything is wrong.
func (d *Damages) Any() bool { return d.Pages > 0 || d.Cells > 0 }

func (d *Damages) add(one Damage) {
	if one.Trouble == Cells {
		d.Cells += one.Cells
	} else {
		d.Pages++
	}
	if len(d.List) < maxDamages {
		d.List = append(d.List, one)
	}
}
