// Package file keeps objects as files below a folder: a [storage.Bucket] on a
// local disk or a mounted share. The object "log/1.seg" is the file log/1.seg,
// so a replica can be copied with any tool.
//
// A Put writes a file of its own in the folder "~tmp" of the root, syncs it,
// and only then gives it its name: by link(2), which never replaces, or by a
// rename. Then it syncs the folder, and the parents of folders that it made.
// A reader therefore sees whole objects only, and an object whose Put returned
// survives a power cut. A process that dies during a Put leaves a file in
// "~tmp"; [Open] removes those that nobody has written to for a day.
//
// List passes over everything that is not a regular file with a valid key as
// its name; that includes "~tmp", symbolic links, and files of other programs
// with a blank in their names. On a file system that does not tell upper case
// from lower case, keys must not differ in case alone.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"tidemark/storage"
)

const (
	// tempDir holds the files that are being written. No valid key has a '~'.
	tempDir = "~tmp"
	// tempAge is for how long a temporary file may stay untouched before it
	// counts as left over.
	tempAge = 24 * time.Hour

	// Objects hold whole databases, so only their owner reads them; os.CreateTemp
	// makes files of mode 0600 for the same reason.
	dirMode = 0o700
)

// Options are the choices of [Open].
type Options struct {
	// Create makes the root folder, with its parents, if there is none.
	Create bool
}

// Bucket is a [storage.Bucket] in a folder. Create one with [Open]. Any number
// of processes may use one folder at a time.
type Bucket struct {
	root string

	mu sync.Mutex
	// durable holds the folders, relative to root, of which this process
	// knows that their names were synced. Guarded by mu.
	durable map[string]bool
}

var _ storage.Bucket = (*Bucket)(nil)

// Open returns the bucket in the folder root. It fails with
// [storage.ErrNoBucket] if there is no such folder and opts.Create is not set.
func Open(root string, opts Options) (*Bucket, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", root, err)
	}
	b := &Bucket{root: abs, durable: make(map[string]bool)}
	if opts.Create {
		if err := makeRoot(abs); err != nil {
			return nil, fmt.Errorf("create folder %s: %w", root, classify(err))
		}
	}
	if err := b.checkRoot(); err != nil {
		return nil, err
	}
	b.removeLeftovers(time.Now().Add(-tempAge))
	return b, nil
}

// makeRoot makes a folder with its parents and makes them durable.
func makeRoot(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeRoot(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// checkRoot tells a missing root apart from a missing object.
func (b *Bucket) checkRoot() error {
	info, err := os.Stat(b.root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &rootError{"the folder " + b.root + " does not exist"}
	case err != nil:
		return fmt.Errorf("folder %s: %w", b.root, classify(err))
	case !info.IsDir():
		return &rootError{b.root + " is not a folder"}
	default:
		return nil
	}
}

// rootError is a [storage.ErrNoBucket] that says what a person sees: no bucket,
// but a folder.
type rootError struct{ text string }

// Error implements error.
func (e *rootError) Error() string { return e.text }

// Unwrap returns what callers branch on.
func (*rootError) Unwrap() error { return storage.ErrNoBucket }

// removeLeftovers removes temporary files last written to before limit. It is
// a courtesy: what it cannot remove stays for the next Open.
func (b *Bucket) removeLeftovers(limit time.Time) {
	dir := filepath.Join(b.root, tempDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() && info.ModTime().Before(limit) {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// path is where the object with the valid key lives.
func (b *Bucket) path(key string) string {
	return filepath.Join(b.root, filepath.FromSlash(key))
}

// Get implements [storage.Bucket].
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := b.get(ctx, key, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return r, nil
}

func (b *Bucket) get(ctx context.Context, key string, off, n int64) (*reader, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	f, err := os.Open(b.path(key))
	if err != nil {
		return nil, b.missing(err)
	}
	r, err := newReader(f, key, off, n)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	r.alive = ctx.Err
	return r, nil
}

// missing names what an object's path failed for: a missing root, a missing
// object, or something else.
func (b *Bucket) missing(err error) error {
	if !absent(err) {
		return classify(err)
	}
	if rerr := b.checkRoot(); rerr != nil {
		return rerr
	}
	return storage.ErrNotExist
}

// Delete implements [storage.Bucket]. Folders stay when they become empty.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.remove(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (b *Bucket) remove(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	path := b.path(key)
	info, err := os.Lstat(path)
	switch {
	case err != nil && absent(err):
		return b.checkRoot()
	case err != nil:
		return classify(err)
	case info.IsDir():
		return nil // A folder is no object.
	}
	if err := os.Remove(path); err != nil && !absent(err) {
		return classify(err)
	}
	return syncDir(filepath.Dir(path))
}

func check(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	return ctx.Err()
}

// absent reports whether err says that a path leads nowhere; "a/b" does not
// exist either where "a" is a file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// classify adds the sentinel that callers branch on, if there is one.
func classify(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: %w", storage.ErrDenied, err)
	}
	return err
}
