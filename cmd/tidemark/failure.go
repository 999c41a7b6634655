package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/check"
	"tidemark/replica/current"
	"tidemark/replica/restore"
	"tidemark/snapshot/block"
)

// The exit codes. Scripts branch on them, so they never change.
const (
	exitDone    = 0 // all was done
	exitFailed  = 1 // something failed
	exitUsage   = 2 // the command line or the configuration is wrong
	exitBadData = 3 // the data is bad
	exitNothing = 4 // there is nothing to restore there, or at that point
	exitBehind  = 5 // a database is not replicated, or further behind than it may be
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func usagef(format string, args ...any) error { return usageError{err: fmt.Errorf(format, args...)} }

// Error implements error.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e usageError) Unwrap() error { return e.err }

// interruptedError is the end of a command that a signal stopped, and what that
// means for people.
type interruptedError struct {
	err        error
	text, hint string
}

// Error implements error.
func (e interruptedError) Error() string { return e.text }

// Unwrap gives the cause.
func (e interruptedError) Unwrap() error { return e.err }

// Hint says what to do next.
func (e interruptedError) Hint() string { return e.hint }

// advisedError is an error with a hint that only the command can give.
type advisedError struct {
	err  error
	hint string
}

// Error implements error.
func (e advisedError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e advisedError) Unwrap() error { return e.err }

// Hint says what to do next.
func (e advisedError) Hint() string { return e.hint }

// failure is an error as people and scripts see it.
type failure struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
	Hint    string `json:"hint"`
}

// describe gives an error's exit code and what to do next. command is the
// path of the command that failed, such as "tidemark restore".
func describe(err error, command string) failure {
	f := failure{Message: err.Error(), Code: exitCode(err)}
	var advisor interface{ Hint() string }
	if errors.As(err, &advisor) {
		f.Hint = advisor.Hint()
	}
	if f.Hint == "" {
		f.Hint = hint(err)
	}
	var own coded
	if f.Code == exitUsage && !errors.As(err, &own) {
		see := fmt.Sprintf("see %s --help", command)
		if f.Hint != "" {
			see = f.Hint + "; " + see
		}
		f.Hint = see
	}
	return f
}

// print writes the failure: one line and the hint, or one line of JSON.
func (f failure) print(w io.Writer, asJSON jsonWanted) {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(map[string]failure{"error": f}) // standard error is gone; nobody to tell
		return
	}
	text := "tidemark: " + f.Message + "\n"
	if f.Hint != "" {
		text += "  " + f.Hint + "\n"
	}
	_, _ = io.WriteString(w, text) // as above
}

// jsonWanted says whether errors are printed as JSON.
type jsonWanted bool

// wantsJSON looks for --json itself: the error may be that the flags can't be
// parsed.
func wantsJSON(args []string) jsonWanted {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return jsonWanted(slices.Contains(args, "--json") || slices.Contains(args, "--json=true"))
}

// coded is an error that says itself what the process ends with.
type coded interface{ exitWith() int }

// exitCode gives the code that an error ends the process with.
func exitCode(err error) int {
	var (
		own   coded
		usage usageError
		conf  *config.Error
		place *location.Error
		late  behindError
	)
	switch {
	case errors.As(err, &own):
		return own.exitWith()
	case errors.As(err, &usage), errors.As(err, &conf), errors.As(err, &place):
		return exitUsage
	case errors.As(err, &late), errors.Is(err, current.ErrBehind):
		return exitBehind
	case isAny(err, archive.ErrNoReplica, archive.ErrOutOfRange, archive.ErrNoMark, check.ErrNoDatabase):
		return exitNothing
	case isAny(err, block.ErrCorrupt, archive.ErrBroken, restore.ErrChecksum, restore.ErrIntegrity, replica.ErrDamaged, replica.ErrOverwritten):
		return exitBadData
	default:
		return exitFailed
	}
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}
