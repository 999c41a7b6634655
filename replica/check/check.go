package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tidemark/replica/source/netfs"
	"tidemark/storage"
)

// ErrNoDatabase says that there is no file at the path.
var ErrNoDatabase = errors.New("there is no such database")

// Options say what to look at.
type Options struct {
	// Path is the database file.
	Path string
	// Quick has SQLite run quick_check instead of integrity_check.
	Quick bool
	// AllowNetworkFS makes a network file system a warning.
	AllowNetworkFS bool
	// TempDir is where a database that is being written is copied to; "" is the
	// system's folder.
	TempDir string
	// Bucket is where the replica is; nil: it is not looked at. It can be a folder that
	// does not exist.
	Bucket storage.Bucket
	// BucketErr is why there is no bucket although there should be: it becomes an item.
	BucketErr error
	// StateDir is the replicator's local state for this replica, or "" for the one
	// beside the database.
	StateDir string
	// MayCreate says that a folder that does not exist will be made.
	MayCreate bool
	// Unfenced makes storage without conditional writes a warning.
	Unfenced bool
	// FileSystem finds the kind of network file system that a path lies on; nil is
	// [netfs.Of]. It is for tests.
	FileSystem func(path string) (netfs.Kind, error)
}

// checker is one run.
type checker struct {
	items

	opts  Options
	files *files
	head  fileHeader
	held  holding
	state known // of the state that was checked
}

// Run looks at everything and gives the items, in the order of their IDs. An error is
// what kept it from looking: [ErrNoDatabase], or one of reading. See the package
// comment for where it must not be called.
func Run(ctx context.Context, opts Options) (_ []Item, err error) {
	path, err := filepath.EvalSymlinks(opts.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoDatabase, opts.Path)
	}
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("find database: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("find database: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", opts.Path)
	}
	c := &checker{opts: opts, files: &files{path: path}}
	defer func() { err = errors.Join(err, c.files.close()) }()
	if err := c.database(ctx); err != nil {
		return nil, err
	}
	if opts.Bucket != nil || opts.BucketErr != nil {
		if err := c.storage(ctx); err != nil {
			return nil, err
		}
	}
	return c.items, nil
}

// database looks at the database and what is beside it.
func (c *checker) database(ctx context.Context) error {
	db, err := openShared(c.files.path)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open database: %w", err)
	}
	c.files.db = db
	readable, err := c.permissions()
	if err != nil {
		return err
	}
	if err := errors.Join(c.fileSystem(), c.diskSpace()); err != nil {
		return err
	}
	if !readable {
		return nil
	}
	c.openedBy()
	if ok, err := c.header(); !ok || err != nil {
		return err
	}
	c.journalMode()
	if err := errors.Join(c.journal(), c.wal(ctx), c.shm()); err != nil {
		return err
	}
	return c.content(ctx)
}

// writtenLately tells whether one of the database's files has changed just now.
func (c *checker) writtenLately() bool {
	for _, suffix := range append([]string{""}, sidecars()...) {
		if info, err := os.Stat(c.files.path + suffix); err == nil && time.Since(info.ModTime()) < lately {
			return true
		}
	}
	return false
}

// joined lists what was found, as far as a line holds it.
func joined(all []string) string {
	const most = 3
	if n := len(all) - most; n > 0 {
		return fmt.Sprintf("%s, and %d more", strings.Join(all[:most], "; "), n)
	}
	return strings.Join(all, "; ")
}
