package source_test

import (
	"context"
	"errors"
	"testing"

	"tidemark/wal"
)

// From a claim on no other process can checkpoint, until a checkpoint of ours has ended,
// which takes the very same lock, or the claim is given back.
func TestClaim(t *testing.T) {
	t.Parallel()
	path, first := database(t)
	first.insert(3)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	app := startApp(t, path)
	busy := func(want int, when string) {
		t.Helper()
		if got := app.checkpoint("PASSIVE"); got.Busy != want {
			t.Errorf("%s: %+v, want busy %d", when, got, want)
		}
	}
	app.insert(3)
	busy(0, "before")
	if !d.Claim() {
		t.Fatal("nobody has the lock, and it can't be had")
	}
	busy(1, "claimed")
	app.insert(1) // nobody else has to wait
	if err := d.Advance(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	busy(0, "after a checkpoint of ours")
	f.mustRead(4)
	if !d.Claim() {
		t.Fatal("nobody has the lock, and it can't be had")
	}
	busy(1, "claimed again")
	d.Unclaim()
	busy(0, "given back")

	// Where the claim is not followed by a checkpoint, it is given back, too.
	ctx, cancel := context.WithCancel(t.Context())
	if err := d.Advance(ctx, ending{f, cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("it was cancelled, and gives %v", err)
	}
	busy(0, "after one that failed")
}

// ending is a follower that is told to end when it has read all.
type ending struct {
	*follower
	end func()
}

// Keep implements source.Drainer.
func (e ending) Keep(only wal.Salts) (uint32, error) {
	n, err := e.follower.Keep(only)
	e.end()
	return n, err
}
