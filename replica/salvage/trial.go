package salvage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"tidemark/replica/salvage/btree"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// trial is a candidate that was made once, to be looked at.
type trial struct {
	Candidate
	build func() *plan
	// settled, seeming, newer, mixed and stranger are as in standing.
	settled, seeming, newer, mixed, stranger bool
	// entries is the number of those rows of lost_and_found that have no rowid: most are entries
	// of an index, so that their rows may be there a second time.
	entries int64
	// alone tells that it is the database file, whatever kind it came as.
	alone    bool
	checksum state.Checksum
}

func (t *trial) standing() standing {
	return standing{
		stranger: t.stranger, proof: t.Proof, settled: t.settled, seeming: t.seeming, newer: t.newer, commits: t.Commits,
		mixed: t.mixed, rows: t.Rows - t.entries, entries: t.entries, order: t.Kind.order(),
	}
}

// is tells that two are the same, page by page.
func (t *trial) is(other *trial) bool {
	return t.checksum == other.checksum && t.Pages.Total == other.Pages.Total && t.Pages.Missing == other.Pages.Missing
}

// try makes a candidate in the private folder, looks at it, and removes it. If it turns out
// to be one of those that are known, that is the result.
func (w *work) try(ctx context.Context, p *plan, build func() *plan, known []*trial) (_ *trial, err error) {
	f, err := w.newFile("candidate-" + string(p.kind))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.drop(f)) }()
	w.expect(int64(p.count()) * int64(p.size))
	t := &trial{build: build, settled: p.settled, seeming: p.seeming, newer: p.newer, mixed: p.mixed, stranger: p.stranger}
	t.alone = p.base != nil && p.base == w.base && !slices.ContainsFunc(p.from, func(i int32) bool { return i != noFrame })
	t.Kind, t.Proof, t.Why, t.Commits, t.Through = p.kind, p.proof, p.why, p.commits, p.through
	if t.checksum, err = w.write(ctx, p, f); err != nil {
		return nil, err
	}
	t.Pages = w.countPages(p)
	if i := slices.IndexFunc(known, t.is); i >= 0 {
		known[i].learn(t)
		return known[i], nil
	}
	if err := w.look(ctx, p, f, t); err != nil {
		return nil, err
	}
	if t.Integrity != fine {
		// Nor does anything say that a page of it is what it was, but a frame's checksum.
		t.Proof, p.proof = Damaged, Damaged
		t.Pages = w.countPages(p)
	} else if t.Pages.Missing > 0 {
		t.Proof = worse(t.Proof, Probable)
	}
	if w.remote != nil && t.checksum == w.remote.checksum && t.Pages.Total == w.remote.count {
		t.Equals = w.rep.Replica.TXID
		if t.Integrity == fine && t.Proof != Proven && p.kind != KindReplica {
			t.Proof, t.Why = Proven, t.Why+"; it is exactly the replica's state"
		}
	}
	return t, nil
}

// learn takes over from another way to the same pages what is better proven there.
func (t *trial) learn(other *trial) {
	t.alone = t.alone || other.alone
	t.newer = t.newer || other.newer
	t.settled, t.seeming = t.settled || other.settled, t.seeming || other.seeming
	t.mixed = t.mixed && other.mixed
	t.Commits, t.Through = max(t.Commits, other.Commits), max(t.Through, other.Through)
	if t.Integrity == fine && rank(other.Proof) < rank(t.Proof) {
		t.Kind, t.Proof, t.Why, t.build = other.Kind, other.Proof, other.Why, other.build
		t.Pages = other.Pages
	}
}

// look has SQLite check a candidate and counts its rows.
func (w *work) look(ctx context.Context, p *plan, f *os.File, t *trial) (err error) {
	db, err := openPrivate(f.Name())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if t.Integrity, err = checkIntegrity(ctx, db); err != nil {
		return err
	}
	if no := p.cut(); no != 0 {
		t.Integrity = strings.TrimSuffix(fmt.Sprintf("the file ends inside page %v\n%s", no, t.Integrity), "\n"+fine)
	}
	if t.Integrity == fine {
		t.Tables, err = tables(ctx, db)
		if err == nil {
			err = w.tableProofs(ctx, db, p, t.Tables)
		}
	} else {
		t.Rebuilt = true
		err = w.readableTables(ctx, p, t)
	}
	t.Rows = t.LostAndFound
	for _, table := range t.Tables {
		t.Rows += max(table.Rows, 0)
	}
	return err
}

// countPages says where a plan's pages are from.
func (w *work) countPages(p *plan) Pages {
	c := Pages{Total: p.count() + p.absent, Missing: p.absent, Lost: p.absent}
	for i := range p.from {
		no := wal.PageNo(i + 1)
		if no == p.size.LockPage() {
			c.Proven++
			continue
		}
		switch {
		case p.missing(no):
			c.Missing++
		case p.from[i] != noFrame:
			c.WAL++
		case p.remote:
			c.Replica++
		default:
			c.Database++
		}
		switch w.history.page(p, no) {
		case Proven:
			c.Proven++
		case Probable:
			c.Probable++
		case Damaged:
			c.Lost++
			if len(c.LostPages) < maxLostPages {
				c.LostPages = append(c.LostPages, no)
			}
		}
	}
	return c
}

// maxLostPages is how many pages a report names.
const maxLostPages = 100

// readable are the pages of a plan, for whoever reads b-trees that are damaged.
type readable struct {
	w   *work
	p   *plan
	buf []byte
}

// PageSize implements [btree.Pages].
func (r *readable) PageSize() wal.PageSize { return r.p.size }

// Count implements [btree.Pages].
func (r *readable) Count() wal.PageNo { return wal.PageNo(r.p.count()) }

// Page implements [btree.Pages].
func (r *readable) Page(no wal.PageNo) ([]byte, error) {
	if no == 0 || uint32(no) > r.p.count() || r.p.missing(no) {
		return nil, btree.ErrLost
	}
	if err := r.w.read(r.p, no, r.buf); err != nil {
		return nil, err
	}
	if no == 1 {
		finishHeader(r.buf, r.p.count())
	}
	if no == r.p.cut() && !keepWhole(no, r.buf, int(r.w.db.size%int64(r.p.size))) {
		return nil, btree.ErrLost
	}
	return r.buf, nil
}

// keepWhole makes cells of which only the beginning can be there unreachable, on a page of which
// so many bytes are known: the others would be read with zeros in the place of values. Cells
// lie one behind the other, so the last one that begins before the end is cut. It tells whether
// the page is one with cells at all.
func keepWhole(no wal.PageNo, b []byte, known int) bool {
	at := 0
	if no == 1 {
		at = databaseHeaderSize
	}
	if known < at+12 || !looksLikeTree(no, b) {
		return false
	}
	first := at + 8
	if b[at] == 2 || b[at] == 5 {
		first = at + 12
	}
	be := binary.BigEndian
	cells, last := int(be.Uint16(b[at+3:])), -1
	if first+2*cells > known {
		return false
	}
	offset := func(k int) int { return int(be.Uint16(b[first+2*k:])) }
	for k := range cells {
		if x := offset(k); x < known && (last < 0 || x > offset(last)) {
			last = k
		}
	}
	for k := range cells {
		if k == last || offset(k) >= known {
			be.PutUint16(b[first+2*k:], 0)
		}
	}
	return true
}

// readableTables counts what rows can be read of each table of a damaged candidate, and of
// none.
func (w *work) readableTables(ctx context.Context, p *plan, to *trial) error {
	f, err := btree.Open(ctx, &readable{w, p, make([]byte, p.size)})
	if err != nil {
		return fmt.Errorf("read a damaged candidate: %w", err)
	}
	schema, err := f.Schema(ctx)
	if err != nil {
		return fmt.Errorf("read a damaged candidate: %w", err)
	}
	var all []Table
	owner := map[wal.PageNo]string{}
	for _, o := range schema.Objects {
		if o.Root == 0 {
			continue
		}
		owner[o.Root] = o.Table
		tree, err := f.Walk(ctx, o.Root, nil)
		if err != nil {
			return fmt.Errorf("read a damaged candidate: %w", err)
		}
		if o.Type == "table" && !strings.HasPrefix(o.Name, "sqlite_") {
			t := Table{Name: o.Name, Rows: tree.Rows, InDatabase: -1, Proof: Proven}
			if tree.Damages.Any() || tree.Flawed > 0 {
				t.Proof = Damaged
			}
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
	w.proveTables(p, f, owner, all)
	found, err := f.Orphans(ctx, btree.OrphanOptions{}, func(r *btree.Row) error {
		if !r.HasRowid && r.Flaw == btree.Sound {
			to.entries++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read a damaged candidate: %w", err)
	}
	to.Tables, to.LostAndFound = all, found.Rows
	return nil
}

// proveTables says of each table how far the pages of its trees can be trusted, which are walked
// and of which the owners are known by their roots.
func (w *work) proveTables(p *plan, f *btree.File, owner map[wal.PageNo]string, all []Table) {
	for i := range p.from {
		no := wal.PageNo(i + 1)
		use, root := f.Use(no)
		if use != btree.InTree && use != btree.Overflow {
			continue
		}
		k := slices.IndexFunc(all, func(t Table) bool { return t.Name == owner[root] })
		if k >= 0 {
			all[k].Proof = worse(all[k].Proof, w.history.page(p, no))
		}
	}
}
