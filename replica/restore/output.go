package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tidemark/replica/disk"
)

// sidecars are the names that SQLite gives to files that belong to a database.
func sidecars() []string { return []string{"-wal", "-shm", "-journal"} }

// output is the file being made and its place.
type output struct {
	path  string
	force bool // what is in the way may be moved aside
	file  *os.File
}

// check looks whether the place is free: ErrExists, unless what is there will be
// moved aside, or ErrStray.
func (o *output) check() error {
	info, err := os.Lstat(o.path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%w: %s is a folder; give the name of a file in it", ErrExists, o.path)
	case err == nil && o.force:
		return nil // the sidecars are its own, and move with it
	case err == nil:
		return fmt.Errorf("%w: %s", ErrExists, o.path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at the output: %w", err)
	}
	if _, err := os.Stat(filepath.Dir(o.path)); err != nil {
		return fmt.Errorf("look at the output's folder: %w", err)
	}
	for _, suffix := range sidecars() {
		if _, err := os.Lstat(o.path + suffix); err == nil && !o.force {
			return fmt.Errorf("%w: %s", ErrStray, o.path+suffix)
		}
	}
	return nil
}

// create makes the temporary file, in the target's folder so that a rename is
// enough to publish it.
func (o *output) create() error {
	f, err := os.CreateTemp(filepath.Dir(o.path), "."+filepath.Base(o.path)+".restore-*")
	if err != nil {
		return fmt.Errorf("make the output: %w", err)
	}
	o.file = f
	return nil
}

// discard removes the temporary file.
func (o *output) discard() error {
	err := errors.Join(o.file.Close(), os.Remove(o.file.Name()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("remove the unfinished output: %w", err)
	}
	return nil
}

// publish makes the file durable and gives it its name. It never replaces a
// file: what is in the way is moved aside, or an error.
func (o *output) publish() (aside string, err error) {
	// The file stays private, as CreateTemp made it, unless it takes the place
	// of one that was not.
	if info, err := os.Stat(o.path); err == nil {
		if err := o.file.Chmod(info.Mode().Perm()); err != nil {
			return "", fmt.Errorf("finish the output: %w", err)
		}
	}
	if err := errors.Join(o.file.Sync(), o.file.Close()); err != nil {
		return "", fmt.Errorf("finish the output: %w", err)
	}
	if err := o.check(); err != nil {
		return "", err
	}
	if o.force {
		if aside, err = o.moveAside(time.Now()); err != nil {
			return "", err
		}
	}
	if err := rename(o.file.Name(), o.path); err != nil {
		return aside, fmt.Errorf("name the output: %w", err)
	}
	return aside, syncFolder(filepath.Dir(o.path))
}

// moveAside renames the output and its sidecars, the sidecars first: a
// database without its WAL is an old state, a WAL without its database is
// nothing.
func (o *output) moveAside(now time.Time) (string, error) {
	aside := fmt.Sprintf("%s.before-restore-%s", o.path, now.UTC().Format("20060102T150405.000Z"))
	moved := ""
	for _, suffix := range append(sidecars(), "") {
		err := rename(o.path+suffix, aside+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return moved, fmt.Errorf("move the existing output aside: %w", err)
		}
		moved = aside
	}
	return moved, nil
}

// rename moves a file to a name that must be free. A hard link can't replace
// anything; where there are none, the name was looked at just before.
func rename(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, to)
	}
	return os.Rename(from, to)
}

// syncFolder makes a name durable.
func syncFolder(path string) error {
	if err := disk.SyncDir(disk.OS{}, path); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
