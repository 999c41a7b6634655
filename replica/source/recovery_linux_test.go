package source_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/replica/source"
)

// Opening waits for another process that recovers the WAL after a crash, from the
// first statement of the first connection on.
func TestOpenWhileRecovered(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(3)
	crashed := filepath.Join(t.TempDir(), "app.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(crashed+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recovered := recovering(t, crashed)
	time.AfterFunc(100*time.Millisecond, recovered)
	d, err := source.Open(t.Context(), crashed, options())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// recovering holds the locks of a process that recovers a database's WAL
// (walformat, section 2.3.1: WAL_WRITE_LOCK to WAL_RECOVER_LOCK), and SQLite's
// sign that someone has the -shm file open, until the function it gives is called.
// Locks of a descriptor hold within one process, too.
func recovering(t *testing.T, path string) func() {
	t.Helper()
	f, err := os.OpenFile(path+"-shm", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(32 << 10); err != nil {
		t.Fatal(err)
	}
	for _, l := range []unix.Flock_t{
		{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: 128, Len: 1},
		{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 120, Len: 3},
	} {
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
