package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/demo"
	"tidemark/cmd/tidemark/location"
	"tidemark/storage"
)

const demoLong = `Demo tells, on real machinery and in a few seconds, the story that tidemark was
built for. A process of its own records the sessions S1 to S50 in a database
while tidemark ships every commit to a folder. The process is killed in the
middle of a transaction, and the write-ahead log is damaged, so that SQLite no
longer shows S49 and S50. Then tidemark restores all fifty, and once more the
state before S49. Every step says what it proved; the command fails if anything
does not hold.`

// demoHelperName is the hidden command that the demo starts itself with.
const demoHelperName = "demo-helper"

func newDemo(p process) *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "See a crash, a broken WAL, and every commit restored",
		Long:    demoLong,
		Example: "  tidemark demo\n  tidemark demo --dir /tmp/story --keep",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			how, err := config.LoadLogging(cmd.Flags())
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed(config.KeyLogLevel) {
				how.Level = demo.QuietLevel
			}
			opts.Logger = newConsole(p.err).logger(how)
			opts.Out = p.out
			opts.Helper = demoHelper
			opts.OpenFolder = openFolder
			ctx, release := p.interruptible(cmd.Context(), opts.Logger, notices{first: "stopping the demo", second: "stopped at once; the demo's folder stays"})
			defer release()
			err = demo.Run(ctx, opts)
			if errors.Is(err, demo.ErrNotEmpty) {
				return usageError{err: err}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Dir, "dir", "", "work in this `folder`, which must be empty or absent (default: a temporary one)")
	flags.BoolVar(&opts.Keep, "keep", false, "keep the folder and say where it is")
	return cmd
}

func openFolder(ctx context.Context, dir string) (storage.Bucket, error) {
	place, err := location.Folder(dir)
	if err != nil {
		return nil, err
	}
	return place.Open(ctx, location.Options{Create: true})
}

// demoHelper prepares a process of this very binary, which `go run` has put
// into a temporary folder.
func demoHelper(ctx context.Context, args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's own file: %w", err)
	}
	cmd := exec.CommandContext(ctx, exe, append([]string{demoHelperName}, args...)...)
	cmd.Args[0] = os.Args[0]
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// newDemoHelper is what the demo runs in other processes.
func newDemoHelper() *cobra.Command {
	return &cobra.Command{
		Use:    demoHelperName,
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return demo.Help(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), args)
		},
	}
}
