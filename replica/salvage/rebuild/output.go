package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tidemark/replica/disk"
)

// ErrExists says that there is something at the place of the output. Nothing is ever
// overwritten.
var ErrExists = errors.New("output exists; name another")

// ErrStray says that a -wal, -shm or -journal of another database lies next to the
// output: SQLite would take it for the new one's.
var ErrStray = errors.New("file of another database next to the output; move it away")

// sidecars are the names that SQLite gives to files that belong to a database.
func sidecars() []string { return []string{"-wal", "-shm", "-journal"} }

// output is the database being made: under a temporary name in the folder of the
// target, so that a rename is enough to publish it.
type output struct {
	path, temp string
}

func newOutput(path string) (*output, error) {
	o := &output{path: path}
	if err := o.check(); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".salvage-*")
	if err != nil {
		return nil, fmt.Errorf("make the output: %w", err)
	}
	o.temp = f.Name()
	if err := f.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("make the output: %w", err), o.discard())
	}
	return o, nil
}

// check looks whether the place is free.
func (o *output) check() error {
	for _, suffix := range append(sidecars(), "") {
		_, err := os.Lstat(o.path + suffix)
		switch {
		case err == nil && suffix == "":
			return fmt.Errorf("%w: %s", ErrExists, o.path)
		case err == nil:
			return fmt.Errorf("%w: %s", ErrStray, o.path+suffix)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("look at the output: %w", err)
		}
	}
	return nil
}

// discard removes the temporary file, and what SQLite may have left beside it.
func (o *output) discard() error {
	for _, suffix := range append(sidecars(), "") {
		if err := os.Remove(o.temp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the unfinished output: %w", err)
		}
	}
	return nil
}

// publish makes the file durable and gives it its name, which must be free.
func (o *output) publish() error {
	f, err := os.OpenFile(o.temp, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("finish the output: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("finish the output: %w", err)
	}
	if err := o.check(); err != nil {
		return err
	}
	if err := rename(o.temp, o.path); err != nil {
		return fmt.Errorf("name the output: %w", err)
	}
	if err := disk.SyncDir(disk.OS{}, filepath.Dir(o.path)); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// rename moves a file to a name that must be free. A hard link can't replace
// anything; where there are none, the name was looked at just before.
func rename(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, to)
	}
	return os.Rename(from, to)
}
