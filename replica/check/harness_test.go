package check_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/check"
)

// checked runs a check.
func checked(t *testing.T, opts check.Options) []check.Item {
	t.Helper()
	items, err := check.Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// bad gives the items that are not ok, as "fail wal".
func bad(items []check.Item) (out []string) {
	for _, i := range items {
		if i.Level != check.OK {
			out = append(out, fmt.Sprintf("%s %s", i.Level, i.ID))
		}
		if (i.Advice == "") != (i.Level == check.OK) || i.Finding == "" {
			out = append(out, fmt.Sprintf("%+v", i))
		}
	}
	return out
}

// item gives the item with an ID.
func item(t *testing.T, items []check.Item, id check.ID) check.Item {
	t.Helper()
	for _, i := range items {
		if i.ID == id {
			return i
		}
	}
	t.Fatalf("no item %s in %+v", id, items)
	return check.Item{}
}

// wantBad compares those that are not ok, and shows all if they are others.
func wantBad(t *testing.T, items []check.Item, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, bad(items)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
		for _, i := range items {
			t.Logf("%-4s %s: %s", i.Level, i.ID, i.Finding)
		}
	}
}

// sight is all that there is to see of a folder: names, times, modes and, unless it is
// being written, contents.
func sight(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v %v %d", info.Mode(), info.ModTime(), info.Size())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(b)
		}
		out[path] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantUntouched compares two sights.
func wantUntouched(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s has changed", path)
		}
		delete(after, path)
	}
	for path := range after {
		t.Errorf("%s has come", path)
	}
}

// names lists a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// patch changes bytes of a file.
func patch(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyTo copies a file.
func copyTo(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
