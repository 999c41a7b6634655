package fleet_test

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/replica/fleet"
	"tidemark/replica/source"
)

// A file that was no database is not opened again before its facts change.
func TestOpensOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.file("a.db", "no database, of 32 bytes at all.")
		info, err := os.Stat(w.path("a.db"))
		if err != nil {
			t.Fatal(err)
		}
		w.opts.Folders = []fleet.Folder{w.folder(".")}
		w.start()
		text := []byte(header + "and 16 bytes ...")
		if err := errors.Join(os.WriteFile(w.path("a.db"), text, 0o600), os.Chtimes(w.path("a.db"), info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
		w.tell("a.db")
		w.tell()
		w.runs() // nothing shows that it has changed, so it was not opened
		w.database("a.db")
		w.tell("a.db")
		w.runs("a.db")
		w.end()
	})
}

// A file that was at the path of one that runs counts as its own, wherever it goes:
// it may have been opened there.
func TestPassesThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("in/a.db", "new.db")
		w.opts.Folders = []fleet.Folder{w.folder("in")}
		w.start()
		w.rename("new.db", "in/a.db")
		w.tell("in/a.db")
		w.rename("in/a.db", "in/b.db")
		w.tell("in/a.db", "in/b.db")
		w.runs("in/a.db")
		w.fail("in/a.db", source.ErrReplaced)
		w.runs("in/b.db")
		w.end()
	})
}

// A database that is being copied is begun when it is whole, or nobody goes on.
func TestCopied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		whole := make([]byte, 3*512)
		copy(whole, header)
		binary.BigEndian.PutUint16(whole[16:], 512)
		binary.BigEndian.PutUint32(whole[28:], 3)
		write := func(rel string, n int) {
			w.file(rel, string(whole[:n]))
			if err := os.Chtimes(w.path(rel), time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		w.opts.Folders = []fleet.Folder{w.folder(".")}
		w.start()
		for n := 512; n < len(whole); n += 512 {
			write("copied.db", n)
			write("cut.db", n)
			w.tell("copied.db", "cut.db")
			w.runs()
			pass(2 * time.Second)
			w.runs()
		}
		write("copied.db", len(whole))
		w.tell("copied.db")
		w.runs()
		pass(1100 * time.Millisecond)
		w.runs("copied.db", "cut.db")
		w.end()
	})
}

// A new database is begun when nobody writes to it for a moment, or after some time;
// what is there at the start is begun at once.
func TestFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		touch := func(rel string) {
			if err := os.Chtimes(w.path(rel), time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		w.database("old.db")
		touch("old.db")
		w.opts.Folders = []fleet.Folder{w.folder(".")}
		w.start()
		w.runs("old.db")
		w.database("calm.db", "busy.db", "gone.db")
		for _, rel := range []string{"calm.db", "busy.db", "gone.db"} {
			touch(rel)
		}
		w.tell("calm.db", "busy.db", "gone.db")
		w.remove("gone.db")
		w.runs("old.db")
		for range 9 {
			pass(900 * time.Millisecond)
			touch("busy.db")
			w.tell("busy.db")
		}
		w.runs("calm.db", "old.db")
		for range 3 {
			pass(900 * time.Millisecond)
			touch("busy.db")
			w.tell("busy.db")
		}
		w.runs("busy.db", "calm.db", "old.db")
		w.end()
	})
}
