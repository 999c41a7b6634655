package source_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/source"
	"tidemark/replica/source/netfs"
	"tidemark/wal"
)

// closed makes a database, in WAL mode or not, closes it and gives its bytes.
func closed(t *testing.T, pragmas ...string) []byte {
	t.Helper()
	path, app := database(t, pragmas...)
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is no database, or not one that can be followed, is refused with a
// reason, and left as it is.
func TestRefused(t *testing.T) {
	t.Parallel()
	good := closed(t)
	with := func(off int, bytes ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[off:], bytes)
		return b
	}
	for name, tc := range map[string]struct {
		content []byte
		want    error
		says    string
	}{
		"empty":              {nil, source.ErrNotDatabase, "is empty"},
		"one byte":           {good[:1], source.ErrNotDatabase, "only 1 bytes"},
		"99 bytes":           {good[:99], source.ErrNotDatabase, "only 99 bytes"},
		"text":               {[]byte(strings.Repeat("no database\n", 50)), source.ErrNotDatabase, "another kind of file"},
		"encrypted":          {with(0, []byte("\x8f\x13Q@\xa0kkz\x01\x02\x03\x04\x05\x06\x07\x08")...), source.ErrNotDatabase, "encrypted"},
		"other magic":        {with(15, 'x'), source.ErrNotDatabase, "header"},
		"page size 0":        {with(16, 0, 0), source.ErrNotDatabase, "page size, 0"},
		"page size 256":      {with(16, 1, 0), source.ErrNotDatabase, "page size, 256"},
		"page size 1000":     {with(16, 3, 232), source.ErrNotDatabase, "page size, 1000"},
		"WAL2":               {with(18, 3, 3), source.ErrRefused, "version 3"},
		"WAL2 to write only": {with(18, 3, 2), source.ErrRefused, "WAL2"},
		"WAL2 to read only":  {with(18, 2, 3), source.ErrRefused, "WAL2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, tc.content, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := source.Open(t.Context(), path, options())
			if d != nil || !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			assertAlone(t, path)
			if b, err := os.ReadFile(path); err != nil || string(b) != string(tc.content) {
				t.Errorf("the file has changed (%v)", err)
			}
		})
	}
}

// assertAlone checks that nothing lies beside a file.
func assertAlone(t *testing.T, path string) {
	t.Helper()
	if diff := cmp.Diff([]string{filepath.Base(path)}, names(t, filepath.Dir(path))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestRefusedPlaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := source.Open(t.Context(), filepath.Join(dir, "none.db"), options()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := source.Open(t.Context(), dir, options()); !errors.Is(err, source.ErrRefused) {
		t.Errorf("folder: %v", err)
	}
	if err := os.Symlink("none.db", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Open(t.Context(), filepath.Join(dir, "link"), options()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dangling link: %v", err)
	}
	if diff := cmp.Diff([]string{"link"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// mounted answers for a file system that is of the kind "cifs" at one path, and
// local elsewhere.
func mounted(at string) func(string) (netfs.Kind, error) {
	return func(path string) (netfs.Kind, error) {
		if path == at {
			return "cifs", nil
		}
		return netfs.Local, nil
	}
}

// A database on a network file system is refused before anything is opened, and
// followed, with one warning, if the user says that it may be. Its folder is as
// bad as the file itself, and what a symbolic link leads to counts.
func TestNetworkFileSystem(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	app := connect(t, path)
	app.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, find := range map[string]func(string) (netfs.Kind, error){
		"file":   mounted(path),
		"folder": mounted(filepath.Dir(path)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options()
			opts.FileSystem = find
			for _, p := range []string{path, link} {
				d, err := source.Open(t.Context(), p, opts)
				if d != nil || !errors.Is(err, source.ErrRefused) || !errors.Is(err, source.ErrNetworkFS) {
					t.Fatalf("got %v", err)
				}
				for _, says := range []string{path + " is on a network file system (cifs)", "locks and shared memory don't work across machines"} {
					if !strings.Contains(err.Error(), says) {
						t.Errorf("%q does not say %q", err, says)
					}
				}
			}
			assertAlone(t, path)

			var log bytes.Buffer
			opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
			opts.AllowNetworkFS = true
			d, err := source.Open(t.Context(), path, opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "kind=cifs") {
				t.Errorf("the log is\n%s", got)
			}
		})
	}
}

// Where the file system can't be told, it is not taken to be a local one, unless
// the answer does not matter.
func TestUnknownFileSystem(t *testing.T) {
	t.Parallel()
	path, _ := database(t)
	opts := options()
	opts.FileSystem = func(path string) (netfs.Kind, error) {
		return netfs.Local, &fs.PathError{Op: "statfs", Path: path, Err: fs.ErrPermission}
	}
	if _, err := source.Open(t.Context(), path, opts); !errors.Is(err, fs.ErrPermission) || errors.Is(err, source.ErrRefused) {
		t.Errorf("got %v", err)
	}
	opts.AllowNetworkFS = true
	d, err := source.Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A database in a rollback-journal mode is switched to WAL, or refused if the
// user wants that.
func TestJournalMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"DELETE", "TRUNCATE", "PERSIST"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			app := connect(t, path)
			app.exec("PRAGMA journal_mode=" + mode)
			app.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
			app.insert(3)
			want := app.digest()
			if err := app.Close(); err != nil {
				t.Fatal(err)
			}
			keep := options()
			keep.KeepJournalMode = true
			d, err := source.Open(t.Context(), path, keep)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.EnsureWAL(t.Context()); !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "journal_mode") {
				t.Errorf("got %v", err)
			}
			if err := d.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(names(t, filepath.Dir(path)), filepath.Base(path)+"-wal") {
				t.Error("it has a WAL")
			}

			d = open(t, path)
			if err := d.EnsureWAL(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := digestOf(t, contents(t, attach(t, d).Image)); got != want {
				t.Errorf("digest %s, want %s", got, want)
			}
		})
	}
}

// A path is a path, whatever it means in a URI, and through symbolic links the
// files that belong to the database are still found beside it.
func TestPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"plain.db", "a space.db", "what?.db", "mode=ro&x=1", "hash#1.db", "100%.db", "%41.db", "a+b;c&d=e.db",
		"Tidemarke äöü ß 潮位.db", "quote'\"`$.db", ":memory:", "file:x.db", "-wal",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "in "+name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			app := create(t, path)
			app.insert(3)
			d := open(t, path)
			if d.Path() != path {
				t.Errorf("path %q, want %q", d.Path(), path)
			}
			assertFollows(t, d, app)
			if diff := cmp.Diff([]string{name, name + "-shm", name + "-wal"}, names(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSymlinks(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(3)
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "link.db"), filepath.Join(dir, "folder")
	if err := errors.Join(os.Symlink(path, file), os.Symlink(filepath.Dir(path), folder)); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{file, filepath.Join(folder, filepath.Base(path))} {
		d := open(t, link)
		if d.Path() != path {
			t.Errorf("%s: path %q, want %q", link, d.Path(), path)
		}
		assertFollows(t, d, app)
	}
	if diff := cmp.Diff([]string{"folder", "link.db"}, names(t, dir)); diff != "" {
		t.Errorf("files beside the links (-want +got):\n%s", diff)
	}
}

// assertFollows checks that the database is the one that the application
// writes to.
func assertFollows(t *testing.T, d *source.DB, app *conn) {
	t.Helper()
	f := follow(t, d, attach(t, d))
	app.insert(2)
	f.mustRead(2)
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}

// A writer that dies between its last frame and the wal-index leaves a commit
// in the file that SQLite never counts. It is not followed; what is written over
// it is.
func TestUnpublishedCommit(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(3)
	forge := func(d *source.DB, from wal.Position) {
		h := header(t, path)
		page := make([]byte, h.PageSize)
		binary.BigEndian.PutUint32(page, 42)
		b, pos := h.AppendFrame(nil, from, 2, 0, page)
		b, _ = h.AppendFrame(b, pos, 2, 2, page)
		w, err := os.OpenFile(d.WALPath(), os.O_WRONLY, 0)
		if err == nil {
			_, err = w.WriteAt(b, h.Offset(from.Frame+1))
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	forge(d, f.position())
	f.mustRead(0)
	if att := attach(t, d); att.End != f.position() || digestOf(t, contents(t, att.Image)) != app.digest() {
		t.Errorf("attached at %v, SQLite is at %v, or the image differs", att.End, f.position())
	}
	f.handOff()
	app.insert(1) // restarts the WAL
	f.mustRead(1)
	forge(d, f.position())
	f.mustRead(1)
	app.insert(1) // over the forged one
	f.mustRead(2)
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}
