package salvage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tidemark/wal"
)

// work is one salvage under way.
type work struct {
	opts Options
	// dir is the private folder, with everything that is open in it.
	dir   string
	files []*os.File

	rep *Report
	// db and wal are the private copies, nil where there is no such input.
	db, wal *private
	// size is the page size of what is made.
	size wal.PageSize
	// head is what the database's first page says.
	head databaseHeader
	// reserved is how many bytes of each page the database leaves to extensions.
	reserved byte
	// base is the database's pages, nil without one.
	base *pages
	// headWrong says what is wrong with the header of the database, doubtful why the WAL may
	// not belong to it.
	headWrong, doubtful string
	// uncounted tells that the wal-index counts more frames than there are.
	uncounted bool
	// history is what the WAL holds, nil without one.
	history *history
	// at is where the database stands in the WAL.
	at alignment
	// remote is the state of the replica that fits best, nil if none is used; there is
	// where it stands in the WAL.
	remote *pages
	there  alignment
	// aligned tells that this place is known, ahead that it has what is lost behind it.
	aligned, ahead bool

	done, total int64
}

// expect makes the total of the progress grow, advance tells of bytes that are done.
func (w *work) expect(n int64) { w.total += n }

func (w *work) advance(n int64) {
	w.done += n
	if w.opts.Progress != nil {
		// All is done only when Run is.
		w.opts.Progress(min(w.done, w.total-1), w.total)
	}
}

// begin makes the private folder.
func (w *work) begin(p paths) (err error) {
	parent := w.opts.Temp
	if parent == "" {
		parent = filepath.Dir(w.opts.Output)
		for _, path := range []string{p.database, p.wal} {
			if path != "" && same(filepath.Dir(path), parent) {
				parent = "" // the system's
			}
		}
	}
	for _, path := range []string{p.database, p.wal} {
		if path != "" && parent != "" && same(filepath.Dir(path), parent) {
			return fmt.Errorf("%w: the folder %s for temporary files holds an original; nothing is written beside those", ErrInput, parent)
		}
	}
	if w.dir, err = os.MkdirTemp(parent, ".tidemark-salvage-*"); err != nil {
		return fmt.Errorf("make the private folder: %w", err)
	}
	return nil
}

// end removes the private folder.
func (w *work) end() error {
	var errs []error
	for _, f := range w.files {
		if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the private folder: %w", err)
	}
	return nil
}

// path is that of a file in the private folder.
func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

// newFile makes a file in the private folder. It is closed at the end.
func (w *work) newFile(name string) (*os.File, error) {
	f, err := os.OpenFile(w.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a private file: %w", err)
	}
	w.files = append(w.files, f)
	return f, nil
}

// drop removes a private file that is no longer needed.
func (w *work) drop(f *os.File) error {
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("remove a private file: %w", err)
	}
	return nil
}

// note adds a sentence to the report.
func (w *work) note(format string, args ...any) {
	w.rep.Notes = append(w.rep.Notes, fmt.Sprintf(format, args...))
}
