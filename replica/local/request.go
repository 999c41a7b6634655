package local

import (
	"fmt"
	"os"
	"path/filepath"
)

// A request is a file that another process leaves for the one that holds the
// directory: there is nothing to listen on, and a request outlives who makes it.
const (
	requestName = "snapshot.request"
	requestFull = "full"
	requestAny  = "any"
)

// RequestSnapshot asks the process that holds a state directory for a snapshot, a
// full one or any. A request that has not been taken up yet is replaced.
//
//nolint:revive // full is what is asked for
func RequestSnapshot(dir string, full bool) error {
	text := requestAny
	if full {
		text = requestFull
	}
	name := filepath.Join(dir, requestName)
	err := os.WriteFile(name+".tmp", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		return fmt.Errorf("request a snapshot: %w", err)
	}
	return nil
}

// Requested tells whether a request waits to be taken up.
func Requested(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, requestName))
	return err == nil
}

// TakeRequest takes a request up, if there is one. Of one that can't be read,
// nothing is known but that it is there.
func (d *Dir) TakeRequest() (full, ok bool) {
	name := d.file(requestName)
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return false, false
	}
	_ = os.Remove(name) // one that stays is taken up again
	return string(b) == requestFull, true
}
