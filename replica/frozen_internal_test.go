package replica

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"tidemark/replica/source"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// counting counts what is asked of a file.
type counting struct {
	io.ReaderAt
	n atomic.Int64
	// hook, if not nil, is called before the next read.
	hook func()
}

// ReadAt implements io.ReaderAt.
func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.n.Add(int64(len(p)))
	if fn := c.hook; fn != nil {
		c.hook = nil
		fn()
	}
	return c.ReaderAt.ReadAt(p, off)
}

// pinned is a database of several pieces, a part of them in its WAL, that is attached to.
func pinned(t *testing.T) (d *source.DB, att *source.Attachment, app *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	app, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	app.SetMaxOpenConns(1)
	exec := func(q string) {
		t.Helper()
		if _, err := app.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []string{"PRAGMA page_size=512", "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE t(v)"} {
		exec(q)
	}
	exec("INSERT INTO t VALUES(randomblob(300000)), (randomblob(300000))")
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
	exec("UPDATE t SET v = randomblob(200000) WHERE rowid = 2")
	d, err = source.Open(t.Context(), path, source.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		att, err = d.Attach(t.Context(), source.Known{}, nothingToResume)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, att, app
}

// The first state is read once, for its sums and its pages. What has to be found earlier is
// read again, and is the same; also if the file changes in the middle of that.
func TestFrozenFirst(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		at     int // the piece before which the rest is found
		within bool
	}{
		{name: "alone", at: -1},
		{name: "begun"},
		{name: "halfway", at: 5},
		{name: "at the end", at: 10},
		{name: "in a read", at: 3, within: true},
		{name: "in a read of the WAL", at: 7, within: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, att, app := pinned(t)
			size := int(d.PageSize())
			want := make([]byte, int(att.Pages)*size)
			if err := att.Image.ReadPages(1, want); err != nil {
				t.Fatal(err)
			}
			f, err := newFirst(d, att.Image, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer f.close() //nolint:errcheck // in a temporary folder
			read := &counting{ReaderAt: f.sweep}
			f.image = f.image.Through(read)
			got := make([]byte, len(want))
			for i, off := 0, 0; off < len(got); i++ {
				switch {
				case i == tc.at && tc.within:
					read.hook = func() { findThenChange(t, f, d, app) }
				case i == tc.at:
					findThenChange(t, f, d, app)
				}
				n := min(100*size, len(got)-off)
				if err := f.ReadPages(wal.PageNo(off/size+1), got[off:off+n]); err != nil {
					t.Fatal(err)
				}
				off += n
			}
			<-f.found
			if string(got) != string(want) || f.checksum() != state.SumPages(d.PageSize(), 1, want) {
				t.Error("it is not the state that was pinned")
			}
			if n := read.n.Load(); tc.at < 0 && n != int64(len(want)) {
				t.Errorf("%d bytes were read, want %d: each page once", n, len(want))
			}
		})
	}
}

// findThenChange finds the sums that are missing, and then has the file overwritten.
func findThenChange(t *testing.T, f *frozen, d *source.DB, app *sql.DB) {
	t.Helper()
	if err := f.findRest(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.found:
	default:
		t.Fatal("sums are missing")
	}
	for no := range f.table.Len() {
		f.save(wal.PageNo(no+1), make([]byte, f.size))
	}
	d.Release(t.Context())
	was := fileOf(t, d)
	if _, err := app.ExecContext(t.Context(), "UPDATE t SET v = randomblob(300000)"); err != nil {
		t.Fatal(err)
	}
	var busy, frames, done int
	err := app.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done)
	if now := fileOf(t, d); err != nil || busy != 0 || now == was {
		t.Fatalf("not checkpointed: %d, %v", busy, err)
	}
}

// fileOf is what the database file holds.
func fileOf(t *testing.T, d *source.DB) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(d.FileAt(), 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What the image gives twice must be the same: else the database was overwritten.
func TestFrozenFirstOverwritten(t *testing.T) {
	t.Parallel()
	d, att, _ := pinned(t)
	f, err := newFirst(d, att.Image, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close() //nolint:errcheck // in a temporary folder
	page := make([]byte, f.size)
	if err := f.ReadPages(100, page); err != nil {
		t.Fatal(err)
	}
	raw, ok := d.FileAt().(*os.File)
	if !ok {
		t.Fatalf("it is a %T", d.FileAt())
	}
	if _, err := raw.WriteAt([]byte("something else"), f.size.Offset(100)); err != nil {
		t.Fatal(err)
	}
	if err := f.findRest(t.Context()); !errors.Is(err, errStale) {
		t.Errorf("it went on: %v", err)
	}
}
