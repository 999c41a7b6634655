package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxStatus bounds what is read of a status: nothing that is longer is one.
const maxStatus = 1 << 20

func statusPath(dir string) string { return filepath.Join(dir, "status.json") }

// SaveStatus replaces what is told about the replication. It is nothing that
// anybody relies on, so it is not synced, and does not go through the directory's
// file system, of which every operation matters. It is safe for use beside
// anything but itself and Close.
//
// A full disk has no room for two of them. So after a failure the old one goes
// first. It goes in any case: it would tell what is no longer so.
func (d *Dir) SaveStatus(b []byte) error {
	err := d.replaceStatus(b)
	if err == nil {
		return nil
	}
	d.removeStatus()
	if err = d.replaceStatus(b); err != nil {
		d.removeStatus()
		return fmt.Errorf("save status: %w", err)
	}
	return nil
}

func (d *Dir) replaceStatus(b []byte) error {
	path := statusPath(d.path)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// removeStatus leaves no status. If one stays, there is nothing more to do.
func (d *Dir) removeStatus() {
	_ = os.Remove(statusPath(d.path))
	_ = os.Remove(statusPath(d.path) + ".tmp")
}

// LoadStatus reads what was told last about the replication whose state
// directory is dir. That there is nothing, or nothing that can be read, is
// ErrLost.
func LoadStatus(dir string) ([]byte, error) {
	f, err := os.Open(statusPath(dir))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxStatus))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return b, nil
}
