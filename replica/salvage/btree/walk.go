package btree

import (
	"context"
	"encoding/binary"
	"math"

	"tidemark/wal"
)

// Row is a row of a table, or an entry of an index.
type Row struct {
	// Page is the page that it begins on, Root the root of its tree. For an orphan Root
	// is the topmost page that leads to it, or Page.
	Page, Root wal.PageNo
	// Rowid is the key, if HasRowid: rows of tables WITHOUT ROWID and entries of
	// indexes have none.
	Rowid    int64
	HasRowid bool
	// Values are the fields of the record, in its order. They are valid until the
	// function that was given the row returns.
	Values []Value
	// Flaw tells whether the row is whole.
	Flaw Flaw
}

// Tree is what a walk found.
type Tree struct {
	// Root is the page that the walk began at.
	Root wal.PageNo
	// Index tells that it is a tree of an index or of a table WITHOUT ROWID.
	Index bool
	// Pages is the number of its pages that were read, without overflow pages.
	Pages int
	// Rows is the number of rows that are sound, Flawed of those that are not.
	Rows, Flawed int64
	// Damages are the pages that could not be read.
	Damages Damages
}

// walker is a walk under way.
type walker struct {
	f     *File
	visit func(*Row) error
	index bool // no table will do
	// known counts the rows that can only be this tree's; nil if there is no telling.
	known *int
	tree  Tree
	bufs  [maxLevels + 1][]byte // a page for each level
	row   rowReader
}

// span is where the keys below a page must lie: after low, up to high. fields is how
// many fields the entries of an index have, 0 if unknown.
type span struct {
	low, high int64
	fields    int
}

// Walk reads the tree below a root, in the order of its keys, and gives each row to
// visit, which may be nil. It claims the pages for this tree. It fails if visit does,
// the source does, or ctx ends; damage is no failure. To walk a root again gives
// nothing but the damage that it is taken.
func (f *File) Walk(ctx context.Context, root wal.PageNo, visit func(*Row) error) (Tree, error) {
	return f.walk(ctx, &walker{f: f, visit: visit, tree: Tree{Root: root}, row: rowReader{f: f}})
}

// WalkIndex is [File.Walk] for a tree that must be one of an index: it leaves pages of
// tables alone.
func (f *File) WalkIndex(ctx context.Context, root wal.PageNo, visit func(*Row) error) (Tree, error) {
	return f.walk(ctx, &walker{f: f, visit: visit, index: true, tree: Tree{Root: root}, row: rowReader{f: f}})
}

func (f *File) walk(ctx context.Context, w *walker) (Tree, error) {
	root := w.tree.Root
	f.roots[root] = true
	n, trouble, err := w.load(ctx, root, 0)
	if err != nil {
		return w.tree, err
	}
	if trouble == 0 && w.index && n.kind.table() {
		trouble = WrongKind
	}
	if trouble != 0 {
		w.tree.Damages.add(Damage{Page: root, Trouble: trouble})
		return w.tree, nil
	}
	w.tree.Index = !n.kind.table()
	err = w.node(ctx, &n, 0, span{low: math.MinInt64, high: math.MaxInt64})
	return w.tree, err
}

// load reads a page for a level, if it can be one of a tree and is still to be had.
func (w *walker) load(ctx context.Context, no wal.PageNo, level int) (n node, _ Trouble, err error) {
	f := w.f
	if err := ctx.Err(); err != nil {
		return n, 0, err
	}
	if t := f.barred(no, level); t != 0 {
		return n, t, nil
	}
	page, err := f.page(no)
	if err != nil {
		return n, 0, err
	}
	if page == nil {
		return n, Lost, nil
	}
	w.bufs[level] = append(w.bufs[level][:0], page...)
	n, ok := newNode(no, w.bufs[level])
	if !ok || n.kind.interior() && !n.sensible(f.once()) {
		return n, NotTree, nil
	}
	if f.twins[no] {
		return n, Twin, nil
	}
	return n, 0, nil
}

// barred tells why a page cannot be in a tree, without looking at it.
func (f *File) barred(no wal.PageNo, level int) Trouble {
	switch {
	case no == 0 || no > f.count:
		return PastEnd
	case level > maxLevels:
		return TooDeep
	case f.uses[no] == InTree || level > 0 && f.roots[no]:
		return Taken
	case f.uses[no] == Pointers || f.uses[no] == LockByte:
		return NotTree
	}
	return 0
}

// node reads a page that is in this tree, and what is below it.
func (w *walker) node(ctx context.Context, n *node, level int, s span) error {
	w.f.uses[n.no], w.f.owners[n.no] = InTree, w.tree.Root
	w.tree.Pages++
	if n.kind.leaf() {
		return w.leaf(n)
	}
	bad, budget := 0, workPerPage*len(n.data)
	for i := range n.cells + 1 {
		c := cell{child: n.right, rowid: s.high}
		if i < n.cells {
			var ok bool
			if c, ok = n.cell(i); !ok || budget < 0 {
				bad++
				continue
			}
			budget -= len(c.local)
		}
		below := span{low: s.low, high: c.rowid, fields: s.fields}
		if !n.kind.table() && c.local != nil {
			below.fields = len(w.row.fields(c))
		}
		if err := w.child(ctx, n, c.child, level+1, below); err != nil {
			return err
		}
		if n.kind.table() {
			if c.rowid > s.low {
				s.low = c.rowid
			}
			continue
		}
		s.fields = below.fields
		if i == n.cells {
			break
		}
		if err := w.give(n, c, &bad); err != nil {
			return err
		}
	}
	w.note(n, bad)
	return nil
}

// child goes down to a page, or notes why it does not. A page below which there was
// nothing that the tree knows as its own is given back, for whose it may be.
func (w *walker) child(ctx context.Context, parent *node, no wal.PageNo, level int, s span) error {
	n, trouble, err := w.load(ctx, no, level)
	if err != nil {
		return err
	}
	if trouble == 0 && n.kind.table() != parent.kind.table() {
		trouble = WrongKind
	}
	if trouble == 0 && w.f.looks[no]&claimedTwice != 0 && !w.fits(&n, s) {
		trouble = Foreign
	}
	if trouble != 0 {
		w.tree.Damages.add(Damage{Page: no, Parent: parent.no, Trouble: trouble})
		return nil
	}
	if w.known == nil {
		return w.node(ctx, &n, level, s)
	}
	tree, known := w.tree, *w.known
	if err := w.node(ctx, &n, level, s); err != nil || *w.known > known {
		return err
	}
	w.f.uses[no], w.f.owners[no], w.tree = Unclaimed, 0, tree
	w.tree.Damages.add(Damage{Page: no, Parent: parent.no, Trouble: Foreign})
	return nil
}

// fits tells whether most of a page's keys lie where its parent says; the entries of an
// index, whether they have as many fields as the parent's.
func (w *walker) fits(n *node, s span) bool {
	in, out := 0, 0
	for i := range min(n.cells, sampleCells) {
		c, ok := n.cell(i)
		if !ok {
			continue
		}
		fit := c.rowid > s.low && c.rowid <= s.high
		if !n.kind.table() {
			fit = s.fields == 0 || len(w.row.fields(c)) == s.fields
		}
		if fit {
			in++
		} else {
			out++
		}
	}
	return in >= out
}

// workPerPage bounds the bytes that the cells of a page may have together, in pages:
// cells that lie over each other would else make a page endless.
const workPerPage = 4

// leaf gives the rows of a leaf.
func (w *walker) leaf(n *node) error {
	bad, budget := 0, workPerPage*len(n.data)
	for i := range n.cells {
		c, ok := n.cell(i)
		if !ok || budget < 0 {
			bad++
			continue
		}
		budget -= len(c.local)
		if err := w.give(n, c, &bad); err != nil {
			return err
		}
	}
	w.note(n, bad)
	return nil
}

// give counts a row and shows it. Without anybody to show it to, only its overflow
// pages are claimed.
func (w *walker) give(n *node, c cell, bad *int) error {
	row, err := w.row.read(n, c, w.tree.Root)
	if err != nil {
		return err
	}
	switch {
	case len(row.Values) == 0:
		*bad++
		return nil
	case row.Flaw == Sound:
		w.tree.Rows++
	default:
		w.tree.Flawed++
	}
	if w.visit == nil {
		return nil
	}
	return w.visit(row)
}

func (w *walker) note(n *node, bad int) {
	if n.short {
		bad++
	}
	if bad > 0 {
		w.tree.Damages.add(Damage{Page: n.no, Trouble: Cells, Cells: bad})
	}
}

// rowReader makes rows of cells, with memory that it uses again.
type rowReader struct {
	f       *File
	row     Row
	payload []byte
	values  []Value
}

// fields reads as much of a record as lies on the page.
func (r *rowReader) fields(c cell) []Value {
	r.values, _ = parse(c.local, c.size, r.values[:0])
	return r.values
}

// read makes the row of a cell, following its overflow pages.
func (r *rowReader) read(n *node, c cell, root wal.PageNo) (*Row, error) {
	payload, flaw, blank := c.local, Sound, 0
	if c.overflow != 0 {
		r.payload = append(r.payload[:0], c.local...)
		ends, zeros, err := r.follow(c, root)
		if err != nil {
			return nil, err
		}
		if payload = r.payload; !ends {
			flaw = Tangled
		}
		blank = zeros
	}
	values, shape := parse(payload, c.size, r.values[:0])
	r.values = values
	switch {
	case shape != Sound:
		flaw = shape
	case blank > 0 && r.blank(c.size, blank):
		flaw = Blank
	}
	r.row = Row{
		Page: n.no, Root: root, Rowid: c.rowid, HasRowid: n.kind.table(), Values: values, Flaw: flaw,
	}
	return &r.row, nil
}

// follow appends what lies on overflow pages (fileformat2, section 1.7), as far as
// they go. It reads no page more than the payload needs, and memory is taken only as pages
// are there. zeros is how many bytes come from a last page that is nothing but zeros.
func (r *rowReader) follow(c cell, root wal.PageNo) (ends bool, zeros int, err error) {
	next, need := c.overflow, c.size-uint64(len(c.local))
	for need > 0 {
		page, err := r.link(next)
		if err != nil {
			return false, 0, err
		}
		if page == nil {
			// A page of zeros that leads nowhere is what was lost, and no content.
			r.payload = r.payload[:len(r.payload)-zeros]
			return false, 0, nil
		}
		r.f.uses[next], r.f.owners[next] = Overflow, root
		part := page[4:]
		part = part[:min(need, uint64(len(part)))]
		r.payload = append(r.payload, part...)
		need -= uint64(len(part))
		if zeros = 0; allZero(page) {
			zeros = len(part)
		}
		next = wal.PageNo(binary.BigEndian.Uint32(page))
	}
	return next == 0, zeros, nil
}

// link gives the next page of a chain, or nil if it cannot be one.
func (r *rowReader) link(no wal.PageNo) ([]byte, error) {
	f := r.f
	if no < minPages || no > f.count || f.visits[no] >= maxVisits {
		return nil, nil
	}
	if use := f.uses[no]; use != Unclaimed && use != Overflow {
		return nil, nil
	}
	f.visits[no]++
	return f.page(no)
}

// blank tells whether so many zeros at the end of a payload reach into a text. Half a
// character of UTF-16 may be one.
func (r *rowReader) blank(size uint64, zeros int) bool {
	from := size - uint64(zeros)
	if r.f.header.Encoding != UTF8 {
		from++
	}
	found := false
	for i := range r.values {
		if v := &r.values[i]; v.Type == Text && v.end > from {
			v.Cut, found = true, true
		}
	}
	return found
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
