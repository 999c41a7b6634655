package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tidemark/wal"
)

// damage overwrites the WAL of the crashed copy where S49 begins, and shows
// what SQLite makes of it. Each reader gets a copy of its own, since the first
// that opens a damaged database moves what it can read into the database file
// and deletes the WAL, and with it the last trace of the rest.
func (s *story) damage(ctx context.Context) error {
	crashed := s.path(filepath.Join("crash", databaseName))
	if err := copyFiles(crashed, s.path("undamaged")); err != nil {
		return err
	}
	if err := s.expectLast(ctx, "undamaged", sessions); err != nil {
		return err
	}
	cut, err := findCut(crashed + "-wal")
	if err != nil {
		return err
	}
	if want := int(s.base) + sessions; cut.commits != want {
		return fmt.Errorf("the WAL holds %d commits whole; it should hold %d", cut.commits, want)
	}
	if cut.open == 0 {
		return fmt.Errorf("the WAL holds nothing of S%d: the kill came too late or too early", sessions+1)
	}
	s.say("The WAL that it left holds %d commits whole, the tables' and S1 to S%d, and %d pages of S%d that no commit follows.",
		cut.commits, sessions, cut.open, sessions+1)
	if err := overwrite(crashed+"-wal", cut.offset); err != nil {
		return err
	}
	s.say("16 bytes of the WAL's copy were overwritten, in the frame at which S%d begins.", sessions-lost+1)
	for _, reader := range []string{"sqlite-go", "sqlite3-shell"} {
		if err := copyFiles(crashed, s.path(reader)); err != nil {
			return err
		}
	}
	if err := s.expectLast(ctx, "sqlite-go", sessions-lost); err != nil {
		return err
	}
	s.say("SQLite opens the damaged copy without complaint and shows S%d as the last session:", sessions-lost)
	shell, err := s.askShell(ctx, "sqlite3-shell")
	if err != nil {
		return err
	}
	s.line("    S%d and S%d are gone%s.", sessions-1, sessions, shell)
	return nil
}

// expectLast opens a copy as any application would and checks its last
// session.
func (s *story) expectLast(ctx context.Context, folder string, want int) error {
	names, err := readNames(ctx, s.path(filepath.Join(folder, databaseName)))
	if err != nil {
		return err
	}
	if len(names) != want || names[want-1] != session(want) {
		return fmt.Errorf("SQLite shows %d sessions in the copy %s, up to %s; it should show %d", len(names), folder, last(names), want)
	}
	return nil
}

// askShell asks the sqlite3 shell too, if there is one, and says so.
func (s *story) askShell(ctx context.Context, folder string) (string, error) {
	shell, err := exec.LookPath("sqlite3")
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil // the library has answered
	}
	if err != nil {
		return "", fmt.Errorf("find the sqlite3 shell: %w", err)
	}
	cmd := exec.CommandContext(ctx, shell, "-batch", "-init", os.DevNull, s.path(filepath.Join(folder, databaseName)),
		"SELECT name FROM sessions ORDER BY rowid DESC LIMIT 1")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask the sqlite3 shell: %w", err)
	}
	if got, want := strings.TrimSpace(string(out)), session(sessions-lost); got != want {
		return "", fmt.Errorf("the sqlite3 shell shows %s as the last session of the damaged copy, not %s", got, want)
	}
	return ", and the sqlite3 shell agrees", nil
}

// cut is where a WAL is damaged.
type cut struct {
	offset  int64  // of the frame with which the lost sessions begin
	commits int    // the whole commits
	open    uint32 // the frames after the last of them
}

// findCut finds the frame at which the last sessions begin: the last commits
// of the WAL are theirs.
func findCut(path string) (c cut, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("read the WAL: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	header, err := wal.ReadHeader(f)
	if err != nil {
		return c, fmt.Errorf("read the WAL: %w", err)
	}
	var commits []wal.Commit
	r := wal.NewReader(f, header, header.Start())
	for {
		commit, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, fmt.Errorf("read the WAL: %w", err)
		}
		commits = append(commits, commit)
	}
	if len(commits) < lost {
		return c, fmt.Errorf("the WAL holds %d commits; the last %d sessions should be among them", len(commits), lost)
	}
	c.commits = len(commits)
	c.offset = header.Offset(commits[len(commits)-lost].Start.Frame + 1)
	c.open, err = countOpen(f, header, r.Position())
	return c, err
}

// countOpen counts the generation's frames after its last commit.
func countOpen(src io.ReaderAt, header wal.Header, from wal.Position) (uint32, error) {
	for n := uint32(0); ; n++ {
		var b [wal.FrameHeaderSize]byte
		_, err := src.ReadAt(b[:], header.Offset(from.Frame+n+1))
		switch {
		case errors.Is(err, io.EOF), err == nil && wal.ParseFrameHeader(b[:]).Salts != header.Salts:
			return n, nil
		case err != nil:
			return 0, fmt.Errorf("read the WAL: %w", err)
		}
	}
}

// overwrite replaces the salts and checksums of a frame's header.
func overwrite(path string, frame int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("damage the WAL: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt([]byte("\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef"), frame+8); err != nil {
		return fmt.Errorf("damage the WAL: %w", err)
	}
	return nil
}

// compare holds a restored database against what the recorder acknowledged:
// the first n sessions, whole, and nothing else.
func (s *story) compare(ctx context.Context, name string, n int) (err error) {
	db, err := openDatabase(s.path(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var check string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		return errors.Join(fmt.Errorf("%s: integrity_check says %q", name, check), err)
	}
	var found, strays int
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM sessions),
		(SELECT count(*) FROM trades WHERE session NOT IN (SELECT name FROM sessions))`).Scan(&found, &strays)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if found != n || strays != 0 {
		return fmt.Errorf("%s holds %d sessions and %d trades of no session; it should hold %d and none", name, found, strays, n)
	}
	for i := 1; i <= n; i++ {
		digest, err := digestSession(ctx, db, session(i))
		if err != nil {
			return err
		}
		if digest != s.digests[session(i)] {
			return fmt.Errorf("%s: %s is not what the recorder acknowledged", name, session(i))
		}
	}
	return nil
}

// readNames gives the names of the sessions, in the order in which they were
// written.
func readNames(ctx context.Context, path string) (names []string, err error) {
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, "SELECT name FROM sessions ORDER BY rowid")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { _ = rows.Close() }() // Err below tells of a failure
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func last(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return names[len(names)-1]
}
