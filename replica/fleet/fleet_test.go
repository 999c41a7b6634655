package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/fleet"
	"tidemark/replica/source"
)

var errBroken = errors.New("broken")

// Databases are what they are by name, place and content.
func TestFinds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*fleet.Folder)
		want   []string
	}{
		"any":       {func(*fleet.Folder) {}, []string{"in/a.db", "in/b", "in/deep/e.db", "in/deep/er/d.db"}},
		"a pattern": {func(f *fleet.Folder) { f.Pattern = "*.db" }, []string{"in/a.db", "in/deep/e.db", "in/deep/er/d.db"}},
		"hidden":    {func(f *fleet.Folder) { f.Pattern = ".*" }, []string{"in/.c"}},
		"flat":      {func(f *fleet.Folder) { f.Recursive = false }, []string{"in/a.db", "in/b"}},
		"skipping":  {func(f *fleet.Folder) { f.Skip = []string{f.Dir + "/deep/er/"} }, []string{"in/a.db", "in/b", "in/deep/e.db"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.database("in/a.db", "in/b", "in/.c", "in/deep/er/d.db", "in/deep/e.db", "in/.hidden/f.db", "out/g.db")
				w.database("in/a.db-wal", "in/a.db-shm", "in/a.db-journal")
				w.file("in/text.db", "no database, but long enough")
				w.file("in/empty.db", "")
				err := errors.Join(os.Symlink("..", w.path("in/deep/loop")), os.Symlink(w.path("out/g.db"), w.path("in/g.db")))
				if err != nil {
					t.Fatal(err)
				}
				folder := w.folder("in")
				tc.change(&folder)
				w.opts.Folders = []fleet.Folder{folder}
				found, err := fleet.Scan(t.Context(), folder)
				for i := range found {
					found[i] = "in/" + found[i]
				}
				if diff := cmp.Diff(tc.want, found); diff != "" || err != nil {
					t.Errorf("a scan: %v (-want +got):\n%s", err, diff)
				}
				w.start()
				w.runs(tc.want...)
				w.end()
			})
		})
	}
}

// A new database is found when the system tells of it, and else by the next look at
// everything; one that has no header yet when it has.
func TestFindsLater(t *testing.T) {
	t.Parallel()
	for name, notice := range map[string]func(*world){
		"told":     func(w *world) { w.tell("a.db", "late/b.db", "late") },
		"missed":   func(w *world) { w.tell() },
		"not told": func(*world) { pass(fleet.DefaultRescan + time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.file("a.db", "")
				w.opts.Folders = []fleet.Folder{w.folder(".")}
				w.start()
				w.runs()
				w.file("late/b.db", "")
				notice(w)
				w.runs()
				w.database("a.db", "late/b.db")
				notice(w)
				w.runs("a.db", "late/b.db")
				if !w.told.Watches(w.path("late")) || w.told.Watches(w.path("a.db")) {
					t.Error("folders are to be watched, and files are not")
				}
				w.end()
			})
		})
	}
}

// One that is gone is forgotten, and begun when it is back.
func TestGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db", "b.db")
		w.opts.Folders = []fleet.Folder{w.folder(".", "one", "two")}
		w.start()
		w.remove("a.db")
		w.tell("a.db")
		w.runs("a.db one", "a.db two", "b.db one", "b.db two") // they notice it themselves
		gone := fmt.Errorf("follow: %w", source.ErrReplaced)
		w.fail("a.db one", gone)
		w.runs("a.db two", "b.db one", "b.db two")
		w.fail("a.db two", gone)
		w.runs("b.db one", "b.db two")
		if diff := cmp.Diff([]string{"a.db"}, w.tookGone()); diff != "" || len(w.messages()) > 0 {
			t.Errorf("gone %s, failures %q", diff, w.messages())
		}
		w.database("a.db")
		w.tell("a.db")
		w.runs("a.db one", "a.db two", "b.db one", "b.db two")
		// Another file takes its place before anybody has noticed.
		w.rename("b.db", "a.db")
		w.fail("a.db one", gone)
		w.fail("a.db two", gone)
		w.runs("b.db one", "b.db two") // which have that file open
		w.fail("b.db one", gone)
		w.fail("b.db two", gone)
		w.runs("a.db one", "a.db two")
		w.end()
		if w.started("a.db one") != 3 || len(w.messages()) > 0 {
			t.Errorf("%d starts, failures %q", w.started("a.db one"), w.messages())
		}
	})
}

// What fails is tried again, more and more rarely, and told once; nothing else stops.
func TestRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("good.db", "bad.db")
		w.breaks("bad.db", errBroken)
		w.opts.Folders = []fleet.Folder{w.folder(".")}
		w.start()
		w.runs("good.db")
		pass(2 * time.Second)
		if n := w.started("bad.db"); n < 2 {
			t.Errorf("tried %d times in 2 s", n)
		}
		pass(time.Hour)
		if n := w.started("bad.db"); n < 30 || n > 140 {
			t.Errorf("tried %d times in an hour", n)
		}
		if diff := cmp.Diff([]string{"bad.db: broken"}, w.messages()); diff != "" {
			t.Error(diff)
		}
		if f := w.failure(0); f.Again < time.Second/2 || f.Again > 2*time.Second || !f.Closed {
			t.Errorf("told %+v", f)
		}
		// Another reason is told, and a change of the file is a reason to try again.
		before := w.started("bad.db")
		w.breaks("bad.db", errors.New("broken otherwise"))
		w.database("bad.db")
		if err := os.WriteFile(w.path("bad.db"), []byte(header+"changed"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.tell("bad.db")
		pass(1100 * time.Millisecond)
		if n := w.started("bad.db"); n <= before {
			t.Error("not tried again when it had changed")
		}
		w.breaks("bad.db", nil)
		pass(5 * time.Minute)
		w.runs("good.db", "bad.db")
		if diff := cmp.Diff([]string{"bad.db: broken", "bad.db: broken otherwise"}, w.messages()); diff != "" {
			t.Error(diff)
		}
		// After it has run well the next failure is the first one again.
		w.fail("bad.db", errBroken)
		if f := w.failure(2); f.Again > 2*time.Second {
			t.Errorf("told %+v", f)
		}
		w.runs("good.db")
		pass(2 * time.Second)
		w.runs("good.db", "bad.db")
		w.end()
	})
}

// What trying again does not mend is left alone, until there is another file.
func TestFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db")
		w.breaks("a.db two", errBroken)
		w.opts.Final = func(err error) bool { return errors.Is(err, errBroken) }
		w.opts.Folders = []fleet.Folder{w.folder(".", "one", "two")}
		w.start()
		pass(time.Hour)
		w.runs("a.db one")
		if f := w.failure(0); w.started("a.db two") != 1 || f.Again != 0 || f.Closed || f.Replication != "two" {
			t.Errorf("%d starts, told %+v", w.started("a.db two"), f)
		}
		w.breaks("a.db two", nil)
		w.database("new")
		w.rename("new", "a.db")
		w.fail("a.db one", source.ErrReplaced)
		w.runs("a.db one", "a.db two")
		// One that does not run is forgotten, too, told or not.
		for _, notice := range []func(){func() { w.tell("a.db") }, func() { pass(fleet.DefaultRescan + time.Second) }} {
			w.fail("a.db one", errBroken)
			w.fail("a.db two", errBroken)
			w.tookGone()
			w.remove("a.db")
			notice()
			if diff := cmp.Diff([]string{"a.db"}, w.tookGone()); diff != "" {
				t.Error(diff)
			}
			w.database("a.db")
			notice()
			w.runs("a.db one", "a.db two")
		}
		w.end()
	})
}

// Listed databases are replicated once. Without folders their end is the fleet's.
func TestListed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db")
		w.breaks("none.db", fs.ErrNotExist)
		for _, name := range []string{"a.db", "none.db"} {
			w.opts.Databases = append(w.opts.Databases, fleet.Database{
				Path: w.path(name), Replications: []fleet.Replication{w.replication(w.path(name), "")},
			})
		}
		w.start()
		pass(time.Hour)
		w.runs("a.db")
		w.fail("a.db", source.ErrReplaced)
		if err := <-w.done; err != nil {
			t.Error(err)
		}
		want := []string{"a.db: " + source.ErrReplaced.Error(), "none.db: file does not exist"}
		if diff := cmp.Diff(want, w.messages()); diff != "" || w.failure(0).Again != 0 || !w.failure(0).Closed {
			t.Errorf("%+v\n%s", w.failure(0), diff)
		}
	})
}

// One of a listed database's replications whose failure may pass is tried again,
// beside the others, and the rest is not.
func TestListedRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db")
		w.breaks("a.db two", errBroken)
		w.breaks("a.db three", fs.ErrNotExist)
		w.opts.Databases = []fleet.Database{{
			Path:         w.path("a.db"),
			Replications: []fleet.Replication{w.replication(w.path("a.db"), "one"), w.replication(w.path("a.db"), "two"), w.replication(w.path("a.db"), "three")},
			Retry:        func(err error) bool { return errors.Is(err, errBroken) },
		}}
		w.start()
		pass(time.Hour)
		w.runs("a.db one")
		if n, m := w.started("a.db two"), w.started("a.db three"); n < 30 || m != 1 {
			t.Errorf("tried %d and %d times in an hour", n, m)
		}
		if n := len(w.messages()); n != 2 {
			t.Errorf("told %d times", n)
		}
		w.breaks("a.db two", nil)
		pass(2 * time.Minute)
		w.runs("a.db one", "a.db two")
		w.end()
	})
}

// One database has one name: what is listed is not found again, and of two names of
// one file the second is left out.
func TestTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("in/a.db", "b.db")
		listed := func(rel string) {
			w.opts.Databases = append(w.opts.Databases, fleet.Database{
				Path: w.path(rel), Replications: []fleet.Replication{w.replication(w.path(rel), "")},
			})
		}
		err := errors.Join(os.Symlink("in/a.db", w.path("link.db")), os.Link(w.path("b.db"), w.path("in/b.db")), os.Link(w.path("b.db"), w.path("c.db")))
		if err != nil {
			t.Fatal(err)
		}
		listed("link.db")
		listed("b.db")
		listed("c.db")
		listed("b.db")
		w.opts.Folders = []fleet.Folder{w.folder("in")}
		w.start()
		w.runs("link.db", "b.db")
		if len(w.failures) != 2 || !errors.Is(w.failure(0).Err, fleet.ErrTwice) || w.failure(0).Closed || !errors.Is(w.failure(1).Err, fleet.ErrTwice) {
			t.Errorf("told %+v", w.failures)
		}
		w.tell("in/a.db", "in/b.db")
		w.tell()
		w.runs("link.db", "b.db")
		w.fail("b.db", source.ErrReplaced)
		w.runs("link.db", "in/b.db")
		w.end()
	})
}

// At a stop nothing is begun, and what fails then is told.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db", "b.db")
		w.breaks("b.db", errBroken)
		slow := make(chan struct{})
		w.opts.Folders = []fleet.Folder{w.folder(".")}
		w.opts.Databases = []fleet.Database{{Path: w.path("slow.db"), Replications: []fleet.Replication{{Run: func(ctx context.Context) error {
			<-ctx.Done()
			<-slow
			return errBroken
		}}}}}
		w.start()
		w.stop()
		w.runs()
		starts := w.started("b.db")
		pass(time.Hour)
		if w.started("b.db") != starts {
			t.Error("begun after the stop")
		}
		select {
		case <-w.done:
			t.Error("it did not wait for the last one")
		default:
		}
		close(slow)
		if err := <-w.done; err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"b.db: broken", "slow.db: broken"}, w.messages()); diff != "" {
			t.Error(diff)
		}
	})
}

// Once is one look, and one attempt each.
func TestOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db", "b.db", "gone.db")
		w.breaks("b.db", errBroken)
		w.breaks("gone.db", fs.ErrNotExist)
		w.opts.Folders = []fleet.Folder{w.folder(".")}
		go func() { w.done <- fleet.Once(t.Context(), w.opts) }()
		w.runs("a.db")
		w.remove("gone.db")
		pass(time.Hour)
		w.fail("a.db", nil)
		if err := <-w.done; err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"b.db: broken", "gone.db: file does not exist"}, w.messages()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]int{"a.db": 1, "b.db": 1, "gone.db": 1}, w.starts); diff != "" {
			t.Error(diff)
		}
	})
}

// A folder that is missing at the start is an error, and nothing is begun; one that
// goes later is waited for.
func TestMissingFolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("a.db", "in/b.db", "in/deep/c.db")
		w.opts.Databases = []fleet.Database{{Path: w.path("a.db"), Replications: []fleet.Replication{w.replication(w.path("a.db"), "")}}}
		for _, dir := range []string{"none", "a.db"} {
			w.opts.Folders = []fleet.Folder{w.folder(dir)}
			if err := fleet.Run(t.Context(), w.opts); err == nil || len(w.starts) > 0 {
				t.Errorf("%s: %v, starts %v", dir, err, w.starts)
			}
		}
		w.opts.Folders = []fleet.Folder{w.folder("in")}
		w.start()
		w.remove("in")
		w.fail("in/b.db", source.ErrReplaced)
		w.fail("in/deep/c.db", source.ErrReplaced)
		w.tell()
		w.runs("a.db")
		w.database("in/deep/c.db")
		pass(fleet.DefaultRescan)
		w.runs("a.db", "in/deep/c.db")
		w.end()
	})
}

// The first folder that has a database has it for itself; one whose replications
// can't be told is left out.
func TestOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.database("in/a.db", "in/deep/b.db", "refused/c.db")
		refused := w.folder("refused")
		refused.Replications = func(string, string) ([]fleet.Replication, error) { return nil, errBroken }
		w.opts.Folders = []fleet.Folder{w.folder("in/deep", "first"), w.folder("in"), refused}
		w.start()
		w.tell("in/deep/b.db", "refused/c.db")
		w.runs("in/deep/b.db first", "in/a.db")
		w.end()
	})
}
