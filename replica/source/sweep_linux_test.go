package source_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/source"
	"tidemark/wal"
)

// A sweep leaves in the system's cache what was there, drops what was not, and costs
// no lock.
func TestSweep(t *testing.T) {
	t.Parallel()
	for _, size := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprintf("page_size=%d", size), func(t *testing.T) { t.Parallel(); testSweep(t, size) })
	}
}

func testSweep(t *testing.T, size int) {
	t.Helper()
	path, app := database(t, fmt.Sprintf("PRAGMA page_size=%d", size))
	app.exec("CREATE TABLE wide(v)")
	for range 24 {
		app.exec("INSERT INTO wide VALUES(randomblob(1000000))")
	}
	app.checkpoint("TRUNCATE")
	d := open(t, path)
	att := attach(t, d)
	want := contents(t, att.Image)
	if err := d.Uncache(); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(cached(t, d), true) {
		t.Skip("the file system has no cache that can be emptied")
	}
	// What the application has read: pieces of many lengths.
	for off, n := 0, 1; off+n < len(want); off, n = off+3*n+50_000, n*2%900_001 {
		if _, err := d.FileAt().ReadAt(make([]byte, n), int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	before, locks := cached(t, d), locksOf(t, path)
	if len(locks) == 0 {
		t.Error("there is no lock to lose")
	}

	d.ReadAhead()
	sweep, rest := d.Sweep(), want
	through, size := att.Image.Through(sweep), int(att.Image.PageSize())
	for got := range slices.Chunk(make([]byte, len(want)), 25*size) { // not of whole memory pages, if SQLite's are smaller
		first := wal.PageNo((len(want)-len(rest))/size + 1)
		if err := through.ReadPages(first, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, rest[:len(got)]) {
			t.Fatalf("it reads something else from page %v on", first)
		}
		rest = rest[len(got):]
	}
	sweep.End()
	after := cached(t, d)
	dropped, left, stayed := 0, 0, 0
	for i := range before {
		switch {
		case before[i] && !after[i]:
			dropped++
		case !before[i] && after[i]:
			left++
		case before[i]:
			stayed++
		}
	}
	// The system may drop some by itself, which were not used for a while.
	if dropped > stayed/10 || left > 0 || stayed == 0 || stayed == len(before) {
		t.Errorf("of %d pages, %d were cached and are; %d that were are not, %d that were not are", len(before), stayed, dropped, left)
	}
	if diff := cmp.Diff(locks, locksOf(t, path)); diff != "" {
		t.Errorf("locks (-before +after):\n%s", diff)
	}
	// Without a sweep all of it stays, so that there was something to see.
	contents(t, att.Image)
	if now := cached(t, d); slices.Contains(now, false) {
		t.Error("what was read by itself is not all in the cache")
	}
}

func cached(t *testing.T, d *source.DB) []bool {
	t.Helper()
	in, err := d.Cached()
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// locksOf lists the locks on a database's files, without the numbers of their lines.
func locksOf(t *testing.T, path string) []string {
	t.Helper()
	all, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range []string{path, path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
		for lines := bufio.NewScanner(bytes.NewReader(all)); lines.Scan(); {
			if _, lock, _ := strings.Cut(lines.Text(), ": "); strings.Contains(lock, inode) {
				found = append(found, lock)
			}
		}
	}
	slices.Sort(found)
	// The system lists one twice if others come and go while it is read.
	return slices.Compact(found)
}
