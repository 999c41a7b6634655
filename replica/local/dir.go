package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gofrs/flock"

	"tidemark/snapshot/state"
)

// ErrLocked says that another tidemark uses the directory.
var ErrLocked = errors.New("another tidemark replicates this database")

// Dir is an open state directory. It is not safe for concurrent use, except
// that spooled files may be read and removed beside anything.
type Dir struct {
	path string
	lock *flock.Flock
}

// DefaultPath is the state directory of a database when none is configured.
func DefaultPath(db string) string {
	return filepath.Join(filepath.Dir(db), "."+filepath.Base(db)+"-tidemark")
}

// Open makes the directory if it must and locks it against other processes.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(filepath.Join(path, "spool"), 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	d := &Dir{path: path, lock: flock.New(filepath.Join(path, "lock"))}
	ok, err := d.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is locked; stop the other one first", ErrLocked, path)
	}
	return d, nil
}

// Close gives up the lock. A directory in which nothing was ever saved goes.
func (d *Dir) Close() error {
	if _, err := os.Stat(d.file("state.json")); errors.Is(err, os.ErrNotExist) {
		// Each of them stays if there is anything in it.
		_ = os.Remove(d.file("spool"))
		_ = os.Remove(d.file("lock"))
		defer os.Remove(d.path) //nolint:errcheck // as above
	}
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock state directory: %w", err)
	}
	return nil
}

// Path is the directory's path.
func (d *Dir) Path() string { return d.path }

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }

// Durability says what a file that is written has to survive.
type Durability int

const (
	// Process is the process's end only.
	Process Durability = iota
	// Power is a power cut too: the file is synced.
	Power
)

// replace writes a file under its name in one step.
func (d *Dir) replace(name string, survive Durability, write func(*os.File) error) (err error) {
	f, err := os.OpenFile(d.file(name)+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = write(f)
	if err == nil && survive == Power {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.file(name)); err != nil || survive != Power {
		return err
	}
	return syncFolder(d.path)
}

// syncFolder makes a name durable. Windows has no such call and needs none.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

const (
	segSuffix  = ".seg"
	partSuffix = ".part"
	sumsSuffix = ".sums"
)

// SpoolPath is the place of a sealed segment, and PartPath that of one being
// written.
func (d *Dir) SpoolPath(first state.TXID) string { return d.spool(first, segSuffix) }

// PartPath is the place of the segment that is being written.
func (d *Dir) PartPath(first state.TXID) string { return d.spool(first, partSuffix) }

// PartSumsPath is the place of the page sums that belong to it.
func (d *Dir) PartSumsPath(first state.TXID) string { return d.spool(first, sumsSuffix) }

func (d *Dir) spool(first state.TXID, suffix string) string {
	return filepath.Join(d.path, "spool", first.Hex()+suffix)
}

// Spooled lists the first TXIDs of the segments in the spool, sealed ones and
// parts, in ascending order.
func (d *Dir) Spooled() (sealed, parts []state.TXID, err error) {
	entries, err := os.ReadDir(d.file("spool"))
	if err != nil {
		return nil, nil, fmt.Errorf("list spool: %w", err)
	}
	for _, e := range entries { // sorted by name, so by TXID
		ext := filepath.Ext(e.Name())
		id, err := state.ParseHex(strings.TrimSuffix(e.Name(), ext))
		switch {
		case err != nil:
		case ext == segSuffix:
			sealed = append(sealed, id)
		case ext == partSuffix:
			parts = append(parts, id)
		}
	}
	return sealed, parts, nil
}
