package file

import (
	"errors"
	"fmt"
	"io"
	"os"

	"tidemark/storage"
)

// reader reads one range of an open object. An object is never changed in
// place, so the range is fixed when it is opened.
type reader struct {
	file *os.File
	key  string
	left int64
	// alive returns the error of the Get's context.
	alive func() error
}

// newReader positions f at the range [off, off+n), cut at the object's end.
func newReader(f *os.File, key string, off, n int64) (*reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, classify(err)
	}
	if !info.Mode().IsRegular() {
		return nil, storage.ErrNotExist
	}
	size := info.Size()
	if off < 0 || off > size {
		return nil, fmt.Errorf("%w: offset %d of %d bytes", storage.ErrRange, off, size)
	}
	if n < 0 || n > size-off {
		n = size - off
	}
	if off > 0 {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return &reader{file: f, key: key, left: n}, nil
}

// errShort says that a file has got shorter than it was when it was opened.
var errShort = errors.New("the file was cut short")

// Read implements io.Reader. A file that somebody has cut short fails.
func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if err := r.alive(); err != nil {
		return 0, fmt.Errorf("get %s: %w", r.key, err)
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.file.Read(p)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		return n, fmt.Errorf("get %s: %w", r.key, errShort)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("get %s: %w", r.key, err)
	}
	return n, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	return r.file.Close()
}
