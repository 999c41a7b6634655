//go:build linux || freebsd

package child_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"tidemark/integration/child"
)

// parentVariable makes the test program the parent, whose child says "ready" and
// waits for its input.
const parentVariable = "TIDEMARK_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) == "" {
		os.Exit(m.Run())
	}
	if err := parent(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parent() error {
	cmd := exec.Command("sh", "-c", "echo ready; read -r line")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	p, err := child.Start(cmd)
	if err != nil {
		return err
	}
	<-p.Exited()
	return p.Err()
}

// TestStart kills a parent. Its child holds the other end of a pipe, which has an
// end only when the child does.
func TestStart(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), parentVariable+"=1")
	in, err := cmd.StdinPipe() // open, so that the child waits
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	cmd.Stdout = w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child said %q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the parent ended well")
	}
	if b, err := io.ReadAll(out); err != nil || len(b) > 0 {
		t.Fatalf("after the parent's end the child said %q: %v", b, err)
	}
	_ = in.Close() // it was open until here
}

// TestStartEnds gives the end of a child.
func TestStartEnds(t *testing.T) {
	t.Parallel()
	p, err := child.Start(exec.CommandContext(t.Context(), "sh", "-c", "exit 7"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 7 {
		t.Errorf("it ended with %v, want exit code 7", p.Err())
	}
	if _, err := child.Start(exec.CommandContext(t.Context(), "/no such program")); err == nil {
		t.Error("a program that does not exist was started")
	}
}
