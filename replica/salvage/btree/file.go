package btree

import (
	"context"
	"errors"
	"fmt"

	"tidemark/wal"
)

// Use is what a page is used for.
type Use uint8

// The uses.
const (
	// Unclaimed: no tree that was walked reaches the page.
	Unclaimed Use = iota
	// InTree: a page of a table or index.
	InTree
	// Overflow: the page continues a row of a tree, or of an orphan.
	Overflow
	// Free: the page is on the freelist, and no tree claims it.
	Free
	// Pointers: the page is one of the pointer map of an auto-vacuum database.
	Pointers
	// LockByte: the page at 2^30, which is never used.
	LockByte
	// Orphaned: a page of a tree that no known tree reaches, read by
	// [File.Orphans].
	Orphaned
)

// look is what the first pass over the pages found.
type look uint8

const (
	seenGone      look = iota // lost
	seenOther                 // no page of a tree
	seenTree                  // a page of a tree
	seenSchema                // a leaf that looks like one of the schema
	seenMask      look = 0x3f
	claimedOnce   look = 0x40
	claimedTwice  look = 0x80
	maxVisits          = 4
	maxLevels          = 20 // SQLite's own limit for the depth of a tree
	minPages           = 2  // the first page that can be a child
	pointersEntry      = 5  // bytes of an entry of the pointer map
)

// File is a database that is being read. It is not safe for concurrent use.
type File struct {
	src    Pages
	size   wal.PageSize
	usable int
	count  wal.PageNo
	header Header

	looks  []look       // by page, from 1; at 0 there is nothing
	uses   []Use        // by page
	owners []wal.PageNo // the root of the tree that uses the page
	visits []uint8      // how many rows went over an overflow page
	free   []bool       // on the freelist
	// freeSound tells that the freelist is what the header says, so that its
	// pages hold only what was deleted.
	freeSound bool
	roots     map[wal.PageNo]bool
	twins     map[wal.PageNo]bool // interior pages of which there is another
	parents   []wal.PageNo        // of orphans, made when they are read
}

// Open looks at each page once. It fails only if the source does, or ctx ends.
func Open(ctx context.Context, src Pages) (*File, error) {
	f := &File{src: src, size: src.PageSize(), count: src.Count()}
	if !f.size.Valid() {
		return nil, fmt.Errorf("page size %d: %w", f.size, ErrSize)
	}
	if err := f.findHeader(ctx); err != nil {
		return nil, err
	}
	n := uint64(f.count) + 1
	f.looks, f.uses = make([]look, n), make([]Use, n)
	f.owners, f.visits, f.free = make([]wal.PageNo, n), make([]uint8, n), make([]bool, n)
	f.roots = map[wal.PageNo]bool{1: true}
	if err := f.findPointers(); err != nil {
		return nil, err
	}
	f.reserve()
	alike := newTwins()
	if err := f.survey(ctx, alike); err != nil {
		return nil, err
	}
	if err := f.readFreelist(ctx); err != nil {
		return nil, err
	}
	f.twins = alike.both(f.free)
	return f, nil
}

// Header is what is known of the database as a whole.
func (f *File) Header() Header { return f.header }

// PageSize is the size of the pages in bytes.
func (f *File) PageSize() wal.PageSize { return f.size }

// Count is the number of the last page.
func (f *File) Count() wal.PageNo { return f.count }

// Use tells what a page is used for, as far as trees have been walked, and the
// root of the tree that uses it, 0 if none does.
func (f *File) Use(no wal.PageNo) (Use, wal.PageNo) {
	if no == 0 || no > f.count {
		return Unclaimed, 0
	}
	return f.uses[no], f.owners[no]
}

// page gives the usable part of a page, which is valid until the next call, or
// nil if it is lost.
func (f *File) page(no wal.PageNo) ([]byte, error) {
	b, err := f.src.Page(no)
	switch {
	case errors.Is(err, ErrLost):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read page %d: %w", no, err)
	case len(b) != int(f.size):
		return nil, nil
	}
	return b[:f.usable], nil
}

// once is the highest page number that the file can have had: it may be cut off.
func (f *File) once() uint64 { return max(4*uint64(f.count), uint64(f.header.pages)) }

// findHeader reads page 1 and asks a sample of the pages.
func (f *File) findHeader(ctx context.Context) error {
	f.usable = int(f.size)
	if f.count > 0 {
		page, err := f.page(1)
		if err != nil {
			return err
		}
		if page != nil {
			f.header, _ = parseHeader(page, f.size)
		}
	}
	var e evidence
	step := max(1, uint64(f.count)/samples)
	for no := uint64(1); no <= uint64(f.count); no += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := f.page(wal.PageNo(no))
		if err != nil {
			return err
		}
		if page != nil {
			e.page(wal.PageNo(no), page)
		}
	}
	e.settle(&f.header, f.size)
	f.usable = int(f.size) - f.header.Reserved
	return nil
}

// survey looks at every page: whether it is one of a tree, and whom it claims.
func (f *File) survey(ctx context.Context, alike *twins) error {
	for no := wal.PageNo(1); no <= f.count; no++ {
		if no%256 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if f.uses[no] == LockByte {
			continue
		}
		page, err := f.page(no)
		if err != nil {
			return err
		}
		if page != nil {
			f.looks[no] = f.looks[no]&^seenMask | f.lookAt(no, page, alike)
		}
		if no == f.count { // the highest number there is has no next
			break
		}
	}
	return nil
}

func (f *File) lookAt(no wal.PageNo, page []byte, alike *twins) look {
	n, ok := newNode(no, page)
	if !ok || f.uses[no] == Pointers {
		return seenOther
	}
	if n.kind.leaf() {
		if n.kind == leafTable && f.schemaLike(&n) {
			return seenSchema
		}
		return seenTree
	}
	if !n.sensible(f.once()) {
		return seenOther
	}
	alike.add(no, page)
	for i := range n.cells + 1 {
		if child, _, ok := n.child(i); ok && child <= f.count {
			f.claim(child)
		}
	}
	return seenTree
}

// claim notes that a page is named as a child, once or more often.
func (f *File) claim(no wal.PageNo) {
	if f.looks[no]&claimedOnce != 0 {
		f.looks[no] |= claimedTwice
	}
	f.looks[no] |= claimedOnce
}

// reserve marks the pages that no tree can have.
func (f *File) reserve() {
	if lock := f.size.LockPage(); lock <= f.count {
		f.uses[lock] = LockByte
	}
	if !f.header.AutoVacuum {
		return
	}
	for no := uint64(2); no <= uint64(f.count); no += f.mapped() + 1 {
		f.uses[f.mapPage(no)] = Pointers
	}
}
