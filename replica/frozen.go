package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/source"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// frozen is a database as it stood after one commit, to be read for a snapshot
// while hand-offs go on. A page's sum tells whether an image is the one of that
// commit, wherever it is found, so that a wrong one is never given: in the database
// file, for as long as nothing newer has been checkpointed over it; else in the
// WAL as it was then; else among the pages that were saved. The engine saves a page
// that a commit has changed before it lets any checkpoint copy that commit's
// frames, which is before a pin ends.
//
// So the disk that it takes is the pages that change while the snapshot is made,
// each once, and the memory two bits a page beside the sums.
//
// Of the first state of a history no sums are known: it is read as an image of what is
// pinned, and the sums are found by the way. Until all of them are, nothing may be
// checkpointed that is newer; if that takes too long, findRest reads the rest for its sums
// alone. So a database is read once if nobody writes, and twice in part else.
type frozen struct {
	file  io.ReaderAt
	sweep *source.Sweep // reads the same
	size  wal.PageSize
	// image reads the database as it was attached to, nil if the file had all of
	// it: the WAL's frames until then are readable until they are in the file.
	image *source.Image
	// slow is called before so many bytes are read.
	slow func(n int) error
	// read is the sums of what was read last, for one goroutine.
	read []state.Sum
	// found is closed when table is there.
	found chan struct{}

	mu sync.Mutex // guards what follows
	// table is the page sums, nil as long as some of sums are missing; then it is
	// not changed any more.
	table   *state.Table
	sums    []state.Sum
	missing bitmap
	lacking uint32 // how many
	// wanted are the pages that are yet to be read, saved those of them that are
	// in saves, at their places.
	wanted, saved bitmap
	saves         *os.File
	broken        error
}

// errStale says that a page is not to be had any more as it was.
var errStale = errors.New("a page has changed before it was saved")

// newFrozen begins with all pages wanted of a state that are in runs.
func newFrozen(db *source.DB, table *state.Table, runs []snapshot.Run, dir string) (*frozen, error) {
	f, err := freeze(db, table.Len(), dir)
	if err != nil {
		return nil, err
	}
	f.table = table
	close(f.found)
	for _, r := range runs {
		for n := range r.Pages {
			f.wanted.set(r.First + wal.PageNo(n))
		}
	}
	return f, nil
}

// newFirst begins with all pages of a state of which no sums are known yet. The pin of
// the image stays until they are.
func newFirst(db *source.DB, image *source.Image, dir string) (*frozen, error) {
	f, err := freeze(db, image.Pages(), dir)
	if err != nil {
		return nil, err
	}
	f.image = image.Through(f.sweep)
	f.sums, f.missing = make([]state.Sum, image.Pages()), newBitmap(image.Pages())
	for n := range image.Pages() {
		if no := wal.PageNo(n) + 1; no != f.size.LockPage() {
			f.wanted.set(no)
			f.missing.set(no)
			f.lacking++
		}
	}
	f.complete()
	return f, nil
}

func freeze(db *source.DB, pages uint32, dir string) (*frozen, error) {
	saves, err := os.CreateTemp(dir, savesPattern)
	if err != nil {
		return nil, fmt.Errorf("make room for changed pages: %w", err)
	}
	return &frozen{
		file: db.FileAt(), sweep: db.Sweep(), size: db.PageSize(), saves: saves, found: make(chan struct{}),
		wanted: newBitmap(pages), saved: newBitmap(pages),
		slow: func(int) error { return nil },
	}, nil
}

// checksum is the state's, once all was read.
func (f *frozen) checksum() state.Checksum {
	if table := f.known(); table != nil {
		return table.Checksum()
	}
	return 0
}

// savesPattern names the files of saved pages, which are of no use to anyone later.
const savesPattern = "snapshot-*.tmp"

// clearSaves removes those that a process left that was killed.
func clearSaves(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, savesPattern)) // the pattern is good
	for _, name := range left {
		_ = os.Remove(name)
	}
}

func (f *frozen) close() error {
	f.sweep.End()
	return errors.Join(f.saves.Close(), os.Remove(f.saves.Name()))
}

// ReadPages implements snapshot.PageSource.
func (f *frozen) ReadPages(first wal.PageNo, buf []byte) error {
	if err := f.slow(len(buf)); err != nil {
		return err
	}
	table, err := f.readSummed(first, buf)
	if err != nil {
		return err
	}
	no := first
	for ; len(buf) > 0; buf = buf[f.size:] {
		page := buf[:f.size]
		if table != nil && f.read[no-first] != table.At(no) {
			if err := f.find(no, page); err != nil {
				return err
			}
		}
		no++
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := first; n < no; n++ {
		f.wanted.unset(n)
	}
	return f.broken
}

// readSummed reads pages into buf and their sums into f.read. They are to be held against
// the table, if it gives one; else they are as they should be.
func (f *frozen) readSummed(first wal.PageNo, buf []byte) (*state.Table, error) {
	if f.known() == nil {
		err := f.image.ReadPages(first, buf)
		if err == nil {
			f.read = appendSums(f.read[:0], f.size, first, buf)
			return f.enter(first, f.read)
		}
		if f.known() == nil {
			return nil, err
		} // else the WAL may have gone meanwhile
	}
	if err := readFile(f.sweep, f.size, first, buf); err != nil {
		return nil, err
	}
	f.read = appendSums(f.read[:0], f.size, first, buf)
	return f.known(), nil
}

// known is the table, or nil.
func (f *frozen) known() *state.Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table
}

// enter takes the sums of pages of the image that are missing yet. If none are, the image
// may have changed while it was read, and enter gives the table.
func (f *frozen) enter(first wal.PageNo, sums []state.Sum) (*state.Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.table != nil {
		return f.table, nil
	}
	for i, sum := range sums {
		no := first + wal.PageNo(i)
		switch {
		case f.missing.has(no):
			f.missing.unset(no)
			f.lacking--
			f.sums[no-1] = sum
		case no != f.size.LockPage() && f.sums[no-1] != sum:
			return nil, fmt.Errorf("%w: page %v, which was pinned", errStale, no)
		}
	}
	f.complete()
	return nil, nil //nolint:nilnil // documented
}

// complete makes the table of the sums when all are there.
func (f *frozen) complete() {
	if f.lacking == 0 {
		f.table, f.sums, f.missing = state.TableOf(f.size, f.sums), nil, nil
		close(f.found)
	}
}

// findRest finds the sums that are missing, as fast as it can.
func (f *frozen) findRest(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	pages, most := f.image.Pages(), uint32(resyncChunk/int(f.size))
	pool := sync.Pool{New: func() any { b := make([]byte, resyncChunk); return &b }}
	for from := uint32(0); from < pages && gctx.Err() == nil; from += most {
		first, n := wal.PageNo(from)+1, min(most, pages-from)
		if !f.lacks(first, n) {
			continue
		}
		g.Go(func() error {
			buf, _ := pool.Get().(*[]byte)
			defer pool.Put(buf)
			b := (*buf)[:int(n)*int(f.size)]
			if err := f.image.ReadPages(first, b); err != nil {
				return err
			}
			_, err := f.enter(first, appendSums(make([]state.Sum, 0, n), f.size, first, b))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// lacks tells whether the sum of one of n pages is missing.
func (f *frozen) lacks(first wal.PageNo, n uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range n {
		if f.missing.has(first + wal.PageNo(i)) {
			return true
		}
	}
	return false
}

// appendSums appends the sums of consecutive pages, 0 for the lock-byte page.
func appendSums(sums []state.Sum, size wal.PageSize, first wal.PageNo, pages []byte) []state.Sum {
	for no := first; len(pages) > 0; no, pages = no+1, pages[size:] {
		sum := state.Sum(0)
		if no != size.LockPage() {
			sum = state.SumPage(no, pages[:size])
		}
		sums = append(sums, sum)
	}
	return sums
}

// readFile reads pages as they are in the database file; past its end they are zeros.
func readFile(file io.ReaderAt, size wal.PageSize, first wal.PageNo, buf []byte) error {
	n, err := file.ReadAt(buf, size.Offset(first))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read database pages from %v: %w", first, err)
	}
	clear(buf[n:])
	return nil
}

// find reads a page that was not in the file, or not as it was, when it was read with
// others.
func (f *frozen) find(no wal.PageNo, page []byte) error {
	for _, read := range []func() error{
		func() error { return readFile(f.file, f.size, no, page) }, // if others were read as an image
		func() error {
			if f.image == nil {
				return errStale
			}
			return f.image.ReadPages(no, page)
		},
	} {
		if err := read(); err == nil && state.SumPage(no, page) == f.table.At(no) {
			return nil
		}
	}
	f.mu.Lock()
	saved := f.saved.has(no)
	f.mu.Unlock()
	if !saved {
		return fmt.Errorf("%w: page %v", errStale, no)
	}
	if _, err := f.saves.ReadAt(page, f.size.Offset(no)); err != nil {
		return fmt.Errorf("read saved page %v: %w", no, err)
	}
	if state.SumPage(no, page) != f.table.At(no) {
		return fmt.Errorf("%w: page %v was saved and is not what it was", errStale, no)
	}
	return nil
}

// save keeps a page that is about to change in the file, if it is wanted still.
func (f *frozen) save(no wal.PageNo, page []byte) {
	f.mu.Lock()
	want := f.broken == nil && f.wanted.has(no) && !f.saved.has(no)
	f.mu.Unlock()
	if !want {
		return
	}
	n, err := f.file.ReadAt(page, f.size.Offset(no))
	clear(page[n:])
	if state.SumPage(no, page) != f.table.At(no) && f.image != nil {
		err = f.image.ReadPages(no, page)
	}
	switch {
	case state.SumPage(no, page) == f.table.At(no):
		_, err = f.saves.WriteAt(page, f.size.Offset(no))
	case err == nil || errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: page %v", errStale, no)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.broken = fmt.Errorf("save a page that changes: %w", err)
		return
	}
	f.saved.set(no)
}

// bitmap is a set of pages.
type bitmap []uint64

func newBitmap(pages uint32) bitmap { return make(bitmap, pages/64+1) }

func (b bitmap) has(no wal.PageNo) bool {
	i := int(no / 64)
	return i < len(b) && b[i]&(1<<(no%64)) != 0
}

func (b bitmap) set(no wal.PageNo)   { b[no/64] |= 1 << (no % 64) }
func (b bitmap) unset(no wal.PageNo) { b[no/64] &^= 1 << (no % 64) }

// changes collects the pages that commits change, for a snapshot that is being
// made: they are saved before a pin ends.
type changes struct {
	pages map[wal.PageNo]struct{}
	// length is the shortest that the database has been since: what is past it
	// goes, and may come back otherwise.
	length uint32
}

func (c *changes) add(no wal.PageNo) { c.pages[no] = struct{}{} }
func (c *changes) cut(length uint32) { c.length = min(c.length, length) }

// maxSaved is how many pages are saved under the write lock at most. A commit that
// cuts more off, read under the lock, ends the snapshot, which is begun anew.
const maxSaved = 4 * maxLocked

// flush saves the pages.
func (c *changes) flush(f *frozen, most uint32) error {
	page := make([]byte, f.size)
	if n := f.table.Len(); c.length < n && n-c.length > most {
		return fmt.Errorf("%w: a commit cuts off %d pages", errStale, n-c.length)
	}
	for no := range c.pages {
		f.save(no, page)
	}
	for n := c.length; n < f.table.Len(); n++ {
		f.save(wal.PageNo(n+1), page)
	}
	clear(c.pages)
	c.length = f.table.Len()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}
