package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// replicasName is the folder in a database's state directory that has those of its
// named replicas.
const replicasName = "replicas"

// ReplicaPath is the state directory of one of several replicas of a database whose
// own is dir. The one without a name has that.
func ReplicaPath(dir, name string) string {
	if name == "" {
		return dir
	}
	return filepath.Join(dir, replicasName, name)
}

// Replicas lists the replicas of a database that have left something in its state
// directory dir, by their names in ascending order: "" is the one without a name. It
// needs the right to read the directory; without a directory there are none.
func Replicas(dir string) ([]string, error) {
	var names []string
	for _, name := range []string{"state.json", "shipped.json", "status.json"} {
		_, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			names = append(names, "")
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list replicas: %w", err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, replicasName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	for _, e := range entries { // sorted by name
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
