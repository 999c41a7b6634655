//go:build unix

package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tidemark/integration/child"
)

// execution is tidemark with a session as its command.
type execution struct {
	*process

	db, facts, out string
}

// command is the command line of a session.
func sessionCommand(t *testing.T, db, facts, temper string, code int) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("env %s=session '%s' '%s' '%s' %s %d", roleVariable, exe, db, facts, temper, code)
}

// execute begins a session. Its output goes to a file: a pipe would stay open for as long
// as the session lives, also when tidemark has ended.
func execute(t *testing.T, at place, code int) *execution {
	t.Helper()
	dir := t.TempDir()
	e := &execution{db: filepath.Join(dir, "app.db"), facts: filepath.Join(dir, "facts"), out: filepath.Join(dir, "out")}
	out, err := os.Create(e.out)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), buildProgram(t), "replicate", "--log-level", "debug", "--log-format", "json",
		"--sync-interval", "100ms", "--restore-if-missing", "--check", "--exec", sessionCommand(t, e.db, e.facts, "hasty", code), e.db, at.url)
	cmd.Stdout, cmd.Stderr = out, log
	e.process = &process{cmd: cmd, log: log.Name()}
	e.Process, err = child.Start(cmd)
	if err := errors.Join(err, out.Close(), log.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // It has ended unless the test failed, and so has the session.
		<-e.Exited()
		endSession(e.facts)
		if t.Failed() {
			t.Logf("the end of tidemark's log:\n%s", e.tail(t))
		}
	})
	return e
}

// endSession kills a session, if it lives.
func endSession(facts string) {
	if p := progressOf(facts); p.pid != 0 {
		_ = syscall.Kill(int(p.pid), syscall.SIGKILL)
	}
}

// under waits until the session has committed so often since a moment.
func (e *execution) under(t *testing.T, since progress, commits uint64) progress {
	t.Helper()
	e.eventually(t, "commits", func() bool { return progressOf(e.facts).commits >= since.commits+commits })
	return progressOf(e.facts)
}

// ends waits for tidemark's end and its exit code.
func (e *execution) ends(t *testing.T, want int) {
	t.Helper()
	<-e.Exited()
	got := 0
	var exit *exec.ExitError
	if errors.As(e.Err(), &exit) {
		got = exit.ExitCode()
	}
	if got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

// wantRows restores the replica and counts the rows; the last one must be what is said.
func wantRows(t *testing.T, at place, rows uint64, last string) {
	t.Helper()
	readHistory(t, at)
	path, err := restored(t.Context(), at.bucket, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	var n uint64
	var v string
	if err := db.QueryRowContext(t.Context(), "SELECT count(*), (SELECT v FROM rows ORDER BY n DESC LIMIT 1) FROM rows").Scan(&n, &v); err != nil {
		t.Fatal(err)
	}
	if n < rows || n > rows+1 || last != "" && (n != rows || v != last) {
		t.Errorf("the replica has %d rows, the last one is %q; want %d and %q", n, v, rows, last)
	}
}

// TestExec runs a session that makes its database, and ends it by a signal to tidemark:
// the session gets it once, its code is tidemark's, and every commit is in the replica.
// Then it goes on with a database that is restored.
func TestExec(t *testing.T) {
	t.Parallel()
	for sig, name := range map[os.Signal]string{os.Interrupt: "interrupt", syscall.SIGTERM: "terminated", syscall.SIGHUP: "hangup"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := folderPlace(t)
			e := execute(t, at, 7)
			e.under(t, progress{}, 300)
			e.resumed(t)
			e.under(t, progressOf(e.facts), 100)
			e.signal(t, sig)
			e.ends(t, 7)
			last := progressOf(e.facts)
			if got, err := os.ReadFile(e.out); err != nil || string(got) != fmt.Sprintf("%d commits\n", last.commits) {
				t.Errorf("the command's output is %q (%v)", got, err)
			}
			wantRows(t, at, last.commits, name)

			again := execute(t, at, 0) // in another folder: nothing is there
			again.under(t, progress{}, 100)
			again.signal(t, sig)
			again.ends(t, 0)
			wantRows(t, at, last.commits+progressOf(again.facts).commits, name)
		})
	}
}

// TestExecKilled kills the session: what it has committed is in the replica.
func TestExecKilled(t *testing.T) {
	t.Parallel()
	at := folderPlace(t)
	e := execute(t, at, 0)
	e.under(t, progress{}, 300)
	e.resumed(t)
	last := e.under(t, progressOf(e.facts), 200)
	if err := syscall.Kill(int(last.pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.ends(t, 128+int(syscall.SIGKILL))
	// It may have been killed between a commit and its note.
	wantRows(t, at, progressOf(e.facts).commits, "")
}

// TestExecOutlives kills tidemark: the session does not notice. What it has committed
// meanwhile is shipped when tidemark runs again.
func TestExecOutlives(t *testing.T) {
	t.Parallel()
	at := folderPlace(t)
	e := execute(t, at, 0)
	e.under(t, progress{}, 100)
	e.resumed(t)
	e.kill(t)
	before := progressOf(e.facts)
	again := replicate(t, e.db, at, "--sync-interval", "100ms")
	again.resumed(t)
	again.eventually(t, "the session going on", func() bool { return progressOf(e.facts).commits > before.commits+100 })
	if err := syscall.Kill(int(before.pid), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	again.eventually(t, "the session's end", func() bool { return errors.Is(syscall.Kill(int(before.pid), 0), syscall.ESRCH) })
	again.stop(t)
	wantRows(t, at, progressOf(e.facts).commits, "terminated")
}

func addRow(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "INSERT INTO rows (v) VALUES ('another')")
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestExecFenced takes the replica away from a session: it is left alone, the log says
// so, and so does the exit code.
func TestExecFenced(t *testing.T) {
	t.Parallel()
	at := folderPlace(t)
	e := execute(t, at, 0)
	e.under(t, progress{}, 100)
	e.resumed(t)
	e.signal(t, syscall.SIGSTOP)
	other, err := restored(t.Context(), at.bucket, 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	addRow(t, other)
	takeOver := replicate(t, other, at, "--takeover", "--once")
	<-takeOver.Exited()
	if takeOver.Err() != nil {
		t.Fatalf("the other one: %v", takeOver.Err())
	}
	e.signal(t, syscall.SIGCONT)
	said := func(line map[string]any) bool {
		text, _ := line["msg"].(string)
		return strings.HasPrefix(text, "the command goes on")
	}
	e.eventually(t, "the fence", func() bool { return e.logged(t, said) == 1 })
	e.under(t, progressOf(e.facts), 100)
	e.signal(t, os.Interrupt)
	e.ends(t, 1)
	if progressOf(e.facts).ints != 1 {
		t.Errorf("the session: %v", progressOf(e.facts))
	}
}

// onTerminal starts a program on a terminal of its own, and gives the terminal's other
// end.
func onTerminal(t *testing.T, cmd *exec.Cmd) (*child.Process, io.Writer) {
	t.Helper()
	master, slave := terminal(t)
	cmd.Stdin = slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	p, err := child.Start(cmd)
	if err = errors.Join(err, slave.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.Exited()
		_ = master.Close()
	})
	return p, master
}

// TestExecTerminal presses Ctrl-C. The terminal sends it to both, so that tidemark must
// not pass it on; a signal that only tidemark gets, it must.
func TestExecTerminal(t *testing.T) {
	t.Parallel()
	at, dir := folderPlace(t), t.TempDir()
	db, facts := filepath.Join(dir, "app.db"), filepath.Join(dir, "facts")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), buildProgram(t), "replicate", "--restore-if-missing",
		"--exec", sessionCommand(t, db, facts, "patient", 3), db, at.url)
	p, keys := onTerminal(t, cmd)
	t.Cleanup(func() { endSession(facts) })
	watched := &process{cmd: cmd, Process: p}
	watched.eventually(t, "commits", func() bool { return progressOf(facts).commits > 100 })
	if _, err := io.WriteString(keys, "\x03"); err != nil {
		t.Fatal(err)
	}
	watched.eventually(t, "the Ctrl-C", func() bool { return progressOf(facts).ints > 0 })
	watched.signal(t, syscall.SIGTERM)
	<-p.Exited()
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 3 {
		t.Errorf("it ended with %v", p.Err())
	}
	last := progressOf(facts)
	if last.ints != 1 {
		t.Errorf("the session: %v, want 1", last)
	}
	wantRows(t, at, last.commits, "terminated")
}
