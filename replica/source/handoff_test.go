package source_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	"tidemark/replica/source"
)

// writer is a goroutine that commits as fast as it can.
type writer struct {
	stop    chan struct{}
	done    sync.WaitGroup
	commits int
	err     error
}

func write(t *testing.T, db *sql.DB) *writer {
	t.Helper()
	w := &writer{stop: make(chan struct{})}
	w.done.Go(func() {
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			_, w.err = db.ExecContext(context.Background(), "INSERT INTO t(v) VALUES(randomblob(300))")
			if w.err != nil {
				return
			}
			w.commits++
		}
	})
	t.Cleanup(func() { _, _ = w.end() })
	return w
}

// end gives the number of commits.
func (w *writer) end() (int, error) {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.done.Wait()
	return w.commits, w.err
}

// Next to a writer that never rests, with its own automatic checkpoints, hand-offs
// let the WAL restart and whoever follows it sees every commit.
func TestHandOffUnderLoad(t *testing.T) {
	t.Parallel()
	for name, pragma := range map[string]string{
		"checkpoints of ours":                "wal_autocheckpoint(0)",
		"checkpoints of the application too": "wal_autocheckpoint(20)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, first := database(t)
			first.insert(10)
			app := connectWith(t, path, "_pragma=busy_timeout(60000)&_pragma=synchronous(0)&_pragma="+pragma)
			d := open(t, path)
			f := follow(t, d, attach(t, d))
			w := write(t, app.DB)
			for f.restarts < 5 {
				for before := f.commits; f.commits < before+20; {
					if _, err := f.Read(); err != nil {
						t.Fatal(err)
					}
				}
				res, err := d.HandOff(t.Context(), f)
				if errors.Is(err, source.ErrBusy) {
					continue // the wal-index could not be read: its caller tries again
				}
				if err != nil {
					t.Fatal(err)
				}
				if res.Complete != (res.Why == "") {
					t.Errorf("complete %v, why %q", res.Complete, res.Why)
				}
				// A writer that had begun to read under the lock goes on with
				// the old WAL.
				for res.Complete && f.position() == f.sealed {
					if _, err := f.Read(); err != nil {
						t.Fatal(err)
					}
				}
			}
			commits, err := w.end()
			if err != nil {
				t.Fatal("the application failed: ", err)
			}
			f.mustRead(commits)
			if digestOf(t, f.copy) != app.digest() {
				t.Error("the copy is not the database")
			}
			if n := app.number("SELECT count(*) FROM sqlite_schema"); n != 1 {
				t.Errorf("%d schema entries, the application made 1", n)
			}
		})
	}
}

// Without a writer, a hand-off is complete and changes nothing until somebody
// writes; more of them change nothing either.
func TestHandOffIdle(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	app.insert(3)
	salts := header(t, path).Salts
	for range 3 {
		res, err := d.HandOff(t.Context(), f)
		if err != nil || !res.Complete {
			t.Fatalf("%+v %v", res, err)
		}
		f.mustRead(3)
	}
	if header(t, path).Salts != salts {
		t.Error("the WAL restarted without a commit")
	}
	app.insert(1)
	f.mustRead(4)
	if f.restarts != 1 || digestOf(t, f.copy) != app.digest() {
		t.Errorf("%d restarts, want 1, or the copy differs", f.restarts)
	}
}

// A WAL that the application truncates after a hand-off is nothing new.
func TestHandOffThenTruncate(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	for n := range 4 {
		app.insert(3)
		f.mustRead(4*n + 3)
		for range 2 {
			f.handOff()
			if got := app.checkpoint("TRUNCATE"); got.Busy != 0 {
				t.Fatalf("TRUNCATE after a hand-off: %+v", got)
			}
		}
		app.insert(1)
		f.mustRead(4*n + 4)
	}
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}

// A reader holds a hand-off back, which misses nothing and says why; when the
// reader ends, the next one is complete.
func TestHandOffBesideReader(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	reader := connect(t, path)
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	app.insert(5)
	reader.read()
	app.insert(5)
	salts := header(t, path).Salts
	for n := range 3 {
		res, err := d.HandOff(t.Context(), f)
		if err != nil || res.Complete || !strings.Contains(res.Why, "reader") {
			t.Fatalf("%+v %v", res, err)
		}
		app.insert(5)
		app.checkpoint("PASSIVE")
		f.mustRead(15 + 5*n)
	}
	if header(t, path).Salts != salts {
		t.Error("the WAL restarted under the reader")
	}
	reader.end()
	f.handOff()
	app.insert(1)
	f.mustRead(26)
	if f.restarts != 1 || digestOf(t, f.copy) != app.digest() {
		t.Errorf("%d restarts, want 1, or the copy differs", f.restarts)
	}
}

// A reader that began at the WAL's end does not keep the hand-off from being
// complete, but it keeps the WAL from restarting. Nothing is missed when it ends.
func TestHandOffBesideReaderAtEnd(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	reader := connect(t, path)
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	app.insert(5)
	reader.read()
	f.handOff()
	app.insert(5)
	f.mustRead(10)
	reader.end()
	for range 5 {
		app.insert(1)
		app.checkpoint("PASSIVE")
	}
	f.mustRead(15)
	f.handOff()
	app.insert(1)
	f.mustRead(16)
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}

// An application that keeps the write lock makes a hand-off give up, not fail.
func TestHandOffLocked(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	app.exec("BEGIN IMMEDIATE")
	app.insert(3)
	res, err := d.HandOff(t.Context(), f)
	if err != nil || res.Complete || !strings.Contains(res.Why, "write lock") {
		t.Fatalf("%+v %v", res, err)
	}
	app.exec("COMMIT")
	f.mustRead(1)
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}

// However a hand-off ends, the WAL stays pinned and no lock is left: what is
// written afterwards is there to be read.
func TestHandOffFails(t *testing.T) {
	t.Parallel()
	errOurs := errors.New("ours")
	for name, tc := range map[string]struct{ read, secure, cancel bool }{
		"error in Read":       {read: true},
		"cancelled in Read":   {read: true, cancel: true},
		"error in Secure":     {secure: true},
		"cancelled in Secure": {secure: true, cancel: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, app := database(t)
			app.insert(10)
			d := open(t, path)
			f := follow(t, d, attach(t, d))
			app.insert(5)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			end := func(now bool) error {
				switch {
				case !now:
					return nil
				case !tc.cancel:
					return errOurs
				}
				cancel()
				return nil
			}
			_, err := d.HandOff(ctx, &failing{f, func() error { return end(tc.read) }, func() error { return end(tc.secure) }})
			if !errors.Is(err, errOurs) && !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			// Without a pin the second of these would overwrite the first.
			for range 3 {
				app.insert(1)
				app.checkpoint("RESTART")
			}
			f.mustRead(8)
			f.handOff()
			app.insert(1)
			f.mustRead(9)
			if !bytes.Equal(f.copy, contents(t, attach(t, d).Image)) {
				t.Error("the copy is not the database")
			}
		})
	}
}

// failing is a Drainer that can fail after it has done its work.
type failing struct {
	source.Drainer
	read, secured func() error
}

func (f *failing) Read() (int, error) {
	n, err := f.Drainer.Read()
	return n, errors.Join(err, f.read())
}

func (f *failing) Secure() (uint32, error) {
	n, err := f.Drainer.Secure()
	return n, errors.Join(err, f.secured())
}
