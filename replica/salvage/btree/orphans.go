package btree

import (
	"context"

	"tidemark/wal"
)

// OrphanOptions say what counts as an orphan.
type OrphanOptions struct {
	// Free takes the pages on the freelist as well. They hold what was deleted.
	Free bool
}

// Orphans is what was found on pages that no tree reaches.
type Orphans struct {
	// Pages is the number of pages with rows.
	Pages int
	// Rows is the number of rows that are sound, Flawed of those that are not.
	Rows, Flawed int64
	// Free is the number of pages that were left out because they are on the freelist.
	Free int
	// FreeKnown tells that the freelist could be believed. If not, then rows that were
	// deleted may be among the others.
	FreeKnown bool
	// Damages are the pages that could be read only in part.
	Damages Damages
}

// Orphans reads the pages of tables and indexes that no walk has reached, in the order
// of their numbers, and gives their rows to visit, which may be nil. All trees that are
// known must have been walked. It fails if visit does, the source does, or ctx ends.
func (f *File) Orphans(ctx context.Context, opts OrphanOptions, visit func(*Row) error) (Orphans, error) {
	f.settleFree()
	found := Orphans{FreeKnown: f.freeSound}
	for _, u := range f.uses {
		if u == Free && !opts.Free {
			found.Free++
		}
	}
	if err := f.findParents(ctx, opts); err != nil {
		return found, err
	}
	w := &walker{f: f, visit: visit, row: rowReader{f: f}}
	for i := range f.looks {
		no := wal.PageNo(i)
		if !f.orphan(no, opts) {
			continue
		}
		root, err := f.top(no)
		if err != nil {
			return found, err
		}
		if err := w.orphan(ctx, no, root, &found); err != nil {
			return found, err
		}
	}
	found.Rows, found.Flawed, found.Damages = w.tree.Rows, w.tree.Flawed, w.tree.Damages
	return found, nil
}

// orphan tells whether a page may be an orphan.
func (f *File) orphan(no wal.PageNo, opts OrphanOptions) bool {
	if seen := f.looks[no] & seenMask; seen != seenTree && seen != seenSchema {
		return false
	}
	// The first byte of an overflow page is the highest of a page number, so in
	// a file of this size it may be that of a leaf.
	const mistakable = 0x02000000
	switch f.uses[no] {
	case Unclaimed:
		return true
	case Overflow:
		return f.count < mistakable
	case Free:
		return opts.Free
	case InTree, Pointers, LockByte, Orphaned:
	}
	return false
}

// findParents notes which orphans lead to which.
func (f *File) findParents(ctx context.Context, opts OrphanOptions) error {
	f.parents = make([]wal.PageNo, len(f.looks))
	for i := range f.looks {
		no := wal.PageNo(i)
		if !f.orphan(no, opts) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := f.page(no)
		if err != nil {
			return err
		}
		if page == nil {
			continue
		}
		n, ok := newNode(no, page)
		if !ok || !n.kind.interior() {
			continue
		}
		for i := range n.cells + 1 {
			child, _, ok := n.child(i)
			if ok && child <= f.count && child != no && f.parents[child] == 0 {
				f.parents[child] = no
			}
		}
	}
	return nil
}

// top climbs from an orphan to the page that leads to it. Where that one's parent is
// destroyed, a pointer map may still know the way to a root.
func (f *File) top(no wal.PageNo) (wal.PageNo, error) {
	top := no
	for range maxLevels {
		if f.parents[top] == 0 {
			break
		}
		top = f.parents[top]
	}
	at := top
	for range maxLevels {
		kind, parent, err := f.mapEntry(at)
		switch {
		case err != nil:
			return 0, err
		case kind == mapRoot && f.roots[at]:
			return at, nil
		case kind != mapTree || parent == 0:
			return top, nil
		case f.uses[parent] == InTree:
			return f.owners[parent], nil
		}
		at = parent
	}
	return top, nil
}

// orphan reads the rows of a page that is in no tree.
func (w *walker) orphan(ctx context.Context, no, root wal.PageNo, found *Orphans) error {
	n, trouble, err := w.load(ctx, no, 0)
	if err != nil || trouble != 0 && trouble != Twin {
		return err
	}
	w.f.uses[no], w.f.owners[no] = Orphaned, root
	if n.kind == interiorTable {
		return nil
	}
	found.Pages++
	w.tree.Root = root
	return w.leaf(&n)
}
