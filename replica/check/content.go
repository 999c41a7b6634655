package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// known is what is known of the state that was checked.
type known struct {
	ok    bool
	pages uint32
	sum   state.Checksum
	table *state.Table // nil unless a bucket is to be compared
}

const (
	mendContent  = "stop writing, keep all files as they are: tidemark restore brings back what was replicated, tidemark salvage takes out what is left"
	mendTooBusy  = "run it again while less is written"
	mendNoModule = "run PRAGMA integrity_check with the application's own SQLite"
)

// content has SQLite check one committed state.
func (c *checker) content(ctx context.Context) error {
	_, hot, err := hotJournal(c.files.path)
	if err != nil {
		return err
	}
	if hot && c.quiet() {
		return c.rolledBack(ctx)
	}
	at := len(c.items)
	look := func(ctx context.Context, v *view) error {
		c.items = c.items[:at] // what was said of a state that moved
		return c.lookAt(ctx, v)
	}
	err = c.files.still(ctx, c.head.size, look)
	if errors.Is(err, errMoved) {
		err = c.copied(ctx, look)
	}
	if errors.Is(err, errMoved) {
		c.items = c.items[:at]
		c.warn(Integrity, mendTooBusy, "not checked: the database changes too fast for a copy without a lock")
		return nil
	}
	return err
}

// copied looks at a private copy, if there is room for one.
func (c *checker) copied(ctx context.Context, look func(context.Context, *view) error) error {
	dir := c.opts.TempDir
	if dir == "" {
		dir = os.TempDir()
	}
	info, err := c.files.db.Stat()
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	if free, err := freeSpace(dir); err == nil && free < info.Size()+leastFree {
		c.warn(Integrity, "name a folder with more room in TMPDIR, or run it while nothing is written",
			"not checked: the database is being written, and a private copy of %s has no room in %s", bytesOf(info.Size()), dir)
		return nil
	}
	return c.files.copied(ctx, c.head.size, dir, look)
}

// rolledBack checks a copy in which SQLite has rolled back the transaction that was
// interrupted.
func (c *checker) rolledBack(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(c.opts.TempDir, "tidemark-check-*")
	if err != nil {
		return fmt.Errorf("make a private copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	to := filepath.Join(dir, filepath.Base(c.files.path))
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if err := copyFile(to+suffix, c.files.path+suffix); err != nil {
			return err
		}
	}
	problems, err := sqliteCheckFile(ctx, to, c.opts.Quick)
	return c.sayIntegrity(ctx, nil, problems, err)
}

// copyFile copies a file, if it is there.
func copyFile(to, from string) (err error) {
	src, err := openShared(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a private copy: %w", err)
	}
	defer src.Close() //nolint:errcheck // only read
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a private copy: %w", err)
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return fmt.Errorf("make a private copy: %w", err)
	}
	return nil
}

// lookAt looks at a view: its length, its pages, which SQLite has written it.
func (c *checker) lookAt(ctx context.Context, v *view) error {
	b := make([]byte, headerSize)
	if _, err := v.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h, ok := parseHeader(b)
	if !ok {
		c.fail(Size, mendContent, "the first page in the WAL is none")
		return nil
	}
	c.length(v, h)
	problems, err := sqliteCheck(ctx, v, c.opts.Quick)
	if err := c.sayIntegrity(ctx, v, problems, err); err != nil {
		return err
	}
	c.version(h.version)
	if c.opts.Bucket == nil {
		return nil
	}
	return c.sum(ctx, v)
}

// length compares the file's length with what the header, or the WAL, says.
func (c *checker) length(v *view, h fileHeader) {
	pages := v.pages
	if len(v.at) == 0 && h.pages != 0 && h.changes == h.validFor {
		pages = h.pages
	}
	short := &view{size: v.size, pages: pages, fileSize: v.fileSize, at: v.at}
	rest := v.fileSize % int64(v.size)
	switch n := short.missing(); {
	case n > 0:
		c.fail(Size, mendContent, "the database has %d pages, and %d of them are not in the file: it was cut off", pages, n)
	case rest != 0:
		c.warn(Size, "compare with a backup: SQLite makes no such file", "the file ends in the midst of a page, %d bytes after the last one", rest)
	case len(v.at) == 0 && pages < v.pages:
		c.warn(Size, "compare with a backup: SQLite does not read what is behind", "the header says %d pages, the file has %d", pages, v.pages)
	default:
		c.ok(Size, "%d pages, %s", pages, bytesOf(int64(pages)*int64(v.size)))
	}
}

// checkName is the check that SQLite ran.
func (c *checker) checkName() string {
	if c.opts.Quick {
		return "quick_check"
	}
	return "integrity_check"
}

// sayIntegrity tells what SQLite has found. v is nil if the copy is gone.
func (c *checker) sayIntegrity(ctx context.Context, v *view, problems []string, err error) error {
	var e *sqlite.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_ERROR:
		c.warn(Integrity, mendNoModule, "SQLite can't check it without the application's extensions: %v", err)
		return nil
	case errors.As(err, &e):
		problems = append(problems, err.Error())
	case err != nil:
		return fmt.Errorf("have SQLite check the database: %w", err)
	}
	if len(problems) == 0 {
		c.ok(Integrity, "%s: ok", c.checkName())
		return nil
	}
	if v != nil && len(v.at) > 0 && c.wholeWithout(ctx, v) {
		c.fail(Integrity, "keep all files; the WAL may be another database's, or of another time: tidemark salvage compares the two",
			"%s: %s; without its WAL the database is whole", c.checkName(), joined(problems))
		return nil
	}
	c.fail(Integrity, mendContent, "%s: %s", c.checkName(), joined(problems))
	return nil
}

// wholeWithout tells whether the database file alone passes.
func (c *checker) wholeWithout(ctx context.Context, v *view) bool {
	alone := &view{size: v.size, pages: uint32(v.fileSize / int64(v.size)), db: v.db, fileSize: v.fileSize}
	problems, err := sqliteCheck(ctx, alone, c.opts.Quick)
	return err == nil && len(problems) == 0
}

// sumChunk is how many pages are summed up at a time.
const sumChunk = 256

// sum computes the page sums of a view.
func (c *checker) sum(ctx context.Context, v *view) error {
	sums := make([]state.Sum, 0, v.pages)
	buf := make([]byte, sumChunk*int(v.size))
	for no := wal.PageNo(1); uint32(no) <= v.pages; {
		n := min(sumChunk, int(v.pages)-int(no)+1)
		if err := v.readPages(buf[:n*int(v.size)], no); err != nil {
			return err
		}
		for i := range n {
			at := no + wal.PageNo(i)
			s := state.SumPage(at, buf[i*int(v.size):(i+1)*int(v.size)])
			if at == v.size.LockPage() {
				s = 0
			}
			sums = append(sums, s)
		}
		no += wal.PageNo(n)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	t := state.TableOf(v.size, sums)
	c.state = known{ok: true, pages: t.Len(), sum: t.Checksum(), table: t}
	return nil
}
