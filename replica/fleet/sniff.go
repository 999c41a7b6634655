package fleet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"tidemark/wal"
)

// header begins a database (fileformat2, section 1.3).
const header = "SQLite format 3\x00"

// headerSize is its size, with all that follows.
const headerSize = 100

// sniff opens a file and tells whether it begins as a database does, and how long
// that is then by its header, 0 if the header does not tell. The file is for the
// caller to close. See the package comment for when that may be done.
func sniff(path string) (file *os.File, ok bool, length int64, err error) {
	if file, err = os.Open(path); err != nil {
		return nil, false, 0, err
	}
	b := make([]byte, headerSize)
	n, err := io.ReadFull(file, b)
	if ignoreEOF(err) != nil {
		return nil, false, 0, errors.Join(err, file.Close())
	}
	return file, bytes.HasPrefix(b[:n], []byte(header)), lengthOf(b), nil
}

// lengthOf is how long a database is by its header. It counts only if the two
// change counters in it are the same.
func lengthOf(header []byte) int64 {
	if changed, valid := header[24:28], header[92:96]; !bytes.Equal(changed, valid) {
		return 0
	}
	return int64(wal.StatedPageSize(header)) * int64(binary.BigEndian.Uint32(header[28:]))
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// facts are what shows that a file has changed, without opening it.
type facts struct {
	file     identity
	size     int64
	modified time.Time
}

func factsOf(info fs.FileInfo) facts {
	return facts{file: identify(info), size: info.Size(), modified: info.ModTime()}
}

// dismissal is a file that was found to be no database.
type dismissal struct {
	facts
	look int // when it was seen last
}

// newcomer is a database that seems to be unfinished.
type newcomer struct {
	facts
	// first is when it was seen first, since when with these facts.
	first, since time.Time
}

// quiet is how long a new database is not written to before it is begun, patience how
// long that is waited for.
const (
	quiet    = time.Second
	patience = 10 * time.Second
)

// coarse is how much a file's times may lag behind: of one that was written to more
// recently they don't tell whether it has changed since.
const coarse = 3 * time.Second

// settled tells whether the next change of the file would show in its facts.
func (f facts) settled() bool { return time.Since(f.modified) > coarse }
