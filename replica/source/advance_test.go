package source_test

import (
	"fmt"
	"strings"
	"testing"
)

// longWAL is the length of a WAL, in frames, beyond which no sync is waited for.
const longWAL = 16_000

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
	if res, err := d.HandOff(t.Context(), f); err != nil || !res.Complete {
		t.Fatalf("%+v %v", res, err)
	}
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
	insertBurst(app, 3000)
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
	insertBurst(app, longWAL)
	before := header(t, path).Salts
	for n := 0; ; n++ { // what is left to be read takes more than one, on a slow machine
		res, err := d.HandOff(t.Context(), f)
		if err != nil || n == 10 {
			t.Fatalf("%+v %v", res, err)
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
