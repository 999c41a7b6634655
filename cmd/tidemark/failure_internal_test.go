package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/block"
	"tidemark/storage"
)

// Every error that scripts can meet has its exit code and says what to do.
func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		code int
		hint string
	}{
		{usagef("x"), exitUsage, "see tidemark log --help"},
		{&config.Error{Msg: "x", Advice: "do this"}, exitUsage, "do this; see tidemark log --help"},
		{&location.Error{Msg: "x"}, exitUsage, "see tidemark"},
		{archive.ErrNoReplica, exitNothing, "check the URL"},
		{archive.ErrOutOfRange, exitNothing, "tidemark log"},
		{archive.ErrBroken, exitBadData, "tidemark log"},
		{block.ErrCorrupt, exitBadData, "tidemark log"},
		{restore.ErrChecksum, exitBadData, "tidemark log"},
		{restore.ErrIntegrity, exitBadData, "--integrity none"},
		{block.ErrVersion, exitFailed, "upgrade tidemark"},
		{restore.ErrExists, exitFailed, "--force"},
		{restore.ErrStray, exitFailed, "move it away"},
		{replica.ErrLocked, exitFailed, "look for it"},
		{replica.ErrDamaged, exitBadData, "PRAGMA integrity_check"},
		{replica.ErrUnfinished, exitFailed, "run it again"},
		{replica.ErrReplaced, exitFailed, "stop tidemark before"},
		{replica.ErrOverwritten, exitBadData, ""}, // its text says what to do
		{replica.ErrFenced, exitFailed, "stop one of the two"},
		{replica.ErrFenced, exitFailed, "--takeover"},
		{replica.ErrUnfenceable, exitFailed, "If-None-Match"},
		{replica.ErrUnfenceable, exitFailed, "--unfenced"},
		{replica.ErrNotDatabase, exitFailed, "SQLite database"},
		{storage.ErrNoBucket, exitFailed, "check the name"},
		{storage.ErrDenied, exitFailed, "AWS_ACCESS_KEY_ID"},
		{storage.ErrUnreachable, exitFailed, "check the endpoint"},
		{interruptedError{err: context.Canceled, hint: "run it again"}, exitFailed, "run it again"},
		{errors.New("anything else"), exitFailed, ""},
		{someFailedError{1, 2, "databases"}, exitFailed, "the log"},
		{behindError{which: []string{"x"}, of: 1}, exitBehind, "log"},
	} {
		f := describe(fmt.Errorf("do it: %w", tc.err), "tidemark log")
		if f.Code != tc.code || !strings.Contains(f.Hint, tc.hint) || (tc.hint == "" && f.Hint != "") {
			t.Errorf("%v: code %d, hint %q; want %d and %q", tc.err, f.Code, f.Hint, tc.code, tc.hint)
		}
	}
}

func TestFailurePrint(t *testing.T) {
	t.Parallel()
	f := failure{Message: `a "b" <c>`, Code: 3, Hint: "do d"}
	var text, js bytes.Buffer
	f.print(&text, false)
	f.print(&js, true)
	if want := "tidemark: a \"b\" <c>\n  do d\n"; text.String() != want {
		t.Errorf("got %q, want %q", text.String(), want)
	}
	if want := `{"error":{"message":"a \"b\" <c>","code":3,"hint":"do d"}}` + "\n"; js.String() != want {
		t.Errorf("got %q, want %q", js.String(), want)
	}
}

func TestWantsJSON(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]jsonWanted{
		"restore --json x": true, "restore --json=true x": true, "restore x": false, "restore -- --json": false,
		"restore --json=false": false,
	} {
		if got := wantsJSON(strings.Fields(line)); got != want {
			t.Errorf("wantsJSON(%q) = %v", line, got)
		}
	}
}
