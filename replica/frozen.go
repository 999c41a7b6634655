package replica

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

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
type frozen struct {
	file  io.ReaderAt
	size  wal.PageSize
	table *state.Table // not changed
	// image reads the database as it was attached to, nil if the file had all of
	// it: the WAL's frames until then are readable until they are in the file.
	image *source.Image

	mu sync.Mutex // guards what follows
	// wanted are the pages that are yet to be read, saved those of them that are
	// in saves, at their places.
	wanted, saved bitmap
	saves         *os.File
	broken        error
}

// errStale says that a page is not to be had any more as it was.
var errStale = errors.New("a page has changed before it was saved")

// newFrozen begins with all pages wanted of a state that are in runs; all but the
// lock-byte page without runs.
func newFrozen(file io.ReaderAt, image *source.Image, table *state.Table, runs []snapshot.Run, dir string) (*frozen, error) {
	saves, err := os.CreateTemp(dir, savesPattern)
	if err != nil {
		return nil, fmt.Errorf("make room for changed pages: %w", err)
	}
	f := &frozen{
		file: file, image: image, size: table.PageSize(), table: table, saves: saves,
		wanted: newBitmap(table.Len()), saved: newBitmap(table.Len()),
	}
	if runs == nil {
		runs = []snapshot.Run{{First: 1, Pages: table.Len()}}
	}
	for _, r := range runs {
		for n := range r.Pages {
			f.wanted.set(r.First + wal.PageNo(n))
		}
	}
	if lock := f.size.LockPage(); uint32(lock) <= table.Len() {
		f.wanted.unset(lock)
	}
	return f, nil
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
	return errors.Join(f.saves.Close(), os.Remove(f.saves.Name()))
}

// ReadPages implements snapshot.PageSource.
func (f *frozen) ReadPages(first wal.PageNo, buf []byte) error {
	n, err := f.file.ReadAt(buf, f.size.Offset(first))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read database pages from %v: %w", first, err)
	}
	clear(buf[n:])
	no := first
	for ; len(buf) > 0; buf = buf[f.size:] {
		page := buf[:f.size]
		if state.SumPage(no, page) != f.table.At(no) {
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

// find reads a page that is not in the file, or not as it was.
func (f *frozen) find(no wal.PageNo, page []byte) error {
	if f.image != nil {
		if err := f.image.ReadPages(no, page); err == nil && state.SumPage(no, page) == f.table.At(no) {
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
