package salvage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tidemark/wal"
)

// walSuffix and journalSuffix are what SQLite adds to a database's name.
const (
	walSuffix     = "-wal"
	journalSuffix = "-journal"
)

// magic is what a database file begins with (fileformat2, section 1.3).
const magic = "SQLite format 3\x00"

// paths are the inputs, as far as they exist; empty: there is none.
type paths struct{ database, wal, journal string }

// resolve finds the inputs. Nothing but their first bytes is read.
func (o *Options) resolve() (p paths, err error) {
	isWAL, err := o.isWAL()
	if err != nil {
		return p, err
	}
	switch {
	case isWAL && o.WAL != "":
		return p, fmt.Errorf("%w: %s is a WAL already, and %s is given as another", ErrInput, o.Path, o.WAL)
	case !isWAL && o.DB != "":
		return p, fmt.Errorf("%w: %s is a database already, and %s is given as another", ErrInput, o.Path, o.DB)
	case isWAL:
		p.wal, p.database = o.Path, o.DB
		if name, ok := strings.CutSuffix(o.Path, walSuffix); ok && p.database == "" && exists(name) {
			p.database = name
		}
	default:
		p.database, p.wal = o.Path, cmp.Or(o.WAL, beside(o.Path, walSuffix))
		if !exists(o.Path) { // only its WAL is left
			p.database = ""
		}
	}
	if p.database != "" {
		p.journal = beside(p.database, journalSuffix)
	}
	return p, p.check()
}

// check looks whether the inputs are files, and two different ones.
func (p paths) check() error {
	for _, path := range []string{p.database, p.wal} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look at the input: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is no file", ErrInput, path)
		}
	}
	if p.database != "" && same(p.database, p.wal) {
		return fmt.Errorf("%w: %s is given as the database and as its WAL", ErrInput, p.wal)
	}
	return nil
}

// openFile opens a file to be read. To open a pipe would wait for who writes to it.
func openFile(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrInput, path)
	}
	return os.Open(path)
}

// isWAL tells which of the two Path is.
func (o *Options) isWAL() (bool, error) {
	named := strings.HasSuffix(o.Path, walSuffix)
	f, err := openFile(o.Path)
	if errors.Is(err, fs.ErrNotExist) && !named && exists(o.Path+walSuffix) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the input: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	b := make([]byte, wal.HeaderSize)
	n, _ := f.ReadAt(b, 0) // what can't be read says nothing
	b = b[:n]
	switch {
	case bytes.HasPrefix(b, []byte(magic)):
		return false, nil
	case named:
		return true, nil
	case len(b) < 4:
		return false, nil
	}
	first := binary.BigEndian.Uint32(b)
	return first&^1 == binary.BigEndian.Uint32(wal.Header{}.AppendTo(nil))&^1, nil
}

// beside is the file that SQLite would take for a database's, or "": the one with
// its name and a suffix, or with that of the file to which it is a link.
func beside(path, suffix string) string {
	names := []string{path}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		names = append(names, target)
	}
	for _, name := range names {
		if exists(name + suffix) {
			return name + suffix
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func same(a, b string) bool {
	ia, err := os.Stat(a)
	if err != nil {
		return false
	}
	ib, err := os.Stat(b)
	return err == nil && os.SameFile(ia, ib)
}

// private is a private copy of an input.
type private struct {
	*os.File
	input *Input
	size  int64
	// unreadable are the parts that could not be read.
	unreadable []span
}

// span is a part of a file.
type span struct{ from, to int64 }

const (
	copyChunk = 1 << 20
	sector    = 512
)

// copyInput copies a file into the private folder. Bytes that can't be read become zeros.
func (w *work) copyInput(ctx context.Context, path, name string) (_ *private, err error) {
	src, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("open the input: %w", err)
	}
	defer func() { _ = src.Close() }() // only read from
	before, err := src.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the input: %w", err)
	}
	dst, err := w.newFile(name)
	if err != nil {
		return nil, err
	}
	c := &private{File: dst, size: before.Size(), input: &Input{Path: path, Size: before.Size()}}
	w.expect(c.size)
	buf := make([]byte, copyChunk)
	for off := int64(0); off < c.size; off += copyChunk {
		b := buf[:min(copyChunk, c.size-off)]
		c.unreadable = append(c.unreadable, readAll(src, b, off)...)
		if _, err := dst.WriteAt(b, off); err != nil {
			return nil, fmt.Errorf("copy %s: %w", path, err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		w.advance(int64(len(b)))
	}
	for _, s := range c.unreadable {
		c.input.Unreadable += s.to - s.from
	}
	after, err := os.Stat(path)
	c.input.Changed = err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())
	return c, nil
}

// readAll fills b with what is at an offset, by sectors where it can't be read at once, and
// with zeros where it can't at all. It gives the parts for which that is so.
func readAll(src io.ReaderAt, b []byte, off int64) (unreadable []span) {
	if n, err := src.ReadAt(b, off); n == len(b) || errors.Is(err, io.EOF) {
		clear(b[n:])
		return nil
	}
	for at := 0; at < len(b); at += sector {
		part := b[at:min(at+sector, len(b))]
		from := off + int64(at)
		n, err := src.ReadAt(part, from)
		if n == len(part) {
			continue
		}
		clear(part[n:])
		if errors.Is(err, io.EOF) {
			continue
		}
		bad := span{from + int64(n), from + int64(len(part))}
		if k := len(unreadable); k > 0 && unreadable[k-1].to == bad.from {
			unreadable[k-1].to = bad.to
		} else {
			unreadable = append(unreadable, bad)
		}
	}
	return unreadable
}

// journalMagic is what a rollback journal begins with (fileformat2, section 3).
const journalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"

// lookAtJournal tells what a rollback journal beside the database means.
func lookAtJournal(path, database string) *Journal {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	j := &Journal{Path: path, Size: info.Size()}
	b := make([]byte, len(journalMagic))
	if f, err := os.Open(path); err == nil {
		_, _ = f.ReadAt(b, 0) // a journal that can't be read can't be hot
		_ = f.Close()         // only read from
	}
	if j.Hot = string(b) == journalMagic; j.Hot {
		j.Advice = fmt.Sprintf("a transaction was cut off while it changed %s, and the journal has what was there before; "+
			"it is not applied here: copy both files to another folder under their names, open that copy once with "+
			"sqlite3, which rolls the transaction back, and salvage the copy", filepath.Base(database))
	}
	return j
}

// databaseHeader is what a database's first page says (fileformat2, section 1.3).
type databaseHeader struct {
	pageSize wal.PageSize
	changes  uint32 // the change counter
	pages    uint32 // the length that it gives; 0: none that is valid
	encoding uint32
	// shrinks tells that it gives back pages as it goes (auto_vacuum).
	shrinks bool
}

const databaseHeaderSize = 100

// parseDatabaseHeader reads a header and says what is wrong with it. Fields that make no
// sense are 0.
func parseDatabaseHeader(b []byte) (h databaseHeader, wrong string) {
	if len(b) < databaseHeaderSize {
		return h, "the file is shorter than a header"
	}
	be := binary.BigEndian
	if size := wal.StatedPageSize(b); size.Valid() {
		h.pageSize = size
	}
	h.changes = be.Uint32(b[24:])
	if h.changes == be.Uint32(b[92:]) {
		h.pages = be.Uint32(b[28:])
	}
	if h.encoding = be.Uint32(b[56:]); h.encoding > 3 {
		h.encoding = 0
	}
	h.shrinks = be.Uint32(b[52:]) != 0
	switch {
	case string(b[:len(magic)]) != magic:
		return databaseHeader{}, "it does not begin as a SQLite database does"
	case h.pageSize == 0:
		return h, fmt.Sprintf("its page size %d is none", be.Uint16(b[16:]))
	case b[21] != 64 || b[22] != 32 || b[23] != 32 || be.Uint32(b[44:]) > 4:
		return h, "fields of it are not what SQLite writes"
	}
	return h, ""
}

// WALOf is the WAL that a path means: the path itself if it is one, as [Options.Path] has it,
// or the one beside the database that it names. ErrInput says that there is none.
func WALOf(path string) (string, error) {
	p, err := (&Options{Path: path}).resolve()
	if err != nil {
		return "", err
	}
	if p.wal == "" {
		return "", fmt.Errorf("%w: %s has no WAL beside it", ErrInput, path)
	}
	return p.wal, nil
}
