package source

import (
	"io"
	"os"
	"sync"
)

// dropAfter is how many bytes a sweep brings into the system's cache before it
// drops them again: one call for many is cheap, and no cache is too small for them.
const dropAfter = 8 << 20

// Sweep reads much of the database file, each byte once or so, and leaves the
// system's cache of it as it was: what the application had there stays, and what only
// the sweep has brought in goes again, before it takes the place of something that is
// in use. What the application reads in the same moment may go with it, and has to be
// read once more.
//
// It is done on Linux; elsewhere a sweep reads as anybody does. It reads by the one
// descriptor that there is of the file, and so costs no lock. It is safe for
// concurrent use, beside anything but [DB.Close].
type Sweep struct {
	file *os.File

	mu sync.Mutex
	// loaded is what it has brought into the cache since it dropped the last, of so
	// many bytes.
	loaded []extent
	bytes  int64
}

// extent is a piece of a file: n bytes from off.
type extent struct{ off, n int64 }

// Sweep begins one. It is to be ended.
func (d *DB) Sweep() *Sweep {
	readNothingAhead(d.file)
	return &Sweep{file: d.file}
}

var _ io.ReaderAt = (*Sweep)(nil)

// ReadAt implements [io.ReaderAt].
func (s *Sweep) ReadAt(p []byte, off int64) (int, error) {
	absent := uncached(s.file, extent{off, int64(len(p))})
	n, err := s.file.ReadAt(p, off)
	if len(absent) > 0 {
		s.add(absent)
	}
	return n, err
}

func (s *Sweep) add(absent []extent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range absent {
		s.bytes += x.n
		if i := len(s.loaded) - 1; i >= 0 && s.loaded[i].off+s.loaded[i].n == x.off {
			s.loaded[i].n += x.n
			continue
		}
		s.loaded = append(s.loaded, x)
	}
	if s.bytes >= dropAfter {
		s.drop()
	}
}

func (s *Sweep) drop() {
	uncache(s.file, s.loaded)
	s.loaded, s.bytes = s.loaded[:0], 0
}

// End drops what is left. Reading on after it is no harm, but for the cache.
func (s *Sweep) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}
