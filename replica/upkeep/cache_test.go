package upkeep_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/disk/disktest"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
)

// spooled makes a file of some bytes and the segment that it is.
func spooled(t *testing.T, first, size int) (archive.Segment, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spooled")
	if err := os.WriteFile(path, bytes.Repeat([]byte{byte(first)}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return archive.Segment{First: state.TXID(first), Size: int64(size)}, path
}

// take puts a segment into a cache.
func take(t *testing.T, c *upkeep.Cache, first, size int) archive.Segment {
	t.Helper()
	s, path := spooled(t, first, size)
	if err := c.Take(s, path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the spooled file is still there: %v", err)
	}
	return s
}

// holds lists which objects a cache has whole copies of.
func holds(t *testing.T, c *upkeep.Cache, log ...archive.Segment) (firsts []int) {
	t.Helper()
	var total int64
	for _, s := range log {
		r := c.Open(s)
		if r == nil {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil || r.Close() != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(s.First)}, int(s.Size))) {
			t.Errorf("the copy of %s has %d bytes, error %v", s.Key(), len(b), err)
		}
		firsts = append(firsts, int(s.First))
		total += s.Size
	}
	if total != c.Size() {
		t.Errorf("a cache of %d bytes says that it has %d", total, c.Size())
	}
	return firsts
}

func want(t *testing.T, got []int, want ...int) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

// files are those in a folder.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestCacheBound fills a cache: the largest go.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	c := upkeep.NewCache(disk.OS{}, dir, 100)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a cache without copies has a folder: %v", err)
	}
	a, b, d := take(t, c, 1, 30), take(t, c, 2, 50), take(t, c, 3, 20)
	want(t, holds(t, c, a, b, d), 1, 2, 3)
	e := take(t, c, 4, 1)
	want(t, holds(t, c, a, b, d, e), 1, 3, 4)
	f := take(t, c, 5, 101)
	want(t, holds(t, c, a, b, d, e, f), 1, 3, 4)
	c.Drop(a, b)
	want(t, holds(t, c, a, b, d, e), 3, 4)
	c.Clear()
	want(t, holds(t, c, a, b, d, e))
	if names := files(t, dir); len(names) > 0 {
		t.Errorf("files in an empty cache: %q", names)
	}
}

// TestCacheAdopt opens what another process has left.
func TestCacheAdopt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	c := upkeep.NewCache(disk.OS{}, dir, 100)
	a, b, d := take(t, c, 1, 30), take(t, c, 2, 10), take(t, c, 3, 20)
	_, _ = c.Writer().Write([]byte("cut off"))
	e := d
	e.Size++ // it is something else now

	c = upkeep.NewCache(disk.OS{}, dir, 100)
	c.Adopt([]archive.Segment{a, e})
	want(t, holds(t, c, a, b, e), 1)
	if diff := cmp.Diff([]string{"log-0000000000000001.seg"}, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	c = upkeep.NewCache(disk.OS{}, dir, 0)
	c.Adopt([]archive.Segment{a})
	want(t, holds(t, c, a))
	take(t, c, 5, 1)
	if names := files(t, dir); len(names) > 0 {
		t.Errorf("files where there is no cache: %q", names)
	}
}

// TestCacheWriter makes copies while an object is written.
func TestCacheWriter(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	c := upkeep.NewCache(disk.OS{}, dir, 100)
	write := func(first, n, size int) archive.Segment {
		w := c.Writer()
		for range n {
			if n, err := w.Write([]byte{byte(first)}); n != 1 || err != nil {
				t.Errorf("wrote %d, error %v", n, err)
			}
		}
		s := archive.Segment{First: state.TXID(first), Last: 9, Size: int64(size)}
		w.Keep(s)
		return s
	}
	a, b, d := write(1, 60, 60), write(2, 10, 11), write(3, 101, 101)
	want(t, holds(t, c, a, b, d), 1)
	w := c.Writer()
	_, _ = w.Write([]byte("given up"))
	w.Abort()
	e := write(4, 41, 41)
	want(t, holds(t, c, a, e), 4)
	if diff := cmp.Diff([]string{"pack-0000000000000004-0000000000000009.seg"}, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestCacheOnFullDisk lets each single operation fail, and all from one on: what it
// has is whole, and nothing stops.
func TestCacheOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, forever := range []bool{false, true} {
		for k, ran := 1, true; ran; k++ {
			ran = false
			d := disktest.New(func(n int, _ string) disktest.Verdict {
				if n == k || forever && n > k {
					ran = true
					return disktest.Verdict{Err: syscall.ENOSPC}
				}
				return disktest.Verdict{}
			})
			dir := filepath.Join(t.TempDir(), "cache")
			c := upkeep.NewCache(d, dir, 100)
			var log []archive.Segment
			for first := 1; first <= 4; first++ {
				s, path := spooled(t, first, 30)
				if err := c.Take(s, path); err != nil {
					if _, err := os.Stat(path); err != nil {
						t.Fatal("Take fails, but the file is gone: ", err)
					}
				}
				log = append(log, s)
			}
			w := c.Writer()
			for range 2 {
				if n, err := w.Write(bytes.Repeat([]byte{5}, 10)); n != 10 || err != nil {
					t.Fatalf("wrote %d, error %v", n, err)
				}
			}
			log = append(log, archive.Segment{First: 5, Last: 9, Size: 20})
			w.Keep(log[4])
			c.Drop(log[0])
			c = upkeep.NewCache(disk.OS{}, dir, 100)
			c.Adopt(log)
			holds(t, c, log...)
			if n := len(files(t, filepath.Dir(dir))); n == 1 {
				if files, size := files(t, dir), c.Size(); len(files) == 0 != (size == 0) {
					t.Errorf("operation %d: %q for %d bytes", k, files, size)
				}
			}
		}
	}
}
