package check_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"tidemark/replica/check"
)

// frame is the length of a frame in the WAL of the tests' databases.
const frame = 24 + 4096

// What is wrong is found, called by its name, and left as it is.
func TestDamage(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells that nobody has it open")
	}
	for name, c := range map[string]struct {
		role   string
		damage func(t *testing.T, path string)
		want   []string
		// id and says are an item and a part of its text.
		id   check.ID
		says string
	}{
		"empty": {
			"closed", truncated("", 0),
			[]string{"fail header"},
			check.Header, "empty",
		},
		"empty beside a WAL": {
			"killed", truncated("", 0),
			[]string{"fail header"},
			check.Header, "app.db-wal is not",
		},
		"no header": {
			"closed", patched("", 0, 16, 0),
			[]string{"fail header"},
			check.Header, "does not begin with SQLite's header",
		},
		"an impossible page size": {
			"closed", patched("", 16, 2, 3),
			[]string{"fail header"},
			check.Header, "page size 771",
		},
		"WAL2": {
			"closed", patched("", 18, 2, 3),
			[]string{"fail header"},
			check.Header, "WAL2",
		},
		"reserved bytes": {
			"closed", patched("", 72, 1, 1),
			[]string{"warn header"},
			check.Header, "72 to 91",
		},
		"cut to half": {
			"closed", truncated("", 4096*150),
			[]string{"fail size", "fail integrity"},
			check.Size, "it was cut off",
		},
		"half a page more": {
			"closed", appended("", 1000),
			[]string{"warn size"},
			check.Size, "1000 bytes after",
		},
		"a page of zeros": {
			"closed", patched("", 4096*50, 4096, 0),
			[]string{"fail integrity"},
			check.Integrity, "integrity_check: ",
		},
		"a damaged frame before later commits": {
			"killed", patched("-wal", 32+6*frame+100, 64, 0xaa),
			[]string{"fail wal"},
			check.WAL, "frame 7 of ",
		},
		"a damaged frame that ends the WAL": {
			"killed", func(t *testing.T, path string) {
				t.Helper()
				info, err := os.Stat(path + "-wal")
				if err != nil {
					t.Fatal(err)
				}
				patch(t, path+"-wal", info.Size()-100, []byte("damage"))
			},
			[]string{"fail wal"},
			check.WAL, "is damaged before the end of a later commit",
		},
		"a damaged header of the WAL": {
			"killed", patched("-wal", 8, 4, 7),
			[]string{"fail wal"},
			check.WAL, "the header of ",
		},
		"a WAL of zeros": {
			"killed", func(t *testing.T, path string) {
				t.Helper()
				truncated("-wal", 0)(t, path)
				appended("-wal", 1<<20)(t, path)
			},
			[]string{"fail wal"},
			check.WAL, "is no WAL",
		},
		"a WAL that is cut": {
			"killed", truncated("-wal", 32+5*frame+77),
			[]string{"warn wal"},
			check.WAL, "is whole",
		},
		"a WAL of another database": {
			"closed", func(t *testing.T, path string) {
				t.Helper()
				other := filepath.Join(t.TempDir(), "other.db")
				run(t, "other", other)
				copyTo(t, path+"-wal", other+"-wal")
			},
			[]string{"warn wal", "fail size", "fail integrity"},
			check.Integrity, "without its WAL the database is whole",
		},
		"a WAL with other pages": {
			"closed", func(t *testing.T, path string) {
				t.Helper()
				other := filepath.Join(t.TempDir(), "other.db")
				run(t, "wide", other)
				copyTo(t, path+"-wal", other+"-wal")
			},
			[]string{"fail wal"},
			check.WAL, "its pages have 8192 bytes, the database's 4096",
		},
		"a WAL beside a database that has none": {
			"rollback", func(t *testing.T, path string) {
				t.Helper()
				other := filepath.Join(t.TempDir(), "other.db")
				run(t, "killed", other)
				copyTo(t, path+"-wal", other+"-wal")
			},
			[]string{"warn journal-mode", "fail wal"},
			check.WAL, "not in WAL mode",
		},
		"a -shm alone": {
			"closed", appended("-shm", 32768),
			[]string{"warn shm"},
			check.SharedMemory, "without a WAL",
		},
		"a journal that is over": {
			"closed", appended("-journal", 512),
			nil, check.Journal, "not in use",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "app.db")
			run(t, c.role, path)
			c.damage(t, path)
			before := sight(t, dir)
			items := checked(t, check.Options{Path: path})
			wantBad(t, items, c.want...)
			if i := item(t, items, c.id); !strings.Contains(i.Finding, c.says) {
				t.Errorf("%+v; want %q", i, c.says)
			}
			wantUntouched(t, before, sight(t, dir))
		})
	}
}

func patched(suffix string, at int64, n int, with byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		patch(t, path+suffix, at, []byte(strings.Repeat(string([]byte{with}), n)))
	}
}

func truncated(suffix string, size int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.Truncate(path+suffix, size); err != nil {
			t.Fatal(err)
		}
	}
}

func appended(suffix string, n int) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		f, err := os.OpenFile(path+suffix, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
