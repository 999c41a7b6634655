package demo

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
)

const databaseName = "records.db"

// The recorder's protocol, one line each way:
//
//	write S7   ->  written S7 <digest of what was committed>
//	open S51   ->  open S51    (a transaction is open and partly in the WAL)
const schema = `
BEGIN;
CREATE TABLE sessions (name TEXT PRIMARY KEY, desk TEXT NOT NULL, trades INTEGER NOT NULL);
CREATE TABLE trades (
	id INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions (name),
	instrument TEXT NOT NULL, side TEXT NOT NULL, quantity INTEGER NOT NULL, cents INTEGER NOT NULL
);
CREATE INDEX trades_by_session ON trades (session);
COMMIT;`

// session is the name of the n-th session.
func session(n int) string { return fmt.Sprintf("S%d", n) }

// openDatabase opens a database with one connection.
func openDatabase(path string) (*sql.DB, error) {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // a drive letter
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: slashed}).String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// runRecorder is the recorder's process: it makes the database and then does
// what its input says until that ends.
func runRecorder(ctx context.Context, in io.Reader, out io.Writer, path string) (err error) {
	db, err := openDatabase(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// A small cache makes a large transaction reach the WAL before it ends.
	for _, stmt := range []string{"PRAGMA journal_mode = WAL", "PRAGMA cache_size = 10", schema} {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("make the database: %w", err)
		}
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		verb, name, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "write":
			err = writeSession(ctx, db, out, name)
		case "open":
			return leaveOpen(ctx, db, in, out, name)
		default:
			err = fmt.Errorf("unknown request %q", lines.Text())
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// writeSession commits one session and then, not before, acknowledges it.
func writeSession(ctx context.Context, db *sql.DB, out io.Writer, name string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin %s: %w", name, err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := insertSession(ctx, tx, name, 5+len(name)); err != nil {
		return err
	}
	digest, err := digestSession(ctx, tx, name)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit %s: %w", name, err)
	}
	_, err = fmt.Fprintf(out, "written %s %s\n", name, digest)
	return err
}

// leaveOpen writes enough of a session that part of it is in the WAL, and then
// waits, in the middle of the transaction, for an end that never comes.
func leaveOpen(ctx context.Context, db *sql.DB, in io.Reader, out io.Writer, name string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin %s: %w", name, err)
	}
	defer func() { _ = tx.Rollback() }() // the story kills the process before
	if err := insertSession(ctx, tx, name, 5000); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "open %s\n", name); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

func insertSession(ctx context.Context, tx *sql.Tx, name string, trades int) error {
	if _, err := tx.ExecContext(ctx, "INSERT INTO sessions VALUES (?, 'rates', ?)", name, trades); err != nil {
		return fmt.Errorf("insert %s: %w", name, err)
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO trades (session, instrument, side, quantity, cents) VALUES (?, ?, ?, ?, ?)")
	if err != nil {
		return fmt.Errorf("insert trades of %s: %w", name, err)
	}
	defer func() { _ = insert.Close() }() // the transaction's end closes it too
	for i := range trades {
		instrument, side := "BUND-"+name, "buy"
		if i%2 == 1 {
			side = "sell"
		}
		if _, err := insert.ExecContext(ctx, name, instrument, side, 10*(i+1), 13105+7*i); err != nil {
			return fmt.Errorf("insert trades of %s: %w", name, err)
		}
	}
	return nil
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// digestSession gives a digest of everything that was recorded of a session.
func digestSession(ctx context.Context, q querier, name string) (string, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT s.name || '|' || s.desk || '|' || s.trades || '|' || t.id || '|' || t.instrument || '|' || t.side
			|| '|' || t.quantity || '|' || t.cents
		FROM sessions s JOIN trades t ON t.session = s.name WHERE s.name = ? ORDER BY t.id`, name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = rows.Close() }() // Err below tells of a failure
	h := sha256.New()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
		_, _ = io.WriteString(h, row+"\n") // a hash never fails
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// recorder is the recorder's process as the story sees it.
type recorder struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startRecorder returns when the database is made.
func (s *story) startRecorder(ctx context.Context) (*recorder, error) {
	cmd, err := s.opts.Helper(ctx, helpRecord, s.path(databaseName))
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the recorder: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the recorder: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the recorder: %w", err)
	}
	r := &recorder{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	if err := r.expect("ready"); err != nil {
		r.kill()
		return nil, err
	}
	return r, nil
}

func (r *recorder) pid() int { return r.cmd.Process.Pid }

// kill ends the process at once (SIGKILL where there are signals) and waits
// until it is gone. It can be called again.
func (r *recorder) kill() {
	_ = r.cmd.Process.Kill() // gone already: that is what is wanted
	_ = r.cmd.Wait()         // says that it was killed
}

// write has a session committed and gives the digest that was acknowledged.
func (r *recorder) write(name string) (digest string, err error) {
	if _, err := fmt.Fprintf(r.in, "write %s\n", name); err != nil {
		return "", fmt.Errorf("ask the recorder for %s: %w", name, err)
	}
	line, err := r.answer()
	if err != nil {
		return "", err
	}
	digest, ok := strings.CutPrefix(line, "written "+name+" ")
	if !ok {
		return "", fmt.Errorf("the recorder answered %q to write %s", line, name)
	}
	return digest, nil
}

// ask has something done that is answered by the request itself.
func (r *recorder) ask(verb, name string) error {
	request := verb + " " + name
	if _, err := fmt.Fprintln(r.in, request); err != nil {
		return fmt.Errorf("ask the recorder to %s: %w", request, err)
	}
	return r.expect(request)
}

func (r *recorder) expect(want string) error {
	line, err := r.answer()
	if err == nil && line != want {
		err = fmt.Errorf("the recorder answered %q, want %q", line, want)
	}
	return err
}

func (r *recorder) answer() (string, error) {
	if r.out.Scan() {
		return r.out.Text(), nil
	}
	return "", fmt.Errorf("the recorder has ended: %w", errors.Join(r.out.Err(), io.ErrUnexpectedEOF))
}
