package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The jobs of [Help].
const (
	helpRecord = "record" // record PATH
	helpCopy   = "copy"   // copy PATH FOLDER
)

// Help does one of the demo's jobs that need a process of their own. The
// arguments are those that [Options.Helper] was called with.
func Help(ctx context.Context, in io.Reader, out io.Writer, args []string) error {
	switch {
	case len(args) == 2 && args[0] == helpRecord:
		return runRecorder(ctx, in, out, args[1])
	case len(args) == 3 && args[0] == helpCopy:
		return copyFiles(args[1], args[2])
	default:
		return fmt.Errorf("the demo has no job %q", args)
	}
}

// copyDatabase copies the live database into a folder, in another process.
func (s *story) copyDatabase(ctx context.Context, folder string) error {
	cmd, err := s.opts.Helper(ctx, helpCopy, s.path(databaseName), s.path(folder))
	if err != nil {
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

// copyFiles copies a database and its WAL, as they are, into a new folder.
func copyFiles(database, folder string) error {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	for _, suffix := range []string{"", "-wal"} {
		from := database + suffix
		if err := copyFile(from, filepath.Join(folder, filepath.Base(from))); err != nil {
			return fmt.Errorf("copy the database: %w", err)
		}
	}
	return nil
}

func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	_, err = io.Copy(dst, src)
	return err
}
