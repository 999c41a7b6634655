package integration_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/integration/child"
)

// writer is an application: a process of its own that keeps a ledger in a
// database. It obeys commands, a line each, and answers each with the number of
// transactions that it has committed so far:
//
//	write N        commit N transactions
//	run SECONDS    commit as fast as possible for so long
//	start [MICROS] answer at once, and commit until the next command, with a pause
//	               after each commit
//	stop           do nothing
//	longest        answer how many microseconds a commit has taken at most since
//	               this was asked last
//	p99            answer how many microseconds 99 of 100 commits have taken at most
//	               since this was asked last
//	churn SECONDS  as run, with an explicit checkpoint of some mode every now and
//	               then; answer how many of them gave up
//	checkpoint     PRAGMA wal_checkpoint(TRUNCATE), which must not be blocked
//
// Only the Go writer knows start, stop, longest and p99, only Python's knows churn. At
// the end of its input it closes the database and ends. A Go writer goes on with
// the ledger that it finds.
type writer struct {
	cmd            *exec.Cmd
	*child.Process // it ends with this one
	in             io.WriteCloser
	out            *bufio.Scanner
	stderr         *strings.Builder
	// acks is a file of eight bytes: how many transactions were committed.
	acks string
	// opened is how many the database held when it was opened.
	opened int64
}

// goWriter starts a writer on modernc.org/sqlite. flags are those of
// writerRole.
func goWriter(t *testing.T, db string, flags ...string) *writer {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	acks := filepath.Join(t.TempDir(), "acks")
	cmd := exec.CommandContext(t.Context(), exe, append([]string{db, acks}, flags...)...)
	cmd.Env = append(os.Environ(), roleVariable+"=writer")
	w := startWriter(t, cmd)
	w.acks = acks
	return w
}

// pythonWriter starts a writer on Python's sqlite3, or skips the test.
func pythonWriter(t *testing.T, db string) *writer {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	probe := exec.CommandContext(t.Context(), python, "-c", "import sqlite3; print(sqlite3.sqlite_version)")
	version, err := probe.Output()
	if err != nil {
		t.Skipf("python3 has no sqlite3: %v", err)
	}
	t.Logf("Python's SQLite is %s", strings.TrimSpace(string(version)))
	return startWriter(t, exec.CommandContext(t.Context(), python, filepath.Join("testdata", "writer.py"), db))
}

func startWriter(t *testing.T, cmd *exec.Cmd) *writer {
	t.Helper()
	w := &writer{cmd: cmd, stderr: new(strings.Builder)}
	cmd.Stderr = w.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if w.Process, err = child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	w.in, w.out = in, bufio.NewScanner(out)
	t.Cleanup(func() {
		if w.in != nil { // the test failed
			_ = cmd.Process.Kill()
			<-w.Exited()
		}
	})
	w.opened = w.answer(t, "open")
	return w
}

// do gives a command and waits for its answer.
func (w *writer) do(t *testing.T, command string) (commits int64) {
	t.Helper()
	if _, err := io.WriteString(w.in, command+"\n"); err != nil {
		t.Fatalf("writer: %s: %v", command, err)
	}
	return w.answer(t, command)
}

func (w *writer) answer(t *testing.T, command string) int64 {
	t.Helper()
	if !w.out.Scan() {
		_ = w.cmd.Process.Kill() // It has ended, or it is of no use any more.
		<-w.Exited()
		t.Fatalf("writer: %s: it ended: %v\n%s", command, w.Err(), w.stderr.String())
	}
	n, err := strconv.ParseInt(w.out.Text(), 10, 64)
	if err != nil {
		t.Fatalf("writer: %s: %v", command, err)
	}
	return n
}

func (w *writer) write(t *testing.T, n int) int64 {
	t.Helper()
	return w.do(t, "write "+strconv.Itoa(n))
}

func (w *writer) run(t *testing.T, d time.Duration) int64 {
	t.Helper()
	return w.do(t, "run "+strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
}

// churn commits and checkpoints as fast as possible for so long.
func (w *writer) churn(t *testing.T, d time.Duration) (commits, gaveUp int64) {
	t.Helper()
	gaveUp = w.do(t, "churn "+strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
	return w.write(t, 0), gaveUp
}

// checkpoint empties the WAL: the database file holds everything.
func (w *writer) checkpoint(t *testing.T) {
	t.Helper()
	w.do(t, "checkpoint")
}

// close ends the process.
func (w *writer) close(t *testing.T) {
	t.Helper()
	err := w.in.Close()
	w.in = nil
	<-w.Exited()
	if err = errors.Join(err, w.Err()); err != nil {
		t.Fatalf("writer: %v\n%s", err, w.stderr.String())
	}
}

// signal sends the process a signal.
func (w *writer) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal the writer: %v: it ended: %v\n%s", err, w.Err(), w.stderr.String())
	}
}

// kill ends the process in no order, and tells how many transactions were
// committed for sure. There can be one more.
func (w *writer) kill(t *testing.T) (acked int64) {
	t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill the writer: %v: it ended: %v\n%s", err, w.Err(), w.stderr.String())
	}
	<-w.Exited()
	_ = w.in.Close() // nobody reads it any more
	w.in = nil
	return w.acked(t)
}

// acked tells, at any time, how many transactions were committed.
func (w *writer) acked(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(w.acks)
	if err != nil {
		t.Fatal(err)
	}
	return int64(binary.BigEndian.Uint64(b))
}

// writerRole is the Go writer's process: args are the database, the file for
// acks, and pragmas as "name(value)".
func writerRole(args []string) (err error) {
	ctx := context.Background()
	pragmas := append([]string{"busy_timeout(20000)", "synchronous(NORMAL)"}, args[2:]...)
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(args[0])+"?_pragma="+strings.Join(pragmas, "&_pragma="))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	acks, err := os.Create(args[1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, acks.Close()) }()
	l, err := resumeLedger(ctx, conn)
	if err != nil {
		return err
	}
	s := scribe{conn: conn, ledger: l, acks: acks, stmts: map[string]*sql.Stmt{}}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Println(s.ledger.n) //nolint:forbidigo // the protocol
	return s.obey(ctx, os.Stdin)
}

// scribe commits a ledger's transactions.
type scribe struct {
	conn   *sql.Conn
	ledger *ledger
	acks   *os.File
	stmts  map[string]*sql.Stmt
	// longest is what a commit has taken at most.
	longest time.Duration
	// took is how long each has taken.
	took []time.Duration
}

func (s *scribe) prepare(ctx context.Context) error {
	for _, q := range []string{insertRow, updateRow, deleteRow, insertOracle, "BEGIN IMMEDIATE", "COMMIT"} {
		stmt, err := s.conn.PrepareContext(ctx, q) //nolint:sqlclosecheck // closed by close
		if err != nil {
			return err
		}
		s.stmts[q] = stmt
	}
	return s.ack()
}

func (s *scribe) close() error {
	var err error
	for _, stmt := range s.stmts {
		err = errors.Join(err, stmt.Close())
	}
	return err
}

// obey reads commands. Between them it commits while it is told to.
func (s *scribe) obey(ctx context.Context, in io.Reader) error {
	lines := make(chan string, 1)
	ended, end := context.WithCancel(ctx)
	go func() {
		defer close(lines)
		defer end()
		for sc := bufio.NewScanner(in); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	for line := range lines {
		if err := s.do(ctx, line); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		command, arg, _ := strings.Cut(line, " ")
		pause, _ := strconv.Atoi(arg)
		for command == "start" && len(lines) == 0 && ended.Err() == nil {
			if err := s.commit(ctx); err != nil {
				return err
			}
			if pause > 0 {
				<-time.After(time.Duration(pause) * time.Microsecond)
			}
		}
	}
	return nil
}

func (s *scribe) do(ctx context.Context, line string) error {
	command, arg, _ := strings.Cut(line, " ")
	var err error
	switch command {
	case "start", "stop":
	case "longest":
		_, err = fmt.Println(s.longest.Microseconds()) //nolint:forbidigo // the protocol
		s.longest = 0
		return err
	case "p99":
		_, err = fmt.Println(s.percentile(99).Microseconds()) //nolint:forbidigo // the protocol
		return err
	case "write":
		n, _ := strconv.Atoi(arg)
		for i := 0; i < n && err == nil; i++ {
			err = s.commit(ctx)
		}
	case "run":
		seconds, _ := strconv.ParseFloat(arg, 64)
		end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
		for time.Now().Before(end) && err == nil {
			err = s.commit(ctx)
		}
	case "checkpoint":
		var busy, frames, done int
		err = s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done)
		if busy != 0 {
			err = errors.Join(err, errors.New("the checkpoint was blocked"))
		}
	default:
		err = errors.New("unknown command")
	}
	if err == nil {
		_, err = fmt.Println(s.ledger.n) //nolint:forbidigo // the protocol
	}
	return err
}

func (s *scribe) commit(ctx context.Context) error {
	start := time.Now()
	defer func() {
		s.longest = max(s.longest, time.Since(start))
		s.took = append(s.took, time.Since(start))
	}()
	if _, err := s.stmts["BEGIN IMMEDIATE"].ExecContext(ctx); err != nil {
		return err
	}
	n, changes, digest := s.ledger.next()
	for _, c := range changes {
		if _, err := s.stmts[c.query].ExecContext(ctx, c.args()...); err != nil {
			return err
		}
	}
	if _, err := s.stmts[insertOracle].ExecContext(ctx, n, digest); err != nil {
		return err
	}
	if _, err := s.stmts["COMMIT"].ExecContext(ctx); err != nil {
		return err
	}
	return s.ack()
}

// percentile is how long so many of a hundred commits have taken at most. It begins
// anew.
func (s *scribe) percentile(of int) (d time.Duration) {
	slices.Sort(s.took)
	if len(s.took) > 0 {
		d = s.took[(len(s.took)-1)*of/100]
	}
	s.took = nil
	return d
}

func (s *scribe) ack() error {
	_, err := s.acks.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(s.ledger.n)), 0)
	return err
}
