package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"tidemark/replica/source/netfs"
)

// sidecars are the names of SQLite's files beside a database.
func sidecars() []string { return []string{"-wal", "-shm", "-journal"} }

func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// permissions looks whether the database, its folder and its other files can be used
// by this user, and belong to one owner. It opens for writing, and writes nothing.
func (c *checker) permissions() (readable bool, err error) {
	const advice = "run tidemark and the application as the user that owns them, or give it the right"
	path := c.files.path
	for _, suffix := range append([]string{""}, sidecars()...) {
		err := usable(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.fail(Permissions, advice, "%s%s can't be read and written: %v", path, suffix, cause(err))
			return c.files.db != nil && sidecarsReadable(path), nil
		}
	}
	folder := filepath.Dir(path)
	if err := mayWriteIn(folder); err != nil {
		c.fail(Permissions, advice, "SQLite can't make its -wal and -shm files in %s: %v", folder, cause(err))
		return true, nil
	}
	stranger, err := c.stranger()
	if err != nil {
		return true, err
	}
	if stranger != "" {
		c.warn(Permissions, "give it the database's owner and group: others may not be able to open the database", "%s belongs to another user or group than the database", stranger)
		return true, nil
	}
	c.ok(Permissions, "the database and its folder can be read and written")
	return true, nil
}

// sidecarsReadable tells whether what lies beside the database can be read.
func sidecarsReadable(path string) bool {
	for _, suffix := range sidecars() {
		f, err := openShared(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false
		}
		_ = f.Close() // only opened
	}
	return true
}

// usable opens a file as SQLite does, and closes it.
func usable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// cause is an error without the path, which stands before it.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// stranger is a file beside the database with another owner, or "".
func (c *checker) stranger() (string, error) {
	db, err := os.Stat(c.files.path)
	if err != nil {
		return "", fmt.Errorf("look at the database: %w", err)
	}
	for _, suffix := range sidecars() {
		info, err := os.Stat(c.files.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look beside the database: %w", err)
		}
		if !sameOwner(db, info) {
			return c.files.path + suffix, nil
		}
	}
	return "", nil
}

// fileSystem looks whether other machines may have the files open.
func (c *checker) fileSystem() error {
	find := c.opts.FileSystem
	if find == nil {
		find = netfs.Of
	}
	for _, p := range []string{c.files.path, filepath.Dir(c.files.path)} {
		kind, err := find(p)
		if err != nil {
			return fmt.Errorf("find the file system of %s: %w", p, err)
		}
		if kind == netfs.Local {
			continue
		}
		say := c.fail
		if c.opts.AllowNetworkFS {
			say = c.warn
		}
		say(FileSystem, "move it to a local disk; the replica may stay on the share", "%s is on a network file system (%s), where SQLite's locks don't reach other machines", p, kind)
		return nil
	}
	c.ok(FileSystem, "a local disk")
	return nil
}

// leastFree is what must be free beside what the WAL may need.
const leastFree = 64 << 20

// diskSpace looks whether the disk has room. A checkpoint can make the database grow by
// what is in the WAL, and the WAL itself goes on growing: without room for that the
// application's next commits fail. A VACUUM, or a restore beside the database, takes as
// much again as it has.
func (c *checker) diskSpace() error {
	free, err := freeSpace(filepath.Dir(c.files.path))
	if errors.Is(err, errors.ErrUnsupported) {
		c.ok(DiskSpace, "this system does not tell how much is free")
		return nil
	}
	if err != nil {
		return fmt.Errorf("look how much is free on the disk: %w", err)
	}
	var size, walSize int64
	if info, err := os.Stat(c.files.path); err == nil {
		size = info.Size()
	}
	if info, err := os.Stat(c.files.path + "-wal"); err == nil {
		walSize = info.Size()
	}
	switch {
	case free < walSize+leastFree:
		c.fail(DiskSpace, "make room: the next commits may fail", "%s are free, for a WAL of %s", bytesOf(free), bytesOf(walSize))
	case free < walSize+size:
		c.warn(DiskSpace, "make room, for a VACUUM, or a restore beside the database, takes as much again", "%s are free, and the database and its WAL have %s", bytesOf(free), bytesOf(size+walSize))
	default:
		c.ok(DiskSpace, "%s are free", bytesOf(free))
	}
	return nil
}
