package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// shell is the sqlite3 command as an application: it reads statements from its
// standard input, as fast as it can carry them out.
type shell struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	buf    *bufio.Writer
	out    *bufio.Scanner
	stderr *strings.Builder
	ledger *ledger
}

// shellWriter starts the sqlite3 command, or skips the test.
func shellWriter(t *testing.T, db string) *shell {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("there is no sqlite3 command")
	}
	s := &shell{cmd: exec.CommandContext(t.Context(), path, "-batch", "-bail", db), stderr: new(strings.Builder), ledger: newLedger(2)}
	s.cmd.Stderr = s.stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.in, s.buf, s.out = in, bufio.NewWriter(in), bufio.NewScanner(out)
	t.Cleanup(func() {
		if s.in != nil { // the test failed
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	})
	t.Logf("the shell's SQLite is %s", s.ask(t, ".timeout 20000\nPRAGMA synchronous=NORMAL;\nSELECT count(*) FROM oracle;\nSELECT sqlite_version();\n"))
	return s
}

// ask gives statements and waits until they were carried out; it returns the
// last line that they printed.
func (s *shell) ask(t *testing.T, statements string) string {
	t.Helper()
	lines := s.askAll(t, statements)
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// askAll does so and returns all lines that were printed since it was asked last.
func (s *shell) askAll(t *testing.T, statements string) (lines []string) {
	t.Helper()
	const end = "that was all"
	if _, err := s.buf.WriteString(statements + ".print " + end + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.buf.Flush(); err != nil {
		t.Fatalf("shell: %v\n%s", err, s.stderr.String())
	}
	for s.out.Scan() {
		if s.out.Text() == end {
			return lines
		}
		lines = append(lines, s.out.Text())
	}
	err := s.cmd.Wait()
	t.Fatalf("shell: it ended: %v\n%s", err, s.stderr.String())
	return nil
}

// run commits for some time. What is in the pipe then is carried out too.
func (s *shell) run(t *testing.T, d time.Duration) (commits int64) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := s.feed(); err != nil {
			t.Fatalf("shell: %v\n%s", err, s.stderr.String())
		}
	}
	s.ask(t, "")
	return s.ledger.n
}

// churn commits and checkpoints for some time, and tells how many of the
// checkpoints gave up.
func (s *shell) churn(t *testing.T, d time.Duration) (commits, gaveUp int64) {
	t.Helper()
	// The checkpoints' answers must be read before they fill the pipe.
	const timeout, checkpointsAtOnce = 2000, 10
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range checkpointsAtOnce {
			for range s.ledger.rng.IntN(800) {
				if err := s.feed(); err != nil {
					t.Fatalf("shell: %v\n%s", err, s.stderr.String())
				}
			}
			mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[s.ledger.rng.IntN(4)]
			_, _ = fmt.Fprintf(s.buf, ".timeout %d\nPRAGMA wal_checkpoint(%s);\n.timeout 20000\n", timeout, mode) // Flush tells
		}
		for _, answer := range s.askAll(t, "") {
			if strings.HasPrefix(answer, "1|") {
				gaveUp++
			}
		}
	}
	return s.ledger.n, gaveUp
}

func (s *shell) feed() error {
	n, changes, digest := s.ledger.next()
	var b strings.Builder
	b.WriteString("BEGIN IMMEDIATE;\n")
	for _, c := range changes {
		switch c.query {
		case insertRow:
			fmt.Fprintf(&b, "INSERT INTO data(id, k, v) VALUES(%d, '%s', x'%x');\n", c.id, c.k, c.v)
		case updateRow:
			fmt.Fprintf(&b, "UPDATE data SET k = '%s', v = x'%x' WHERE id = %d;\n", c.k, c.v, c.id)
		case deleteRow:
			fmt.Fprintf(&b, "DELETE FROM data WHERE id = %d;\n", c.id)
		}
	}
	fmt.Fprintf(&b, "INSERT INTO oracle(n, digest) VALUES(%d, '%s');\nCOMMIT;\n", n, digest)
	_, err := s.buf.WriteString(b.String())
	return err
}

func (s *shell) checkpoint(t *testing.T) {
	t.Helper()
	if got := s.ask(t, "PRAGMA wal_checkpoint(TRUNCATE);\n"); !strings.HasPrefix(got, "0|") {
		t.Fatalf("shell: the checkpoint was blocked: %s", got)
	}
}

func (s *shell) close(t *testing.T) {
	t.Helper()
	err := s.in.Close()
	s.in = nil
	if err = errors.Join(err, s.cmd.Wait()); err != nil {
		t.Fatalf("shell: %v\n%s", err, s.stderr.String())
	}
}
