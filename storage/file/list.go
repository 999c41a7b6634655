package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tidemark/storage"
)

// List implements [storage.Bucket]. It holds the names of one folder, and of
// its parents, in memory. An object that is put or deleted during the call may
// or may not be shown.
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if err := b.checkRoot(); err != nil {
		return fmt.Errorf("list %s: %w", b.path(prefix), err)
	}
	w := walk{root: b.root, prefix: prefix, after: after, fn: fn, alive: ctx.Err}
	if err := w.dir(""); err != nil {
		return err
	}
	return w.check()
}

// walk lists a tree of folders in the order of keys.
//
// A walk that takes the names of each folder in turn does not give that order:
// "a-b" < "a/b" because '-' < '/', although the folder a comes before the file
// a-b. It does so if folders are sorted with the slash at their end, for then
// the names of no two siblings are a prefix of each other in a way that what
// follows could reverse.
type walk struct {
	root, prefix, after string
	fn                  func(storage.Info) error
	alive               func() error
}

// path is where a name lies.
func (w *walk) path(name string) string {
	return filepath.Join(w.root, filepath.FromSlash(name))
}

func (w *walk) check() error {
	if err := w.alive(); err != nil {
		return fmt.Errorf("list %s: %w", w.path(w.prefix), err)
	}
	return nil
}

// dir lists the folder dir, which is "" or ends with a slash.
func (w *walk) dir(dir string) error {
	if err := w.check(); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.path(dir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Somebody removed the folder just now.
		}
		return fmt.Errorf("list %s: %w", w.path(w.prefix), classify(err))
	}
	names := make(map[string]fs.DirEntry, len(entries))
	order := make([]string, 0, len(entries))
	for _, entry := range entries {
		name := dir + entry.Name()
		if entry.IsDir() {
			name += "/"
		}
		if w.wanted(name) {
			names[name] = entry
			order = append(order, name)
		}
	}
	slices.Sort(order)
	for _, name := range order {
		if err := w.entry(name, names[name]); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether name is, or if it ends with a slash may hold, an
// object to list.
func (w *walk) wanted(name string) bool {
	key, isDir := strings.CutSuffix(name, "/")
	if !storage.ValidKey(key) {
		return false
	}
	if !isDir {
		return strings.HasPrefix(name, w.prefix) && name > w.after
	}
	below := strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)
	return below && (name > w.after || strings.HasPrefix(w.after, name))
}

// entry lists one file, or the folder name.
func (w *walk) entry(name string, entry fs.DirEntry) error {
	if entry.IsDir() {
		return w.dir(name)
	}
	if !entry.Type().IsRegular() {
		return nil
	}
	if err := w.check(); err != nil {
		return err
	}
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Deleted just now.
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", w.path(name), classify(err))
	}
	return w.fn(storage.Info{Key: name, Size: info.Size(), Modified: info.ModTime()})
}
