//go:build linux

package source

import (
	"os"

	"golang.org/x/sys/unix"
)

// Cached tells of each memory page of the database file whether the system's cache
// has it.
func (d *DB) Cached() ([]bool, error) {
	info, err := d.file.Stat()
	if err != nil {
		return nil, err
	}
	page := int64(os.Getpagesize())
	cached := make([]bool, (info.Size()+page-1)/page)
	for i := range cached {
		cached[i] = true
	}
	for _, x := range uncached(d.file, extent{0, info.Size()}) {
		for i := x.off / page; i < (x.off+x.n)/page; i++ {
			cached[i] = false
		}
	}
	return cached, nil
}

// ReadAhead lets the system read ahead again, as it does by itself.
func (d *DB) ReadAhead() {
	control(d.file, func(fd int) { _ = unix.Fadvise(fd, 0, 0, unix.FADV_NORMAL) })
}

// Uncache writes the database file to its disk, and empties the cache of it. Nothing is
// read ahead from then on: it could come late.
func (d *DB) Uncache() error {
	readNothingAhead(d.file)
	err := d.file.Sync()
	uncache(d.file, []extent{{0, 0}})
	return err
}
