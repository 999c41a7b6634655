package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// scratch makes a file that goes when it is closed. Where a system lets an open file
// be removed, nothing is left of it either if the process is killed.
func scratch(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "tidemark-check-*")
	if err != nil {
		return nil, fmt.Errorf("make a private copy: %w", err)
	}
	_ = os.Remove(f.Name()) // else discard does
	return f, nil
}

// discard closes and removes it.
func discard(f *os.File) error {
	err := f.Close()
	if rerr := os.Remove(f.Name()); !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return fmt.Errorf("remove the private copy: %w", err)
	}
	return nil
}
