package upkeep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
)

// DefaultCacheSize is how many bytes a Cache keeps where nothing else is set.
const DefaultCacheSize = 64 << 20

// Cache keeps local copies of objects of the log, so that joining them needs no
// download. It is only ever a convenience: what it lost is read from the archive,
// what is damaged in it shows by its checksums, and no error of the disk is more
// than a copy that is not there. So nothing in it is synced.
//
// It is safe for concurrent use.
type Cache struct {
	fs    disk.FS
	dir   string
	limit int64

	mu sync.Mutex // guards what follows
	// held are the copies that are there, total their bytes.
	held  map[archive.Segment]struct{}
	total int64
	made  bool // the folder
}

// NewCache gives a cache of at most limit bytes in a folder, which it makes when it
// is needed. Less than one byte is none: then the folder is cleared.
func NewCache(fs disk.FS, dir string, limit int64) *Cache {
	return &Cache{fs: fs, dir: dir, limit: limit, held: map[archive.Segment]struct{}{}}
}

const tmpSuffix = ".tmp"

// name is the file of an object's copy.
func (c *Cache) name(s archive.Segment) string {
	return filepath.Join(c.dir, strings.ReplaceAll(s.Key(), "/", "-"))
}

// Adopt takes over what an earlier process left of the objects given, and removes
// all else from the folder.
func (c *Cache) Adopt(log []archive.Segment) {
	entries, err := c.fs.ReadDir(c.dir)
	if err != nil {
		return // most likely there is none
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = true
	files := map[string]int64{}
	for _, e := range entries {
		size := int64(-1)
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		files[filepath.Join(c.dir, e.Name())] = size
	}
	for _, s := range log {
		if size, ok := files[c.name(s)]; ok && size == s.Size {
			delete(files, c.name(s))
			c.hold(s)
		}
	}
	for name := range files {
		_ = c.fs.Remove(name) // or at the next start
	}
	c.shrink(c.limit)
}

// Take moves a file, of the object's bytes, into the cache, or removes it if it
// can't or need not be kept. An error says that the file is still where it was.
func (c *Cache) Take(s archive.Segment, path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Size <= c.limit && c.make() == nil && c.fs.Rename(path, c.name(s)) == nil {
		c.hold(s)
		c.shrink(c.limit)
		return nil
	}
	if err := c.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an uploaded segment: %w", err)
	}
	return nil
}

// Open opens the copy of an object. It gives nil if there is none.
func (c *Cache) Open(s archive.Segment) io.ReadCloser {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.held[s]; !ok {
		return nil
	}
	f, err := disk.Open(c.fs, c.name(s))
	if err != nil {
		c.drop(s)
		return nil
	}
	return f
}

// Drop removes the copies of objects, and tells how many there were.
func (c *Cache) Drop(log ...archive.Segment) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := len(c.held)
	for _, s := range log {
		c.drop(s)
	}
	return was - len(c.held)
}

// Clear removes all copies, as when the disk is full.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink(0)
}

// Size is how many bytes it holds.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// make makes the folder. The caller holds mu, as for all that follow.
func (c *Cache) make() error {
	if c.made {
		return nil
	}
	err := c.fs.MkdirAll(c.dir, 0o700)
	c.made = err == nil
	return err
}

func (c *Cache) hold(s archive.Segment) {
	if _, ok := c.held[s]; !ok {
		c.held[s] = struct{}{}
		c.total += s.Size
	}
}

func (c *Cache) drop(s archive.Segment) {
	if _, ok := c.held[s]; !ok {
		return
	}
	delete(c.held, s)
	c.total -= s.Size
	_ = c.fs.Remove(c.name(s)) // or at the next start
}

// shrink makes it hold no more than so many bytes. The largest copies go first:
// without a copy it takes one request to read an object, whatever its size.
func (c *Cache) shrink(limit int64) {
	for c.total > limit && len(c.held) > 0 {
		var largest archive.Segment
		for s := range c.held {
			if s.Size > largest.Size || s.Size == largest.Size && s.First < largest.First || largest.First == 0 {
				largest = s
			}
		}
		c.drop(largest)
	}
}

// Writer makes a copy of an object whose key and size are known only when it is
// written. Its Write never fails.
func (c *Cache) Writer() *CacheWriter { return &CacheWriter{cache: c} }

// CacheWriter is a copy being made. Exactly one of Keep and Abort ends it. It is
// not safe for concurrent use.
type CacheWriter struct {
	cache *Cache
	file  disk.File
	size  int64
	// failed tells that there will be no copy.
	failed bool
}

// Write implements [io.Writer]. What it can't write it forgets about.
func (w *CacheWriter) Write(p []byte) (int, error) {
	if w.file == nil && !w.failed {
		w.open()
	}
	w.size += int64(len(p))
	if w.failed || w.size > w.cache.limit {
		w.Abort()
		return len(p), nil
	}
	if _, err := w.file.Write(p); err != nil {
		w.Abort()
	}
	return len(p), nil
}

func (w *CacheWriter) open() {
	c := w.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.failed = c.limit < 1; w.failed {
		return
	}
	err := c.make()
	if err == nil {
		w.file, err = disk.Create(c.fs, filepath.Join(c.dir, "pack"+tmpSuffix))
	}
	w.failed = err != nil
}

// Abort forgets what was written.
func (w *CacheWriter) Abort() {
	w.failed = true
	if w.file != nil {
		_ = w.file.Close()
		_ = w.cache.fs.Remove(w.file.Name()) // or at the next start
		w.file = nil
	}
}

// Keep makes what was written the copy of an object, if it is all there.
func (w *CacheWriter) Keep(s archive.Segment) {
	if w.file == nil || w.size != s.Size {
		w.Abort()
		return
	}
	err := w.file.Close()
	from := w.file.Name()
	w.file = nil
	c := w.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.fs.Rename(from, c.name(s))
	}
	if err != nil {
		_ = c.fs.Remove(from) // or at the next start
		return
	}
	c.hold(s)
	c.shrink(c.limit)
}
