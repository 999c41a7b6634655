package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tidemark/replica/fleet"
	"tidemark/replica/source"
)

// locking is a replication that holds a lock on its file, as SQLite does.
func (w *world) locking(path string) fleet.Replication {
	plain := w.replication(path, "")
	return fleet.Replication{Run: func(ctx context.Context) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: 1 << 30, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
			w.t.Error(err)
		}
		return errors.Join(plain.Run(ctx), f.Close())
	}}
}

// locked checks, by what the system tells, that this process has the lock of a file.
func (w *world) locked(rel string) {
	w.t.Helper()
	info, err := os.Stat(w.path(rel))
	if err != nil {
		w.t.Fatal(err)
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range bytes.Lines(locks) {
		f := bytes.Fields(line)
		if len(f) > 5 && string(f[1]) == "POSIX" && string(f[4]) == strconv.Itoa(os.Getpid()) && bytes.HasSuffix(f[5], fmt.Appendf(nil, ":%d", st.Ino)) {
			return
		}
	}
	w.t.Errorf("the lock on %s is lost", rel)
}

// A file that is followed is never opened, whatever happens to its name: to close it
// would end the locks.
func TestLocksSurvive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("in/a.db", "listed.db")
		folder := w.folder("in")
		folder.Replications = func(path, _ string) ([]fleet.Replication, error) {
			return []fleet.Replication{w.locking(path)}, nil
		}
		w.opts.Folders = []fleet.Folder{folder}
		w.opts.Databases = []fleet.Database{{Path: w.path("listed.db"), Replications: []fleet.Replication{w.locking(w.path("listed.db"))}}}
		w.start()
		w.runs("in/a.db", "listed.db")
		look := func(rels ...string) {
			t.Helper()
			w.tell(append(rels, "in/a.db", "in")...)
			w.tell()
			pass(fleet.DefaultRescan + time.Second)
		}
		look()
		w.locked("in/a.db")

		// It changes.
		if err := os.Truncate(w.path("in/a.db"), 1000); err != nil {
			t.Fatal(err)
		}
		w.locked("in/a.db")
		look()
		w.locked("in/a.db")

		// It gets a second name, as does one that is listed.
		err := errors.Join(os.Link(w.path("in/a.db"), w.path("in/hard.db")), os.Symlink("a.db", w.path("in/soft.db")),
			os.Link(w.path("listed.db"), w.path("in/listed.db")))
		if err != nil {
			t.Fatal(err)
		}
		look("in/hard.db", "in/soft.db", "in/listed.db")
		w.locked("in/hard.db")
		w.locked("listed.db")
		w.runs("in/a.db", "listed.db")

		// It is renamed, and another file takes its name.
		w.remove("in/hard.db")
		w.rename("in/a.db", "in/b.db")
		look("in/b.db")
		w.locked("in/b.db")
		w.database("in/a.db")
		look("in/b.db")
		w.locked("in/b.db")
		w.rename("listed.db", "in/c.db")
		look("in/c.db")
		w.locked("in/c.db")
		w.runs("in/a.db", "listed.db")

		// When that was noticed, each has its own.
		w.fail("in/a.db", source.ErrReplaced)
		pass(1100 * time.Millisecond) // it has changed just now
		w.runs("in/a.db", "in/b.db", "listed.db")
		w.locked("in/b.db")
		w.remove("in/listed.db")
		w.fail("listed.db", source.ErrReplaced)
		w.runs("in/a.db", "in/b.db", "in/c.db")
		look("in/a.db", "in/b.db", "in/c.db")
		for _, rel := range []string{"in/a.db", "in/b.db", "in/c.db"} {
			w.locked(rel)
		}
		w.end()
	})
}
