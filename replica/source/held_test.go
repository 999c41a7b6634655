package source_test

import (
	"testing"
	"time"

	"tidemark/replica/source"
	"tidemark/wal"
)

// writing is a source.Drainer beside which the application commits when it is
// asked to read.
type writing struct{ app *conn }

// Read implements source.Drainer.
func (w writing) Read() (int, error) { w.app.insert(1); return 0, nil }

// Keep implements source.Drainer.
func (writing) Keep(wal.Salts) (uint32, error) { return 0, nil }

// Secure implements source.Drainer.
func (writing) Secure() (uint32, error) { return 0, nil }

// The pin that there is when Attach is called stays until what it keeps was read,
// also where the database file has all of the WAL: next to a new one the WAL would
// restart with the next commit.
func TestAttachKeepsPin(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(2)
	d := open(t, path)
	if err := d.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	app.checkpoint("PASSIVE")
	before := header(t, path)
	resumed := false
	att, err := d.Attach(t.Context(), source.Known{Position: before.Start(), Others: writing{app}}, func(wal.Header, wal.Position) error {
		resumed = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !att.Continues || !resumed || att.Header.Salts != before.Salts {
		t.Errorf("continues: %t, resumed: %t, from %v to %v", att.Continues, resumed, before.Salts, att.Header.Salts)
	}
}

// While nobody reads the WAL, the database file stays as it is: it may be what
// shows that the WAL continues the history.
func TestAwaitHeldLeavesFile(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(2)
	d := open(t, path)
	if err := d.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := d.Stamp()
	if err != nil {
		t.Fatal(err)
	}
	if held, err := d.AwaitHeld(t.Context(), 300*time.Millisecond); !held || err != nil {
		t.Fatalf("held: %t, %v", held, err)
	}
	if after, err := d.Stamp(); err != nil || after != before {
		t.Errorf("the file was %v and is %v (%v)", before, after, err)
	}
}
