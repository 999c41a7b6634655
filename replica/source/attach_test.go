package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"tidemark/replica/source"
	"tidemark/wal"
)

// An image is the database at the end of the WAL, and stays so whatever the
// application commits and checkpoints afterwards.
func TestImage(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			sizes := []int{512, 1024, 4096, 65536}
			path, app := database(t, fmt.Sprintf("PRAGMA page_size=%d", sizes[rng.IntN(len(sizes))]))
			modes := []string{"NOOP", "PASSIVE", "RESTART", "TRUNCATE"}
			churn := func(n int) {
				for range n {
					statement(app, rng)
					if rng.IntN(4) == 0 {
						app.checkpoint(modes[rng.IntN(len(modes))])
					}
				}
			}
			app.insert(20)
			churn(rng.IntN(25))
			app.checkpoint(modes[seed%4]) // how much of the WAL is in the file differs

			d := open(t, path)
			att := attach(t, d)
			if got := app.number("PRAGMA page_count"); uint32(got) != att.Pages || att.Image.Pages() != att.Pages {
				t.Errorf("%d pages, the image has %d", got, att.Pages)
			}
			want, digest := contents(t, att.Image), app.digest()
			if got := digestOf(t, want); got != digest {
				t.Fatalf("the image's digest is %s, the database's %s", got, digest)
			}
			for range 6 {
				churn(4)
				if !bytes.Equal(contents(t, att.Image), want) {
					t.Fatal("the image has changed")
				}
			}
		})
	}
}

// A reader in between pins nothing away: an image taken next to a long reader
// is as good.
func TestImageBesideReader(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	reader := connect(t, path)
	app.insert(10)
	reader.read()
	app.insert(10)
	app.checkpoint("PASSIVE")
	d := open(t, path)
	att := attach(t, d)
	want := contents(t, att.Image)
	if digestOf(t, want) != app.digest() {
		t.Error("the image is not the database")
	}
	reader.end()
	for range 5 {
		app.exec("UPDATE t SET v = randomblob(200)")
		app.checkpoint("PASSIVE")
	}
	if !bytes.Equal(contents(t, att.Image), want) {
		t.Error("the image has changed")
	}
}

// Attach says whether a known position lies in the WAL, and has what follows
// it read.
func TestAttachKnown(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		since func(app *conn) // what the application does while nobody follows
		known func(att *wal.Position)
		want  bool
	}{
		"nothing":       {func(*conn) {}, nil, true},
		"commits":       {func(app *conn) { app.insert(5) }, nil, true},
		"checkpointed":  {func(app *conn) { app.insert(5); app.checkpoint("PASSIVE") }, nil, true},
		"restarted":     {func(app *conn) { app.insert(1); app.checkpoint("RESTART"); app.insert(9) }, nil, false},
		"truncated":     {func(app *conn) { app.insert(1); app.checkpoint("TRUNCATE") }, nil, false},
		"other sum":     {func(*conn) {}, func(p *wal.Position) { p.Sum.S0++ }, false},
		"other frame":   {func(*conn) {}, func(p *wal.Position) { p.Frame-- }, false},
		"other salts":   {func(*conn) {}, func(p *wal.Position) { p.Salts.Salt1-- }, false},
		"no position":   {func(*conn) {}, func(p *wal.Position) { *p = wal.Position{} }, false},
		"later than it": {func(*conn) {}, func(p *wal.Position) { p.Frame += 100 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, app := database(t)
			app.insert(5)
			first, err := source.Open(t.Context(), path, options())
			if err != nil {
				t.Fatal(err)
			}
			known := attach(t, first).End
			if err := first.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			tc.since(app)
			if tc.known != nil {
				tc.known(&known)
			}
			resumed := 0
			d := open(t, path)
			att, err := d.Attach(t.Context(), source.Known{Position: known}, func(h wal.Header, _ wal.Position) error {
				resumed++
				if h.Salts != known.Salts {
					t.Errorf("resumed with a WAL of salts %v at %v", h.Salts, known)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if att.Continues != tc.want || att.Resumed != tc.want || (resumed == 1) != tc.want {
				t.Errorf("continues %v, resumed %v (%d times), want %v", att.Continues, att.Resumed, resumed, tc.want)
			}
			if digestOf(t, contents(t, att.Image)) != app.digest() {
				t.Error("the image is not the database")
			}
		})
	}
}

// An error of resume, or the end of the context, leaves no lock behind.
func TestAttachFails(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(5)
	d := open(t, path)
	known := attach(t, d).End
	errOurs := errors.New("ours")
	if _, err := d.Attach(t.Context(), source.Known{Position: known}, func(wal.Header, wal.Position) error { return errOurs }); !errors.Is(err, errOurs) {
		t.Errorf("got %v", err)
	}
	app.insert(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Attach(ctx, source.Known{Position: known}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	app.insert(1)
	if digestOf(t, contents(t, attach(t, d).Image)) != app.digest() {
		t.Error("the image is not the database")
	}
}
