package source_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"tidemark/wal"
)

// index reads a wal-index through a descriptor that is closed when the test
// ends: SQLite's locks hang on that.
func index(t *testing.T, path string) func() wal.Index {
	t.Helper()
	f, err := os.Open(path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return func() wal.Index {
		t.Helper()
		b := make([]byte, wal.IndexSize)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		h, err := wal.ParseIndex(b)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

// The wal-index counts every transaction that writes a frame, whoever makes it,
// whether the WAL restarts or is truncated in between, and nothing else.
func TestFactChanges(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	other := connect(t, path)
	look := index(t, path)
	for name, step := range map[string]struct {
		do      func()
		commits uint32
	}{
		"a commit":          {func() { app.insert(1) }, 1},
		"commits of both":   {func() { app.insert(2); other.insert(3) }, 5},
		"nothing":           {func() { app.exec("BEGIN IMMEDIATE"); app.end() }, 0},
		"a rollback":        {func() { app.exec("BEGIN"); app.insert(3); app.end() }, 0},
		"one of many":       {func() { app.exec("BEGIN"); app.insert(9); app.exec("COMMIT") }, 1},
		"one that is empty": {func() { app.exec("BEGIN IMMEDIATE"); app.exec("COMMIT") }, 0},
		"spilled": {func() {
			app.exec("PRAGMA cache_size=2")
			app.exec("BEGIN")
			app.insert(300)
			app.exec("COMMIT")
		}, 1},
		"spilled, and rolled back": {func() {
			app.exec("PRAGMA cache_size=2")
			app.exec("BEGIN")
			app.insert(300)
			app.end()
		}, 0},
		"VACUUM":           {func() { app.exec("VACUUM") }, 1},
		"PASSIVE":          {func() { app.insert(1); app.checkpoint("PASSIVE"); other.insert(1) }, 2},
		"RESTART":          {func() { app.insert(1); app.checkpoint("RESTART"); other.insert(1) }, 2},
		"TRUNCATE":         {func() { app.insert(1); app.checkpoint("TRUNCATE"); other.insert(1); app.insert(1) }, 3},
		"TRUNCATE, nobody": {func() { app.checkpoint("TRUNCATE") }, 0},
		"read":             {func() { app.read(); app.end() }, 0},
	} {
		before := look()
		step.do()
		if got := look().Changes - before.Changes; got != step.commits {
			t.Errorf("%s: counted %d commits, want %d", name, got, step.commits)
		}
		if got, want := look().Frames, uint32(app.checkpoint("NOOP").Frames); got != want {
			t.Errorf("%s: %d frames count, SQLite says %d", name, got, want)
		}
	}
	app.insert(1)
	if got, want := look().Salts, header(t, path).Salts; got != want {
		t.Errorf("salts %v, the WAL has %v", got, want)
	}
}

// The wal-index tells whether anything of the WAL has been copied since it
// restarted: until the first attempt, and after a reader has kept a checkpoint from
// all of it, and as long as somebody has the database open.
func TestUncopied(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	other := connect(t, path)
	db := open(t, path)
	restart := func() {
		app.checkpoint("RESTART")
		app.insert(2)
	}
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"restarted", restart, true},
		{"written to", func() { app.insert(3); other.insert(1) }, true},
		{"a checkpoint that finds nothing to do", func() { app.checkpoint("NOOP") }, true},
		{"checkpointed", func() { app.checkpoint("PASSIVE") }, false},
		{"restarted again", restart, true},
		{"copied in part", func() { other.read(); app.insert(2); app.checkpoint("PASSIVE"); other.end() }, false},
		{"truncated", func() { app.checkpoint("TRUNCATE"); app.insert(1) }, true},
	} {
		step.do()
		if got := db.Uncopied(attach(t, db).Header.Salts); got != step.want {
			t.Errorf("%s: %t", step.name, got)
		}
		db.Release(t.Context())
	}
	attach(t, db)
	if now := header(t, path).Salts; !db.Uncopied(now) {
		t.Error("nothing was copied")
	} else if stamp(t, path, 3_015_002); db.Uncopied(now) {
		t.Error("an old SQLite would not have told")
	}
	if db.Uncopied(wal.Salts{Salt1: 1}) {
		t.Error("of another generation")
	}
}

// stamp has a database say which SQLite wrote it. The descriptor is closed at the end.
func stamp(t *testing.T, path string, version uint32) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteAt(binary.BigEndian.AppendUint32(nil, version), 96); err != nil {
		t.Fatal(err)
	}
}

// Of a WAL whose index was lost nobody can tell what was copied.
func TestUncopiedRecovered(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.checkpoint("RESTART")
	app.insert(3)
	copied := filepath.Join(t.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(copied+suffix, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again := connect(t, copied)
	again.insert(1) // which recovers, and counts
	db := open(t, copied)
	if db.Uncopied(attach(t, db).Header.Salts) {
		t.Error("the index was recovered")
	}
}
