package source_test

import (
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/replica/disk"
	"tidemark/replica/source"
	"tidemark/wal"
)

// writing is a source.Drainer beside which the application commits when it is
// asked to read.
type writing struct{ app *conn }

// Read implements source.Drainer.
func (w writing) Read() (int, error) { w.app.insert(1); return 0, nil }

// Tend implements source.Drainer.
func (writing) Tend() error { return nil }

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

// flooding is a source.Drainer beside which the application commits more, each time
// that it is asked to read, than is to be read under the write lock.
type flooding struct {
	writing
	reads int
}

// Read implements source.Drainer.
func (f *flooding) Read() (int, error) {
	f.reads++
	f.app.exec("INSERT INTO t(v) VALUES(randomblob(1200000))")
	return 1, nil
}

// Beside writers that are as fast as the WAL is read Attach comes to an end, too, and it reads
// nothing again that it has read.
func TestAttachBesideFastWriter(t *testing.T) {
	t.Parallel()
	path, app := database(t, "PRAGMA page_size=512")
	app.insert(2)
	opts := options()
	read := &counting{}
	opts.FS = read
	d, err := source.Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context()) //nolint:errcheck // it is read
	f := &flooding{writing: writing{app}}
	att, err := d.Attach(t.Context(), source.Known{Others: f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := app.number("PRAGMA page_count"); int(att.Pages) != want || f.reads < 2 {
		t.Errorf("%d pages after %d rounds, want %d", att.Pages, f.reads, want)
	}
	// A long transaction is read twice: until it is known to have been committed, and
	// then frame by frame.
	if size := int64(att.End.Frame) * (512 + wal.FrameHeaderSize); read.bytes.Load() > 3*size {
		t.Errorf("read %d bytes of a WAL of %d", read.bytes.Load(), size)
	}
}

// counting counts the bytes that are read.
type counting struct {
	disk.OS
	bytes atomic.Int64
}

// OpenFile implements disk.FS.
func (c *counting) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := c.OS.OpenFile(name, flag, perm)
	return counted{f, c}, err
}

type counted struct {
	disk.File
	c *counting
}

// ReadAt implements io.ReaderAt.
func (f counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.c.bytes.Add(int64(n))
	return n, err //nolint:wrapcheck // it is the file's
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
