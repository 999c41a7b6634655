package source

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"tidemark/wal"
)

// The locks by which other processes know of a read transaction in slot 0, each held
// shared: on the database file SQLite's SHARED lock (os.h), on the -shm file the sign
// that someone has it open (UNIX_SHM_DMS in os_unix.c), and the slot.
//
//	what          file  first bytes      without it
//	SHARED        db    1073741826  510  the last one to close deletes the WAL
//	in use        -shm  128           1  the next one to open empties the -shm file
//	read slot 0   -shm  123           1  a checkpoint copies what is unread, and then the
//	                                     WAL restarts over it
const (
	sharedFirst = 0x40000000 + 2
	sharedSize  = 510
	lockInUse   = 128
	// backfillAt is where the wal-index has the number of frames that the database
	// file has: nBackfill (walformat, section 2.2).
	backfillAt = wal.IndexSize
)

// lockRest takes the pin's locks for descriptors of its own, while the pin is held, and
// tells whether it could. Such a lock (F_OFD_SETLK, fcntl(2)) belongs to the open file
// and not to the process, like those of SQLite: it stays when SQLite closes its
// descriptors, which drops all of the process's own, and disturbs none of them.
//
// It is slot 0 that is locked, whichever the pin is in. As long as that is held nobody
// copies a frame into the database file; so the WAL can restart once if the file has
// all of it now, and never again. Now is when the wal-index is read, with the slot
// locked: if all who read the WAL are at its end then, or it is empty, nothing can get
// lost. If the file lacks something, the locks would do, too, but a checkpoint of the
// application's would wait for them where it may not have to wait for the pin.
//
// On any doubt there are no locks.
func (d *DB) lockRest(read []wal.Position) bool {
	if _, err := d.index(); err != nil || !d.indexInPlace() { // this opens the -shm file
		return false
	}
	if !d.lockAll(unix.F_RDLCK) || !d.allRead(read) {
		d.unlockRest()
		return false
	}
	return true
}

// unlockRest drops the locks.
func (d *DB) unlockRest() { d.lockAll(unix.F_UNLCK) }

func (d *DB) lockAll(how int16) bool {
	if d.shm == nil {
		return false
	}
	for _, l := range []struct {
		f        *os.File
		first, n int64
	}{{d.file, sharedFirst, sharedSize}, {d.shm, lockInUse, 1}, {d.shm, lockFirstRead, 1}} {
		lock := unix.Flock_t{Type: how, Whence: io.SeekStart, Start: l.first, Len: l.n}
		if err := fileLock(l.f, unix.F_OFD_SETLK, &lock); err != nil {
			return false
		}
		// As SQLite asks in this process, whose own locks it is not told of.
		ask := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: l.first, Len: l.n}
		if how != unix.F_UNLCK && (fileLock(l.f, unix.F_GETLK, &ask) != nil || ask.Type == unix.F_UNLCK) {
			return false // a file system that has locks in name only
		}
	}
	return true
}

// fileLock sets a lock or asks for one, without waiting.
func fileLock(f *os.File, cmd int, l *unix.Flock_t) error {
	c, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	var lerr error
	err = c.Control(func(fd uintptr) {
		for lerr = syscall.EINTR; lerr == syscall.EINTR; { //nolint:errorlint // as the system gives it
			lerr = unix.FcntlFlock(fd, cmd, l)
		}
	})
	if err == nil {
		err = lerr
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// allRead tells whether all are at the WAL's end, and the database file has it all.
func (d *DB) allRead(read []wal.Position) bool {
	before, err := d.index()
	if err != nil {
		return false
	}
	var b [4]byte
	if _, err := d.shm.ReadAt(b[:], backfillAt); err != nil {
		return false
	}
	after, err := d.index()
	if err != nil || after != before {
		return false
	}
	if after.Frames == 0 {
		return true
	}
	for _, at := range read {
		if at.Salts != after.Salts || at.Frame != after.Frames {
			return false
		}
	}
	return binary.NativeEndian.Uint32(b[:]) == after.Frames
}

// indexInPlace tells whether the -shm file is still the one at its path. Who would
// open another one would not know of the application's locks.
func (d *DB) indexInPlace() bool {
	if d.shm == nil {
		return true
	}
	ours, err := d.shm.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(d.path + "-shm")
	return err == nil && os.SameFile(ours, now)
}

// alone tells whether nobody else has the database open.
func (d *DB) alone() bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: sharedFirst, Len: sharedSize}
	return fileLock(d.file, unix.F_OFD_GETLK, &l) == nil && l.Type == unix.F_UNLCK
}
