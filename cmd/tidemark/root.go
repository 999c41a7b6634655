package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/suggest"
)

const rootLong = `tidemark replicates live SQLite databases to a folder or to S3-compatible
storage, commit by commit, and restores them as they stood after any commit.

A replica's URL is file:///folder, file://relative/folder, or
  s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1
where endpoint and region can be left out on AWS. Credentials never stand in a
URL: they come from TIDEMARK_S3_ACCESS_KEY_ID and TIDEMARK_S3_SECRET_ACCESS_KEY
or from the AWS settings of the machine.

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the data is
bad, or a check failed; 4 nothing to restore there or at that point, or no such
database; 5 not replicated, or too far behind (--max-lag); with replicate --exec
the command's own.`

const rootExample = `  tidemark demo
  tidemark replicate app.db file:///mnt/backup/app
  tidemark status app.db
  tidemark log file:///mnt/backup/app
  tidemark restore file:///mnt/backup/app -o app.db --timestamp 2h
  tidemark verify file:///mnt/backup/app
  tidemark check app.db && python engine.py
  tidemark salvage app.db -o salvaged.db`

// newRoot builds the whole tree of commands for one command line.
func newRoot(p process, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "tidemark COMMAND",
		Short:         "Every commit of a live SQLite database, replicated and restorable",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,

		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
	}
	version := root.Flags().Bool("version", false, "print the versions, as tidemark version does")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *version {
			return printVersions(cmd.Context(), p, false)
		}
		return cmd.Help()
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "", 1))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flagError(cmd, args, err)
	})
	flags := root.PersistentFlags()
	flags.String(config.KeyLogLevel, strings.ToLower(config.DefaultLogLevel.String()), "log from this level on: `debug|info|warn|error`")
	flags.String(config.KeyLogFormat, config.DefaultLogFormat, "write log lines, to standard error, as `text|json`")
	root.AddCommand(
		newReplicate(p), newRestore(p), newLog(p), newStatus(p), newMark(p), newPrune(p), newSnapshot(p),
		newVerify(p), newCheck(p), newSalvage(p), newWAL(p), newDemo(p), newVersion(p), newDemoHelper(),
	)
	root.SetHelpCommand(newHelp(root))
	return root
}

func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil {
				return usageError{err: err}
			}
			if len(rest) > 0 {
				return unknownCommand(root, rest[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// exactArgs requires one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		return atMost(len(names), args)
	}
}

// oneOrTwo requires the first of two arguments, of which the second can be left out.
func oneOrTwo(first string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", first)
		}
		return atMost(2, args)
	}
}

// atMost refuses more than n arguments.
func atMost(n int, args []string) error {
	if len(args) > n {
		return usagef("unexpected argument %q", args[n])
	}
	return nil
}

func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return usagef("unknown command %q%s", name, suggest.DidYouMean(name, "", names))
}

// flagError turns what the flag parser says into one clear line.
func flagError(cmd *cobra.Command, args []string, err error) error {
	if !cmd.HasParent() {
		// `tidemark restroe URL -o x`: the command is what was mistyped.
		if i := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") }); i == 0 {
			return unknownCommand(cmd, args[0])
		}
	}
	var (
		unknown *pflag.NotExistError
		noValue *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return usagef("unknown flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		return usagef("unknown flag --%s%s", name, suggest.DidYouMean(name, "--", flagNames(cmd)))
	case errors.As(err, &noValue):
		return usagef("the flag --%s needs a value", noValue.GetFlag().Name)
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return usagef("--%s: %q is not %s", f.Name, invalid.GetValue(), kind(f))
	}
	return usageError{err: err}
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// kind says what values a flag takes.
func kind(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "uint64":
		return "a whole number from 1 on"
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	default:
		return "a " + f.Value.Type()
	}
}
