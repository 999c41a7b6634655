package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"tidemark/replica"
	"tidemark/replica/restore"
	"tidemark/storage/file"
)

// engineRole runs the engine in a process of its own, where it can be asked to
// do more than the program does beside it. args are the database and the folder
// of the replica. It answers "ok" when it has attached, and to each line of its
// input:
//
//	restore FILE    restore the newest commit into a file that is replaced
//	again           stop following the database, and start again
func engineRole(args []string) error {
	bucket, err := file.Open(args[1], file.Options{})
	if err != nil {
		return err
	}
	opts := replica.Options{Path: args[0], Bucket: bucket, CheckpointPages: 50}
	stop, err := runEngine(opts)
	if err != nil {
		return err
	}
	fmt.Println("ok") //nolint:forbidigo // the protocol
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		command, out, _ := strings.Cut(in.Text(), " ")
		switch command {
		case "restore":
			_, err = restore.Run(context.Background(), restore.Options{
				Bucket: bucket, Output: out, Force: true, Integrity: restore.Full, Logger: slog.New(slog.DiscardHandler),
			})
		case "again":
			if err = stop(); err == nil {
				stop, err = runEngine(opts)
			}
		default:
			err = errors.New("unknown command")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", in.Text(), err)
		}
		fmt.Println("ok") //nolint:forbidigo // the protocol
	}
	return stop()
}

// runEngine returns when the engine follows the database.
func runEngine(opts replica.Options) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	opts.Ready = func() { close(ready) }
	go func() {
		_, err := replica.Run(ctx, opts)
		done <- err
	}()
	stop = func() error {
		cancel()
		return <-done
	}
	select {
	case <-ready:
		return stop, nil
	case err := <-done:
		cancel()
		return nil, fmt.Errorf("it ended: %w", err)
	}
}

// carelessRole holds a read transaction and does what no process may that has a
// SQLite database open. args is the database. It answers "ok" to each line of
// its input, the name of a file, when it has opened the file and closed it
// again.
func carelessRole(args []string) (err error) {
	ctx := context.Background()
	db, err := openLive(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM data").Scan(&n); err != nil {
		return err
	}
	fmt.Println("ok") //nolint:forbidigo // the protocol
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f, err := os.Open(in.Text())
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		fmt.Println("ok") //nolint:forbidigo // the protocol
	}
	return nil
}

// actor is a process in one of these roles.
type actor struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr *strings.Builder
}

// act starts an actor and waits for its first answer.
func act(t *testing.T, role string, args ...string) *actor {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &actor{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), exe, args...), stderr: new(strings.Builder)}
	a.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	a.cmd.Stderr = a.stderr
	in, err := a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.in, a.out = in, bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = in.Close()
		if err := a.cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("%s: %v\n%s", role, err, a.stderr.String())
		}
	})
	if err := a.answer(); err != nil {
		t.Fatal(err)
	}
	return a
}

// do gives a command and waits for its answer.
func (a *actor) do(command string) error {
	if _, err := io.WriteString(a.in, command+"\n"); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return a.answer()
}

func (a *actor) answer() error {
	if !a.out.Scan() || a.out.Text() != "ok" {
		return fmt.Errorf("it did not answer: %w, %q: %s", a.out.Err(), a.out.Text(), a.stderr.String())
	}
	return nil
}
