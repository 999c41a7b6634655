package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/integration/child"
	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// program is the tidemark command, built once for all tests, and without the
// race detector: some tests measure it.
var program struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func buildProgram(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		// Not a test's own folder: it must outlive the test.
		if program.dir, program.err = os.MkdirTemp("", "tidemark-program-"); program.err != nil { //nolint:usetesting // See above.
			return
		}
		program.path = filepath.Join(program.dir, "tidemark")
		if runtime.GOOS == "windows" {
			program.path += ".exe"
		}
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "build", "-o", program.path, "tidemark/cmd/tidemark")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("build tidemark: %w: %s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

func removeProgram() error {
	if program.dir == "" {
		return nil
	}
	return os.RemoveAll(program.dir)
}

// process is a running tidemark.
type process struct {
	cmd            *exec.Cmd
	log            string // the file of its log, JSON lines
	stdout         *bytes.Buffer
	*child.Process // it ends with this one
	// killed tells that the test ended it: what it logged last says nothing.
	killed bool
}

// replicate starts "tidemark replicate".
func replicate(t *testing.T, db string, to place, flags ...string) *process {
	t.Helper()
	args := append([]string{"replicate", "--json", "--log-level", "debug", "--log-format", "json"}, flags...)
	return startProgram(t, to, append(args, db, to.url)...)
}

func startProgram(t *testing.T, at place, args ...string) *process {
	t.Helper()
	logFile, err := os.CreateTemp(t.TempDir(), "log-*")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		cmd: exec.CommandContext(context.WithoutCancel(t.Context()), buildProgram(t), args...),
		log: logFile.Name(), stdout: new(bytes.Buffer),
	}
	p.cmd.Env = append(os.Environ(), at.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, logFile
	p.Process, err = child.Start(p.cmd)
	if err := errors.Join(err, logFile.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // It has ended unless the test failed.
		<-p.Exited()
		if t.Failed() && !p.killed {
			kept := filepath.Join(os.TempDir(), fmt.Sprintf("tidemark-kept-%d.log", p.cmd.Process.Pid))
			t.Logf("the log of tidemark %s is kept in %s (%v); its end:\n%s", args[0], kept, copyFile(kept, p.log), p.tail(t))
		}
	})
	return p
}

// programRestore runs "tidemark restore" of one commit.
func programRestore(ctx context.Context, program string, from place, id state.TXID, dir string) (string, error) {
	out := filepath.Join(dir, fmt.Sprintf("txid-%d.db", id))
	cmd := exec.CommandContext(ctx, program, "restore", from.url, "-o", out, "--txid", id.String())
	cmd.Env = append(os.Environ(), from.env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("restore TXID %v: %w: %s", id, err, text)
	}
	return out, nil
}

// tail gives the end of the log.
func (p *process) tail(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Error(err)
	}
	return b[max(0, len(b)-4000):]
}

// signal sends a signal.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal tidemark: %v: it ended: %v", err, p.Err())
	}
}

// stop ends the process in good order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	<-p.Exited()
	if p.Err() != nil {
		t.Fatalf("tidemark did not stop in good order: %v", p.Err())
	}
}

// kill ends it in no order.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill tidemark: %v: it ended: %v", err, p.Err())
	}
	<-p.Exited()
	p.killed = true
}

// shipped is what "tidemark replicate --json" prints of one database.
type shipped struct {
	TXID     uint64 `json:"txid"`
	Commits  uint64 `json:"commits"`
	Uploaded int64  `json:"uploaded_bytes"`
	Requests struct{ List, Get, Put int64 }
}

// report gives what a stopped process printed.
func (p *process) report(t *testing.T) shipped {
	t.Helper()
	var out struct{ Databases []shipped }
	if err := json.Unmarshal(p.stdout.Bytes(), &out); err != nil || len(out.Databases) != 1 {
		t.Fatalf("tidemark printed %q: %v", p.stdout, err)
	}
	return out.Databases[0]
}

// logged counts the lines of the log that a function wants.
func (p *process) logged(t *testing.T, want func(line map[string]any) bool) (n int) {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for text := range bytes.Lines(b) {
		var line map[string]any
		if json.Unmarshal(text, &line) == nil && want(line) {
			n++
		}
	}
	return n
}

// eventually waits until a condition holds, while the process runs.
func (p *process) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	timeout := time.NewTimer(2 * time.Minute)
	defer timeout.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-p.Exited():
			t.Fatalf("tidemark ended before %s: %v", what, p.Err())
		case <-timeout.C:
			t.Fatalf("waited too long for: %s", what)
		}
	}
}

// pass lets time pass. tidemark must not end meanwhile.
func (p *process) pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-p.Exited():
		t.Fatalf("tidemark ended by itself: %v", p.Err())
	}
}

// attached waits until a new replica has its first state: the database is
// pinned, and every commit from now on gets a TXID of its own.
func (p *process) attached(t *testing.T, at place) {
	t.Helper()
	p.eventually(t, "the first snapshot", func() bool { return headOf(t, at) > 0 })
}

// resumed waits until a process follows the database: it has gone on with the
// replica, or begun it.
func (p *process) resumed(t *testing.T) {
	t.Helper()
	p.eventually(t, "following the database", func() bool {
		return p.logged(t, func(line map[string]any) bool { return line["msg"] == "following" }) > 0
	})
}

// reached waits until a commit is in the replica.
func (p *process) reached(t *testing.T, at place, id state.TXID) {
	t.Helper()
	p.eventually(t, fmt.Sprintf("TXID %v", id), func() bool { return headOf(t, at) >= id })
}

// headOf is the newest commit in a replica, 0 if there is none yet.
func headOf(t *testing.T, at place) state.TXID {
	t.Helper()
	a, err := archive.Open(t.Context(), at.bucket)
	if errors.Is(err, archive.ErrNoReplica) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Range(t.Context())
	if errors.Is(err, archive.ErrNoReplica) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.LastTXID
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}
