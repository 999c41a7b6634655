package source_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"tidemark/replica/source"
	"tidemark/wal"
)

// insertBurst makes one commit of some more than so many frames, in pages of 512 bytes.
func insertBurst(app *conn, frames int) {
	app.exec(fmt.Sprintf("INSERT INTO t(v) VALUES(randomblob(%d))", 512*frames))
}

// Advance copies the WAL as far as it goes and pins its end: a checkpoint of the
// application's finds nothing to be done, the WAL goes on, and no frame of it is lost.
func TestAdvance(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	if res, err := d.HandOff(t.Context(), f); err != nil || !res.Complete || !d.AtZero() {
		t.Fatalf("%+v %v", res, err)
	}
	app.insert(5)
	if got := app.checkpoint("PASSIVE"); got.Done > 0 {
		t.Fatalf("after a hand-off nobody may copy: %+v", got)
	}
	salts := header(t, path).Salts
	if err := d.Advance(t.Context(), f); err != nil || d.AtZero() {
		t.Fatalf("in slot 0: %t, %v", d.AtZero(), err)
	}
	at := int(f.position().Frame)
	if got := app.checkpoint("NOOP"); got.Busy != 0 || got.Done != at {
		t.Errorf("a look after it: %+v; %d frames should be in the file", got, at)
	}
	app.insert(5)
	if got := app.checkpoint("PASSIVE"); got.Done != at || got.Frames <= at {
		t.Errorf("a checkpoint copied past the pin at frame %d: %+v", at, got)
	}
	f.mustRead(10)
	if header(t, path).Salts != salts {
		t.Error("the WAL has restarted")
	}
	f.handOff()
	app.insert(1)
	f.mustRead(11)
	if f.restarts != 2 || digestOf(t, f.copy) != app.digest() {
		t.Errorf("%d restarts, or the copy differs", f.restarts)
	}
}

// While a reader of an older state keeps much of the WAL from the database file, a
// hand-off says so, and does not ask to be tried again at once.
func TestHandOffBesideOldReader(t *testing.T) {
	t.Parallel()
	path, app := database(t, "PRAGMA page_size=512")
	reader := connect(t, path)
	app.insert(1)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	reader.read()
	insertBurst(app, 1500)
	res, err := d.HandOff(t.Context(), f)
	if err != nil || res.Complete || res.Behind || !strings.Contains(res.Why, "reader") {
		t.Errorf("%+v %v", res, err)
	}
	reader.end()
	if res, err = d.HandOff(t.Context(), f); err != nil || !res.Complete || res.Why != "" {
		t.Errorf("%+v %v", res, err)
	}
	app.insert(1)
	f.mustRead(2)
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}

// bursting is a follower behind whom a large transaction is made after a hand-off has
// copied the WAL, and before it takes the write lock, so many times.
type bursting struct {
	*follower
	app                    *conn
	bursts, frames, copies int
	copied                 bool
	// then, if not nil, comes after a burst, and there is one also while the database
	// file is synced.
	then func()
}

// Read implements source.Drainer.
func (b *bursting) Read() (int, error) {
	if b.copied && b.bursts > 0 && (b.then != nil || !b.db.Flushing()) {
		b.copied = false
		b.bursts--
		insertBurst(b.app, b.frames)
		if b.then != nil {
			b.then()
		}
	}
	return b.follower.Read()
}

// Keep implements source.Drainer.
func (b *bursting) Keep(only wal.Salts) (uint32, error) {
	b.copied = true
	b.copies++
	return b.follower.Keep(only)
}

// If much was written since the last copy, a hand-off gives the write lock back and
// copies once more beside the writers, also if the WAL has restarted meanwhile: then
// nothing of it is copied.
func TestHandOffLeavesLittle(t *testing.T) {
	t.Parallel()
	for name, restarts := range map[string]bool{"same WAL": false, "another WAL": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, app := database(t, "PRAGMA page_size=512")
			app.insert(1)
			d := open(t, path)
			f := &bursting{follower: follow(t, d, attach(t, d)), app: app, bursts: 1, frames: 5000}
			if insertBurst(app, 6000); restarts {
				// Now the file has all of the WAL, and the next pin is in slot 0.
				if err := d.Advance(t.Context(), f); err != nil {
					t.Fatal(err)
				}
				f.copied, f.copies = false, 0
			}
			before := header(t, path).Salts
			handOffs := 0
			for complete := false; !complete; handOffs++ { // more than one on a slow machine
				res, err := d.HandOff(t.Context(), f)
				if err != nil || f.bursts > 0 || handOffs == 10 {
					t.Fatalf("%+v %v; %d bursts are left", res, err, f.bursts)
				}
				complete = res.Complete
			}
			if restarted := header(t, path).Salts != before; restarted != restarts {
				t.Errorf("the WAL has restarted: %t", restarted)
			}
			if handOffs == 1 && f.copies < 2 {
				t.Error("all of the burst was checkpointed under the lock")
			}
			f.mustRead(2)
			if digestOf(t, f.copy) != app.digest() {
				t.Error("the copy is not the database")
			}
		})
	}
}

// Beside a fast writer a reader of a state that is hardly older is not what keeps the WAL
// from being handed off.
func TestHandOffBesideBriefReader(t *testing.T) {
	t.Parallel()
	path, app := database(t, "PRAGMA page_size=512")
	reader := connect(t, path)
	app.insert(1)
	d := open(t, path)
	f := &bursting{follower: follow(t, d, attach(t, d)), app: app, bursts: 100, frames: 17_000}
	app.insert(10)
	reader.read()
	f.then = func() {
		reader.end()
		reader.read()
		app.insert(1)
	}
	if res, err := d.HandOff(t.Context(), f); err != nil || res.Complete || !res.Behind {
		t.Errorf("%+v %v", res, err)
	}
}

// While the database file is synced, a checkpoint of the application's that waits for
// the pin passes.
func TestHandOffYieldsInSync(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	other := connectWith(t, path, "_pragma=busy_timeout(2000)")
	app.insert(10)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	end := d.SyncForEver()
	defer end()
	app.insert(10)
	ctx, cancel := context.WithCancel(t.Context())
	waiting, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := d.HandOff(ctx, &announcing{f, sync.OnceFunc(func() { close(waiting) })})
		ended <- err
	}()
	<-waiting
	app.insert(10)
	if got := other.checkpoint("TRUNCATE"); got.Busy != 0 {
		t.Errorf("a checkpoint did not pass: %+v", got)
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.mustRead(20)
}

// announcing is a follower that tells when something is waited for.
type announcing struct {
	*follower
	tell func()
}

// Tend implements source.Drainer.
func (a *announcing) Tend() error { a.tell(); return nil }

// A disk that is slow to sync the database file lets no WAL grow for ever: a long one is
// handed off without it, and the checkpoint under the write lock syncs what is left.
func TestHandOffSlowSync(t *testing.T) {
	t.Parallel()
	path, app := database(t, "PRAGMA page_size=512")
	app.insert(1)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	end := d.SyncForEver()
	defer end() // before the database is closed
	insertBurst(app, source.LongWAL)
	before := header(t, path).Salts
	for n := 0; ; n++ { // what is left to be read takes more than one, on a slow machine
		looks := 0
		res, err := d.HandOff(t.Context(), &announcing{f, func() { looks++ }})
		if err != nil || n == 10 || looks > 10 {
			t.Fatalf("%+v %v; it waited for %d looks", res, err, looks)
		}
		if res.Complete {
			break
		}
	}
	app.insert(1)
	f.mustRead(2)
	if header(t, path).Salts == before || digestOf(t, f.copy) != app.digest() {
		t.Error("the WAL did not restart, or the copy is not the database")
	}
}
