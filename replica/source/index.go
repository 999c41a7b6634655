package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"tidemark/wal"
)

// locksByHandle tells that a lock belongs to the handle that took it, so that
// another handle of the file may be closed at any time, and is in the way of the
// file's deletion. Elsewhere closing any descriptor drops the process's locks.
const locksByHandle = runtime.GOOS == "windows"

// indexLooks is how often the wal-index is read in a row before it is given up:
// SQLite may be writing it.
const indexLooks = 20

// versionAt is where a database names the SQLite that has written it, tellsAttempts
// the first version that notes a checkpoint before it copies anything, 3.16.0.
const (
	versionAt     = 96
	tellsAttempts = 3_016_000
)

// index reads the wal-index's header. The descriptor that it takes for that is
// closed after the last connection.
func (d *DB) index() (wal.Index, error) {
	if d.shm == nil {
		f, err := os.OpenFile(d.path+"-shm", os.O_RDWR, 0) // never written to, but locked
		if err != nil {
			return wal.Index{}, fmt.Errorf("open wal-index: %w", err)
		}
		d.shm = f
	}
	h, err := readIndex(d.shm)
	if locksByHandle {
		err = errors.Join(err, d.shm.Close())
		d.shm = nil
	}
	return h, err
}

func readIndex(f io.ReaderAt) (h wal.Index, err error) {
	b := make([]byte, wal.IndexSize)
	for range indexLooks {
		if _, err := f.ReadAt(b, 0); err != nil {
			return wal.Index{}, fmt.Errorf("read wal-index: %w", err)
		}
		if h, err = wal.ParseIndex(b); err == nil {
			return h, nil
		}
	}
	return wal.Index{}, err
}

// Uncopied tells whether nobody has begun to copy a frame of a generation of the WAL
// into the database file: what that holds then, it has held since the WAL began
// with these salts. It is false where that can't be told. It may be called while
// the WAL is pinned, so that the generation stays.
func (d *DB) Uncopied(salts wal.Salts) bool {
	at, err := d.index()
	if err != nil || at.Salts != salts {
		return false
	}
	// A wal-index that was recovered since the WAL began counts from then on, and
	// of what was copied before only newer versions of SQLite would tell.
	if n, err := d.commitsOf(at); err != nil || at.Changes < n {
		return false
	}
	// Older ones don't tell what they have begun.
	var version [4]byte
	if _, err := d.file.ReadAt(version[:], versionAt); err != nil || binary.BigEndian.Uint32(version[:]) < tellsAttempts {
		return false
	}
	for _, off := range []int64{wal.CopiedAt, wal.AttemptedAt} {
		var frames [4]byte
		if _, err := d.shm.ReadAt(frames[:], off); err != nil || frames != [4]byte{} {
			return false
		}
	}
	return true
}

// readTo has everything read and secured that is committed, and gives the
// wal-index as of that moment, zero if it can't be read. ok is false if there was no
// such moment, since something was committed meanwhile.
func (d *DB) readTo(drain Drainer) (at wal.Index, ok bool, err error) {
	before, _ := d.index() // what can't be told is found by comparing pages
	if _, err := drain.Keep(wal.Salts{}); err != nil {
		return wal.Index{}, false, err
	}
	after, _ := d.index() // as above
	return after, after == before, nil
}

// readOn reads what was committed since a moment up to which all had been read,
// and during which the WAL was not pinned, but is now. It fails unless that is
// everything: if the WAL has restarted since, as many commits must be in the new
// generation as the wal-index has counted. Were there others at the end of the old
// one, or in one between the two, they would be missing from that.
func (d *DB) readOn(drain Drainer, before wal.Index) error {
	now, err := d.index()
	if err != nil {
		return err
	}
	if now.Salts != before.Salts {
		if before.Changes == 0 {
			return errors.New("commits were not counted before") // and may be counted anew
		}
		commits := now.Changes - before.Changes
		if commits == 0 {
			return nil
		}
		if n, err := d.commitsOf(now); err != nil || n != commits {
			return errors.Join(err, fmt.Errorf("the WAL has restarted, and holds %d of %d commits", n, commits))
		}
	}
	read, err := drain.Keep(now.Salts)
	if err == nil && read < now.Frames {
		err = fmt.Errorf("read %d frames of %d", read, now.Frames)
	}
	return err
}

// commitsOf counts the commits of the WAL's generation that a wal-index is of.
func (d *DB) commitsOf(now wal.Index) (n uint32, err error) {
	h, err := wal.ReadHeader(d.wal)
	if err != nil || h.Salts != now.Salts {
		return 0, err
	}
	r := wal.NewReader(d.wal, h, h.Start())
	r.SetLimit(now.Frames)
	for {
		switch _, err := r.Next(); {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
		n++
	}
}
