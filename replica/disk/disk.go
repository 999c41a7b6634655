// Package disk is the local file system as tidemark uses it for what it must not
// lose: its state, its spool, and the database's WAL. It is an interface so that
// tests can let every single operation fail or be the last one.
//
// What callers may rely on, and tests simulate the loss of: what was written
// survives the process; what was synced survives a power cut; a rename is atomic,
// and survives a power cut once its folder was synced.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// FS is a file system. Paths are as in package os, and so are errors. It is safe
// for concurrent use.
type FS interface {
	// MkdirAll makes a folder and those above it.
	MkdirAll(path string, perm fs.FileMode) error
	// OpenFile opens a file, with the flags of package os.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename moves a file to another name in one step.
	Rename(from, to string) error
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// ReadDir lists a folder, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
}

// File is an open file. It is as safe for concurrent use as an [os.File].
type File interface {
	fs.File
	io.Writer
	readWriterAt
	// Name is the name that the file was opened by.
	Name() string
	// Sync makes what was written survive a power cut; of a folder, the names
	// in it.
	Sync() error
}

type readWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// OS is the operating system's file system.
type OS struct{}

// MkdirAll implements [FS].
func (OS) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

// OpenFile implements [FS].
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename implements [FS].
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// ReadDir implements [FS].
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Open opens a file for reading.
func Open(d FS, name string) (File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

// Create makes a file, empty if it was there, for reading and writing by its
// owner only.
func Create(d FS, name string) (File, error) {
	return d.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
}

// SyncDir makes the names in a folder survive a power cut. Windows has no such
// call and needs none.
func SyncDir(d FS, name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := Open(d, name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ReadFile reads a whole file.
func ReadFile(d FS, name string) ([]byte, error) {
	f, err := Open(d, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
