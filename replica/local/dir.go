package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"tidemark/replica/disk"
	"tidemark/snapshot/state"
)

// Dir is an open state directory. It is not safe for concurrent use, except
// that spooled files may be read and removed, and SaveShipped and SaveStatus
// called, beside anything.
type Dir struct {
	path string
	fs   disk.FS
	lock *flock.Flock
	// placed tells that the name of shipped.json is durable. SaveShipped has it.
	placed bool
}

// DefaultPath is the state directory of a database when none is configured.
func DefaultPath(db string) string {
	return filepath.Join(filepath.Dir(db), "."+filepath.Base(db)+"-tidemark")
}

// Open makes the directory if it must and locks it against other processes. All
// that it holds but the lock is read and written through fs.
func Open(fs disk.FS, path string) (*Dir, error) {
	if err := fs.MkdirAll(filepath.Join(path, "spool"), 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path: path, fs: fs, lock: lock}, nil
}

// Close gives up the lock. A directory in which nothing was ever saved goes.
func (d *Dir) Close() error {
	if !d.has("state.json") && !d.has("shipped.json") {
		// Each of them stays if there is anything in it.
		d.removeStatus()
		_ = os.Remove(d.file("spool"))
		_ = os.Remove(lockPath(d.path))
		defer func() {
			_ = os.Remove(d.path)
			if above := filepath.Dir(d.path); filepath.Base(above) == replicasName {
				_ = os.Remove(above)
				_ = os.Remove(filepath.Dir(above))
			}
		}()
	}
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock state directory: %w", err)
	}
	return nil
}

// has tells whether a file is there, and if in doubt that it is.
func (d *Dir) has(name string) bool {
	_, err := os.Stat(d.file(name))
	return !errors.Is(err, os.ErrNotExist)
}

// FS is the file system that the directory is on.
func (d *Dir) FS() disk.FS { return d.fs }

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
func (d *Dir) replace(name string, survive Durability, write func(io.Writer) error) (err error) {
	f, err := disk.Create(d.fs, d.file(name)+".tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.fs.Remove(f.Name()) // if it stays, the next one overwrites it
		}
	}()
	err = write(f)
	if err == nil && survive == Power {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.Rename(f.Name(), d.file(name)); err != nil || survive != Power {
		return err
	}
	return disk.SyncDir(d.fs, d.path)
}

// read reads a file whole. That it is not there is ErrLost; that it can't be
// read now is not.
func (d *Dir) read(name string) ([]byte, error) {
	b, err := disk.ReadFile(d.fs, d.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read local state: %w", err)
	}
	return b, nil
}

// Forget removes the remembered state, durably: what comes next begins with what
// the archive holds.
func (d *Dir) Forget() error {
	err := d.fs.Remove(d.file("state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, disk.SyncDir(d.fs, d.path)); err != nil {
		return fmt.Errorf("forget local state: %w", err)
	}
	return nil
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
	entries, err := d.fs.ReadDir(d.file("spool"))
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
