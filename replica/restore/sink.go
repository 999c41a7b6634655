package restore

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"tidemark/snapshot/block"
)

// worthwhile is from how many bytes on the system is asked to begin to write them to
// the disk.
const worthwhile = 1 << 20

// sink is the output while snapshots are written to it. It is safe for
// concurrent use.
type sink struct {
	file *os.File

	// mu lets one goroutine write at a time. File systems let only one do so
	// anyway, and who waits there keeps a processor busy.
	mu   sync.Mutex
	free sync.Pool // of *memory
}

// memory is what one goroutine needs to write a part of a snapshot: room for a
// block as it is stored.
type memory struct{ stored []byte }

// memory gives some, to be given back by leave.
func (s *sink) memory() *memory {
	if m, ok := s.free.Get().(*memory); ok {
		return m
	}
	return &memory{}
}

func (s *sink) leave(m *memory) { s.free.Put(m) }

// block gives room for n bytes, which a checked index bounds.
func (m *memory) block(n int64) []byte {
	if int64(cap(m.stored)) < n {
		m.stored = make([]byte, n, max(n, block.MaxRaw+block.MaxRaw/16))
	}
	return m.stored[:n]
}

// size makes the output n bytes long, which must be empty, and reserves the
// space: a full disk shows before anything is downloaded, and the file lies in
// one piece if there is one.
func (s *sink) size(n int64) error {
	if err := s.file.Truncate(n); err != nil {
		return fmt.Errorf("size the output: %w", err)
	}
	// Where a file system can't reserve space, a full disk shows later.
	if err := reserve(s.file, n); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("size the output: no room for its %d bytes: %w", n, err)
	}
	return nil
}

// write writes pages to where they belong.
func (s *sink) write(b []byte, off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.WriteAt(b, off); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// writeBack has the system begin to write what is between two offsets to the disk,
// and does not wait for that. It is for speed only: the sync at the end does what
// is not done here, and tells of what fails.
func (s *sink) writeBack(from, to int64) {
	if to-from >= worthwhile {
		startWriteback(s.file, from, to-from)
	}
}
