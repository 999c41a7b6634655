package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/block"
	"tidemark/storage"
)

// The exit codes. Scripts branch on them, so they never change.
const (
	exitDone    = 0 // all was done
	exitFailed  = 1 // something failed
	exitUsage   = 2 // the command line or the configuration is wrong
	exitBadData = 3 // the data is bad
	exitNothing = 4 // there is nothing to restore there, or at that point
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func usagef(format string, args ...any) error { return usageError{err: fmt.Errorf(format, args...)} }

// Error implements error.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e usageError) Unwrap() error { return e.err }

// interruptedError is the end of a command that a signal stopped.
type interruptedError struct{ err error }

// Error implements error.
func (e interruptedError) Error() string { return "interrupted before it was done" }

// Unwrap gives the cause.
func (e interruptedError) Unwrap() error { return e.err }

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
	if f.Code == exitUsage {
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

// exitCode gives the code that an error ends the process with.
func exitCode(err error) int {
	var (
		usage usageError
		conf  *config.Error
		place *location.Error
	)
	switch {
	case errors.As(err, &usage), errors.As(err, &conf), errors.As(err, &place):
		return exitUsage
	case isAny(err, archive.ErrNoReplica, archive.ErrOutOfRange):
		return exitNothing
	case isAny(err, block.ErrCorrupt, archive.ErrBroken, restore.ErrChecksum, restore.ErrIntegrity):
		return exitBadData
	default:
		return exitFailed
	}
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}

const credentialHint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or TIDEMARK_S3_ACCESS_KEY_ID and " +
	"TIDEMARK_S3_SECRET_ACCESS_KEY, to keys that may list, read and write the bucket"

// hint says what to do about an error, or "". Of several that apply the most
// telling comes first.
func hint(err error) string {
	for _, h := range hints() {
		if errors.Is(err, h.err) {
			return h.text
		}
	}
	return ""
}

// advice is the next step after one class of errors.
type advice struct {
	err  error
	text string
}

func hints() []advice {
	return []advice{
		{context.Canceled, "run it again; nothing that was shipped is lost"},
		{storage.ErrNoBucket, "check the name of the bucket or folder in the URL, or create it first"},
		{storage.ErrDenied, credentialHint},
		{storage.ErrUnreachable, "check the endpoint in the URL, and that the service runs and can be reached from here"},
		{archive.ErrNoReplica, "check the URL; tidemark replicate DB URL makes a replica"},
		{archive.ErrOutOfRange, "tidemark log URL lists the commits that can be restored"},
		{restore.ErrExists, "use --force to move it aside first, or --if-not-exists to leave it as it is"},
		{restore.ErrStray, "it belongs to a database that was here before: move it away, or restore to another name"},
		{block.ErrVersion, "a newer tidemark wrote this: upgrade tidemark on this machine"},
		{restore.ErrIntegrity, "the database was committed so: restore an earlier commit, or take it as it was with --integrity none"},
		{restore.ErrChecksum, badData},
		{archive.ErrBroken, badData},
		{block.ErrCorrupt, badData},
		{replica.ErrLocked, "another tidemark replicates this database: stop it first, or give each its own --state-dir and URL"},
		{replica.ErrFenced, "another process ships to this URL: stop one of the two, or give each database a URL of its own"},
		{replica.ErrNotDatabase, "give the path of a SQLite database; an encrypted one can't be replicated"},
		{fs.ErrNotExist, "check the path"},
		{fs.ErrPermission, "check who owns the file and its folder, and who tidemark runs as"},
	}
}

const badData = "keep the replica as it is; tidemark log URL lists other commits to restore"
