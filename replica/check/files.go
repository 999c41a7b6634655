package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"tidemark/wal"
)

// errMoved says that somebody has changed the files while they were read.
var errMoved = errors.New("the database is being written")

// settled is how old a file's time must be to tell of a change that comes now: the
// clock that file systems take it from ticks slower than files are written.
const settled = 50 * time.Millisecond

// files are a database's file and its WAL, open for reading.
type files struct {
	path string
	db   *os.File
	wal  *os.File // nil: there was none
}

// open opens the WAL beside the database, if there is one.
func (f *files) open() error {
	w, err := openShared(f.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open WAL: %w", err)
	}
	f.wal = w
	return nil
}

// reopen looks for the WAL anew.
func (f *files) reopen() error {
	if err := f.closeWAL(); err != nil {
		return err
	}
	return f.open()
}

func (f *files) closeWAL() error {
	if f.wal == nil {
		return nil
	}
	err := f.wal.Close()
	f.wal = nil
	return err
}

func (f *files) close() error {
	err := f.closeWAL()
	if f.db != nil {
		err = errors.Join(err, f.db.Close())
	}
	return err
}

// hasWAL tells whether a WAL that is not empty lies beside a path. If there is no
// database at the path, or an empty one, SQLite deletes that WAL when it is opened.
func hasWAL(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

// moment tells whether the files have changed since: as long as none of it differs,
// nobody has written to the database file, and the WAL goes on.
type moment struct {
	size     int64
	modified time.Time
	hasWAL   bool
	header   wal.Header
	journal  bool // a rollback journal that is in use
}

// now gives the moment. errMoved is one that nothing can be compared with.
func (f *files) now() (moment, error) {
	info, err := f.db.Stat()
	if err != nil {
		return moment{}, fmt.Errorf("look at the database: %w", err)
	}
	m := moment{size: info.Size(), modified: info.ModTime()}
	if f.wal != nil {
		at, err := os.Stat(f.path + "-wal")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return moment{}, fmt.Errorf("look at the WAL: %w", err)
		}
		here, herr := f.wal.Stat()
		if herr != nil {
			return moment{}, fmt.Errorf("look at the WAL: %w", herr)
		}
		if err != nil || !os.SameFile(at, here) {
			return moment{}, errMoved
		}
	}
	m.header, m.hasWAL, err = readWALHeader(f.wal)
	if err != nil && !errors.Is(err, wal.ErrHeader) {
		return moment{}, fmt.Errorf("look at the WAL: %w", err)
	}
	_, m.journal, err = hotJournal(f.path)
	return m, err
}

// watchEvery is how often still looks whether somebody writes.
const watchEvery = 50 * time.Millisecond

// still runs a function on a view of the files as they are. It gives errMoved, and
// ends the function's context, unless nobody changes them meanwhile.
func (f *files) still(ctx context.Context, size wal.PageSize, use func(context.Context, *view) error) error {
	if err := f.reopen(); err != nil {
		return err
	}
	before, err := f.now()
	if err != nil {
		return err
	}
	if before.journal || time.Since(before.modified) < settled {
		return errMoved
	}
	v := &view{size: size, pages: uint32(before.size / int64(size)), db: f.db, fileSize: before.size, over: f.wal}
	if before.hasWAL && before.header.PageSize == size {
		m := pageMap{}
		v.pages, err = m.frames(wal.NewReader(f.wal, before.header, before.header.Start()), v.pages)
		if errors.Is(err, wal.ErrChanged) {
			return errMoved
		}
		if err != nil {
			return err
		}
		v.at = m
	}
	watched, stop := f.watch(ctx, before)
	err = use(watched, v)
	stop()
	after, nerr := f.now()
	switch {
	case nerr != nil:
		return nerr
	case after != before:
		return errMoved
	default:
		return err
	}
}

// watch gives a context that ends with the moment. stop ends the watch.
func (f *files) watch(ctx context.Context, before moment) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-watched.Done():
				return
			}
			if now, err := f.now(); err != nil || now != before {
				cancel(errMoved)
			}
		}
	}()
	return watched, func() {
		cancel(nil)
		<-done
	}
}
