package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"tidemark/storage/file"
)

// TestRenameNew holds the fallback for file systems without hard links to the
// same rule as link(2): it never replaces.
func TestRenameNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, target := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "target")
	for _, path := range []string{one, two} {
		if err := os.WriteFile(path, []byte(filepath.Base(path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.RenameNew(one, target); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this system has no rename that does not replace")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := file.RenameNew(two, target); !errors.Is(err, fs.ErrExist) {
		t.Errorf("RenameNew over a file = %v, want ErrExist", err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "one" {
		t.Errorf("target holds %q, %v", got, err)
	}
	if _, err := os.Stat(two); err != nil {
		t.Errorf("the loser is gone: %v", err)
	}
}
