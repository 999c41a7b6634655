package current

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// end is where a WAL ends.
type end struct {
	// empty tells that there is no WAL, or that it has no header: then all that
	// is committed is in the database file.
	empty  bool
	salts  wal.Salts
	frames uint32
}

// walFile opens the WAL; nil if there is none.
func (f *finder) walFile() (*os.File, error) {
	file, err := os.Open(f.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("open WAL: %w", err)
	}
	return file, nil
}

// header reads the WAL's header, or tells that it has none. wal.ErrHeader says
// that it is being written.
func (f *finder) header() (h wal.Header, empty bool, err error) {
	file, err := f.walFile()
	if err != nil || file == nil {
		return wal.Header{}, err == nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	h, err = wal.ReadHeader(file)
	if errors.Is(err, io.EOF) {
		return wal.Header{}, true, nil
	}
	return h, false, err
}

// lookAtWAL finds the end of the WAL as it is now. It counts every whole
// transaction that the file holds, as recovery would: of one that a writer has put
// there and has yet to publish in the wal-index, that is one too many, for a moment
// in which it is waited for.
func (f *finder) lookAtWAL(ctx context.Context) (end, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		at, ok, err := f.scan()
		if ok || err != nil {
			return at, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return end{}, fmt.Errorf("%w: the WAL restarts all the time, or its header is damaged (%w)", ErrBehind, context.Cause(ctx))
		}
	}
}

// scan reads the WAL to its end. ok is false if it restarted meanwhile: then some of
// what it held was not seen.
func (f *finder) scan() (at end, ok bool, err error) {
	file, err := f.walFile()
	if err != nil || file == nil {
		return end{empty: true}, err == nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	h, err := wal.ReadHeader(file)
	switch {
	case errors.Is(err, io.EOF):
		return end{empty: true}, true, nil
	case errors.Is(err, wal.ErrHeader):
		return end{}, false, nil
	case err != nil:
		return end{}, false, err
	}
	r := wal.NewReader(file, h, h.Start())
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		return end{}, false, err
	}
	// A restart writes the header first.
	now, empty, err := f.header()
	if errors.Is(err, wal.ErrHeader) {
		return end{}, false, nil
	}
	return end{salts: h.Salts, frames: r.Position().Frame}, err == nil && !empty && now.Salts == h.Salts, err
}

// compare tells whether the database file is the remembered state. It is asked again
// and again, and takes a fifth of the time.
func (f *finder) compare(ctx context.Context, st local.State) (bool, error) {
	if time.Now().Before(f.nextCompare) {
		return false, nil
	}
	began := time.Now()
	defer func() { f.nextCompare = time.Now().Add(4 * time.Since(began)) }()
	file, err := os.Open(f.path)
	if err != nil {
		return false, fmt.Errorf("open database: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	sum, err := sumOf(ctx, file, st.Pages)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read database: %w", err)
	}
	return err == nil && sum == st.Checksum, nil
}

// chunk is how much of the database is read at a time: a whole number of pages.
const chunk = 1 << 20

// sumOf computes the state checksum of the first pages of a database file.
func sumOf(ctx context.Context, file io.ReaderAt, pages uint32) (sum state.Checksum, err error) {
	size, err := pageSize(file)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, chunk)
	for no := wal.PageNo(1); uint32(no) <= pages; {
		n := min(chunk/int(size), int(pages)-int(no)+1)
		b := buf[:n*int(size)]
		if m, err := file.ReadAt(b, size.Offset(no)); m < len(b) {
			return 0, err
		}
		sum += state.SumPages(size, no, b)
		no += wal.PageNo(n)
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
	return sum, nil
}

// pageSize reads the page size out of a database's header (fileformat2, section
// 1.3.2). A file that is none gives io.EOF.
func pageSize(file io.ReaderAt) (wal.PageSize, error) {
	var b [18]byte
	if n, err := file.ReadAt(b[:], 0); n < len(b) {
		return 0, err
	}
	size := wal.StatedPageSize(b[:])
	if !size.Valid() {
		return 0, io.EOF
	}
	return size, nil
}
