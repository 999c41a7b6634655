package check_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"tidemark/replica/check"
	"tidemark/replica/source/netfs"
)

// Each state that an application leaves behind, whole, is no reason not to start, and a
// check sees it without a trace.
func TestLeavesNoTrace(t *testing.T) {
	t.Parallel()
	for role, want := range map[string][]string{
		"closed":   nil,
		"rollback": {"warn journal-mode"},
		"killed":   {"warn wal"},
		"torn":     {"warn journal-mode", "warn journal"},
	} {
		for _, quick := range []bool{true, false} {
			t.Run(role, func(t *testing.T) {
				t.Parallel()
				if runtime.GOOS != "linux" && role != "closed" && role != "rollback" {
					t.Skip("only Linux tells that nobody has it open")
				}
				dir, temp := t.TempDir(), t.TempDir()
				path := filepath.Join(dir, "app.db")
				run(t, role, path)
				before := sight(t, dir)
				items := checked(t, check.Options{Path: path, Quick: quick, TempDir: temp})
				wantBad(t, items, want...)
				wantUntouched(t, before, sight(t, dir))
				if left := names(t, temp); left != "" {
					t.Errorf("private copies are left: %s", left)
				}
				if name := item(t, items, check.Integrity).Finding; strings.HasPrefix(name, "quick_check") != quick {
					t.Errorf("quick %t: %s", quick, name)
				}
			})
		}
	}
}

// An application that has the database open and writes nothing has everything as it
// was, too.
func TestBesideIdle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	a := start(t, "idle", path)
	before := sight(t, dir)
	items := checked(t, check.Options{Path: path})
	wantBad(t, items)
	wantUntouched(t, before, sight(t, dir))
	if runtime.GOOS == "linux" {
		if got := item(t, items, check.OpenedBy).Finding; !strings.Contains(got, filepath.Base(os.Args[0])) || !strings.Contains(got, "process ") {
			t.Errorf("who has it open: %s", got)
		}
	}
	a.end(t)
}

// Nobody waits for a check: not a commit, and not a checkpoint that wants everybody out
// of the way, for which a read transaction would be one too many. Neither has a busy
// handler here, so that each would fail at once.
func TestBlocksNobody(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"writing", "checkpointing"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "app.db")
			a := start(t, role, path)
			for i := range 6 {
				items := checked(t, check.Options{Path: path, Quick: i%2 == 0, TempDir: t.TempDir()})
				wantBad(t, items)
			}
			if got := names(t, dir); got != "app.db app.db-shm app.db-wal" {
				t.Errorf("beside the database: %s", got)
			}
			if n := a.end(t); n < 10 {
				t.Errorf("%d commits only", n)
			}
		})
	}
}

// What SQLite's own way to look costs: the last connection that closes takes the WAL
// away, and with it the commits after a damaged frame.
func TestLastConnection(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	run(t, "killed", path)
	run(t, "idle", path)
	if got := names(t, filepath.Dir(path)); got != "app.db" {
		t.Fatalf("beside the database: %s; then this package can be simpler", got)
	}
}

// A folder in which nobody may write can be looked at, and that is said.
func TestReadOnlyFolder(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		t.Skip("whoever runs this may write everywhere")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	run(t, "closed", path)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	before := sight(t, dir)
	items := checked(t, check.Options{Path: path})
	wantBad(t, items, "fail permissions")
	if i := item(t, items, check.Integrity); i.Level != check.OK {
		t.Errorf("%+v", i)
	}
	wantUntouched(t, before, sight(t, dir))
	if err := os.Chmod(path, 0o000); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(path, 0o600) })
	wantBad(t, checked(t, check.Options{Path: path}), "fail permissions")
}

// A WAL that can't be read is said to be so, like a database.
func TestUnreadableWAL(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		t.Skip("whoever runs this may read everything")
	}
	path := filepath.Join(t.TempDir(), "app.db")
	run(t, "killed", path)
	if err := os.Chmod(path+"-wal", 0o000); err != nil {
		t.Fatal(err)
	}
	items := checked(t, check.Options{Path: path})
	wantBad(t, items, "fail permissions")
	if i := item(t, items, check.Permissions); !strings.Contains(i.Finding, "app.db-wal can't be read") {
		t.Errorf("%+v", i)
	}
}

// What is no database, or not there, is told apart.
func TestNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := check.Run(t.Context(), check.Options{Path: filepath.Join(dir, "app.db")}); !errors.Is(err, check.ErrNoDatabase) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := check.Run(t.Context(), check.Options{Path: dir}); err == nil || errors.Is(err, check.ErrNoDatabase) {
		t.Errorf("a folder: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	path := filepath.Join(dir, "app.db")
	run(t, "closed", path)
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	wantBad(t, checked(t, check.Options{Path: link}))
}

// A network file system is a reason not to start, unless the user says otherwise.
func TestNetwork(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	run(t, "closed", path)
	opts := check.Options{Path: path, FileSystem: func(string) (netfs.Kind, error) { return "cifs", nil }}
	wantBad(t, checked(t, opts), "fail file-system")
	opts.AllowNetworkFS = true
	wantBad(t, checked(t, opts), "warn file-system")
}

// A database or a WAL that was deleted while an application goes on writing to it is
// said, with the process.
func TestDeleted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	path := filepath.Join(t.TempDir(), "app.db")
	a := start(t, "idle", path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600), os.Remove(path+"-wal"), os.Remove(path+"-shm")); err != nil {
		t.Fatal(err)
	}
	items := checked(t, check.Options{Path: path})
	if i := item(t, items, check.OpenedBy); i.Level != check.Fail || !strings.Contains(i.Finding, "deleted") {
		t.Errorf("%+v", i)
	}
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// A database that needs an extension of its application's is not called damaged.
func TestUnknownModule(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("there is no sqlite3")
	}
	path := filepath.Join(t.TempDir(), "app.db")
	sql := "CREATE TABLE t (v); PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, 'CREATE VIRTUAL TABLE x USING unheardof(y)');"
	if out, err := exec.CommandContext(t.Context(), shell, "-cmd", ".dbconfig defensive off", path, sql).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	if got := bad(checked(t, check.Options{Path: path})); slices.Contains(got, "fail integrity") {
		t.Errorf("%v", got)
	}
}
