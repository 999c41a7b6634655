// Command tidemark replicates live SQLite databases to a folder or to
// S3-compatible storage, commit by commit, and restores them as they stood
// after any commit.
//
// Each command has a file of its own. A command reads its flags, opens the
// storage, calls the engine and prints the result; nothing here knows what a
// replica looks like inside. The commands' exit codes and hints are in
// failure.go, what they share with the terminal in console.go.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	_ "modernc.org/sqlite" // the driver "sqlite" of database/sql
)

// process is what a command has of the process it runs in. Tests give it
// buffers.
type process struct {
	in       io.Reader
	out, err io.Writer
	// abort ends the process at once, without cleaning up.
	abort func(code int)
}

func main() {
	p := process{in: os.Stdin, out: os.Stdout, err: os.Stderr, abort: os.Exit}
	os.Exit(run(context.Background(), p, os.Args[1:]))
}

// run executes one command line and gives the exit code.
func run(ctx context.Context, p process, args []string) int {
	root := newRoot(p, args) //nolint:contextcheck // the commands get it from ExecuteContextC
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var stopped interruptedError
	if errors.Is(err, context.Canceled) && !errors.As(err, &stopped) {
		err = interruptedError{err: err, text: "interrupted before it was done", hint: "run it again"}
	}
	f := describe(err, cmd.CommandPath())
	f.print(p.err, wantsJSON(args))
	return f.Code
}
