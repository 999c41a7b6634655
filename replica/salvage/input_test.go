package salvage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark/replica/restore"
	"tidemark/replica/salvage"
	"tidemark/wal"
)

// TestInputs gives the same files in other ways.
func TestInputs(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(5)
	f := w.files()
	for _, c := range []struct {
		name string
		set  func(*testing.T) *scene
		want string
		kind salvage.Kind
	}{
		{"the WAL", func(t *testing.T) *scene {
			t.Helper()
			s := set(t, f)
			s.opts.Path += "-wal"
			return s
		}, w.after(5), salvage.KindProven},
		{"a WAL of another name, with --db", func(t *testing.T) *scene {
			t.Helper()
			s := set(t, files{db: f.db})
			s.put("rescued", f.wal)
			s.opts.Path, s.opts.DB = filepath.Join(s.dir, "rescued"), s.opts.Path
			return s
		}, w.after(5), salvage.KindProven},
		{"a database with --wal", func(t *testing.T) *scene {
			t.Helper()
			s := set(t, files{db: f.db})
			s.put("rescued", f.wal)
			s.opts.WAL = filepath.Join(s.dir, "rescued")
			return s
		}, w.after(5), salvage.KindProven},
		{"a database without a WAL", func(t *testing.T) *scene {
			t.Helper()
			return set(t, files{db: f.db})
		}, w.base, salvage.KindDatabase},
		{"a database that ends in -wal", func(t *testing.T) *scene {
			t.Helper()
			s := set(t, files{})
			s.put("odd-wal", f.db)
			s.opts.Path = filepath.Join(s.dir, "odd-wal")
			return s
		}, w.base, salvage.KindDatabase},
		{"a database with more behind its end", func(t *testing.T) *scene {
			t.Helper()
			return set(t, files{db: append(slices.Clone(f.db), make([]byte, 3*page)...)})
		}, w.base, salvage.KindDatabase},
		{"a link to the database", func(t *testing.T) *scene {
			t.Helper()
			s := set(t, f)
			link := filepath.Join(t.TempDir(), "link.db")
			if err := os.Symlink(s.opts.Path, link); err != nil {
				t.Skip(err)
			}
			s.opts.Path = link
			return s
		}, w.after(5), salvage.KindProven},
		{"an output beside the originals", func(t *testing.T) *scene {
			t.Helper()
			return set(t, f)
		}, w.after(5), salvage.KindProven},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rep, got := c.set(t).run()
			same(t, "contents", got, c.want)
			if rep.Verdict != salvage.Whole || rep.Best().Kind != c.kind {
				t.Errorf("%s %v", rep.Verdict, kinds(rep))
			}
		})
	}
}

// TestBesideOriginals writes the output where the originals lie, on request: nothing else
// appears there, not even for a moment that the end would show.
func TestBesideOriginals(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(5)
	s := set(t, w.files())
	s.opts.Output = filepath.Join(s.dir, "out.db")
	before := s.look()
	rep, err := salvage.Run(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	after := s.look()
	delete(after, "out.db")
	if len(after) != len(before) || after["app.db"] != before["app.db"] || after["app.db-wal"] != before["app.db-wal"] {
		t.Errorf("%v, was %v", after, before)
	}
	same(t, "contents", content(t, rep.Output), w.after(5))
}

// TestRefuses has what must not be written over, and what makes no sense.
func TestRefuses(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(2)
	f := w.files()
	for _, c := range []struct {
		name string
		set  func(*scene)
		want error
	}{
		{"an output that exists", func(s *scene) { s.write(s.opts.Output) }, restore.ErrExists},
		{"a WAL beside the output", func(s *scene) { s.write(s.opts.Output + "-wal") }, restore.ErrStray},
		{"an output that is a part of the database", func(s *scene) { s.opts.Output = s.opts.Path + "-journal" }, restore.ErrStray},
		{"a folder that is not empty", func(s *scene) {
			s.opts.All = s.t.TempDir()
			s.write(filepath.Join(s.opts.All, "file"))
		}, restore.ErrExists},
		{"the originals' folder for all", func(s *scene) { s.opts.All = s.dir }, salvage.ErrInput},
		{"the originals' folder for temporary files", func(s *scene) { s.opts.Temp = s.dir }, salvage.ErrInput},
		{"no such file", func(s *scene) { s.opts.Path += "x" }, fs.ErrNotExist},
		{"no such WAL", func(s *scene) { s.opts.WAL = s.opts.Path + "x" }, fs.ErrNotExist},
		{"a folder", func(s *scene) { s.opts.Path = s.dir }, salvage.ErrInput},
		{"two WALs", func(s *scene) { s.opts.Path += "-wal"; s.opts.WAL = s.opts.Path }, salvage.ErrInput},
		{"two databases", func(s *scene) { s.opts.DB = s.opts.Path }, salvage.ErrInput},
		{"one file for both", func(s *scene) { s.opts.WAL = s.opts.Path }, salvage.ErrInput},
		{"an unknown kind", func(s *scene) { s.opts.Take = "best" }, salvage.ErrInput},
		{"a kind that is not there", func(s *scene) { s.opts.Take = salvage.KindFrames }, salvage.ErrInput},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := set(t, f)
			c.set(s)
			before := s.look()
			_, err := salvage.Run(t.Context(), s.opts)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if after := s.look(); len(after) != len(before) {
				t.Errorf("%v", after)
			}
			if b, err := os.ReadFile(s.opts.Output); err == nil && string(b) != "mine" {
				t.Error("the output was touched")
			}
		})
	}
}

func (s *scene) write(path string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(10)
	f := w.files()
	f.zero(w.ends[3]+1, w.ends[3]+1)
	s := set(t, f)
	s.opts.Take = salvage.KindIntact
	rep, got := s.run()
	same(t, "contents", got, w.after(10))
	if rep.Best().Kind != salvage.KindIntact || rep.Verdict != salvage.Lost || rep.Find(salvage.KindProven).Output != "" {
		t.Errorf("%v %+v", kinds(rep), rep.Best())
	}
}

func TestNothing(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]files{
		"zeros":      {make([]byte, 64<<10), make([]byte, 64<<10)},
		"empty":      {[]byte{}, nil},
		"both empty": {[]byte{}, []byte{}},
		"a byte":     {[]byte{1}, []byte{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := set(t, f)
			rep, err := s.try()
			if !errors.Is(err, salvage.ErrNothing) || rep == nil || rep.Verdict != salvage.Nothing {
				t.Errorf("%+v %v", rep, err)
			}
			if _, err := os.Stat(s.opts.Output); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the output: %v", err)
			}
		})
	}
}

// TestPageSize has a database of which only leaves are left: nothing tells their size but the
// option or the pages themselves.
func TestPageSize(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	b := slices.Clone(w.files().db)
	clear(b[:2*page])
	for name, size := range map[string]int{"guessed": 0, "given": page} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := set(t, files{db: b})
			s.opts.PageSize = wal.PageSize(size)
			rep, err := s.try()
			if err != nil {
				t.Fatal(err)
			}
			if best := rep.Best(); rep.Database.PageSize != page || !best.Rebuilt || best.LostAndFound < 40 {
				t.Errorf("%+v %+v", rep.Database, best)
			}
		})
	}
}

// TestCancel stops it at each progress that it tells of: whatever it was doing, nothing is left.
func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(4)
	f := w.files()
	for n, more := 1, true; more; n += 7 {
		ctx, cancel := context.WithCancel(t.Context())
		s := set(t, f)
		calls := 0
		s.opts.Progress = func(done, total int64) {
			if done > total {
				t.Errorf("%d of %d", done, total)
			}
			if calls++; calls == n {
				cancel()
			}
		}
		_, err := salvage.Run(ctx, s.opts)
		more = errors.Is(err, context.Canceled)
		if !more && err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(filepath.Dir(s.opts.Output))
		if err != nil || more && len(names) > 0 {
			t.Errorf("after %d: %v %v", n, names, err)
		}
		cancel()
	}
}

func TestWALOf(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(1)
	s := set(t, w.files())
	for _, path := range []string{s.opts.Path, s.opts.Path + "-wal"} {
		if got, err := salvage.WALOf(path); got != s.opts.Path+"-wal" || err != nil {
			t.Errorf("%s: %s %v", path, got, err)
		}
	}
	if _, err := salvage.WALOf(set(t, files{db: w.files().db}).opts.Path); !errors.Is(err, salvage.ErrInput) {
		t.Error(err)
	}
}
