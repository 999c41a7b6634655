package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/source"
	"tidemark/storage"
)

func at(t *testing.T, url string) location.Location {
	t.Helper()
	l, err := location.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What a stop leaves undone is said, with the step that fits.
func TestJobExplain(t *testing.T) {
	t.Parallel()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		err       error
		ready     bool
		msg, hint string
	}{
		"first snapshot": {fmt.Errorf("%w: read: %w", replica.ErrUnfinished, context.Canceled), false, replica.ErrUnfinished.Error(), "run it again"},
		"upload":         {fmt.Errorf("they wait in x: %w", context.Canceled), true, "they wait in x", "they are shipped first"},
		"start":          {fmt.Errorf("list: %w", context.Canceled), false, "interrupted before it followed app.db", "run it again"},
		"something else": {fmt.Errorf("put: %w", storage.ErrUnreachable), true, "put: ", "check the endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := &job{db: config.Database{Path: "app.db"}, place: at(t, "s3://b/x"), ready: tc.ready}
			f := describe(j.explain(stopped, tc.err), "tidemark replicate")
			if f.Code != exitFailed || !strings.HasPrefix(f.Message, tc.msg) || !strings.HasPrefix(f.Hint, tc.hint) {
				t.Errorf("%+v; want %q and %q", f, tc.msg, tc.hint)
			}
		})
	}
	if err := (&job{}).explain(t.Context(), nil); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}

// What was set for a database reaches the engine, and the defaults are the
// engine's.
func TestJobOptions(t *testing.T) {
	t.Parallel()
	j := &job{place: at(t, "s3://b/x"), db: config.Database{
		Path: "app.db", StateDir: "st", SyncInterval: time.Minute, CheckpointPages: 7,
		SpoolLimit: 12, KeepJournalMode: true, AllowNetworkFS: true, Unfenced: true,
	}}
	want := replica.Options{
		Path: "app.db", Name: "s3://b/x", StateDir: "st", SyncInterval: time.Minute, CheckpointPages: 7,
		SpoolLimit: 12, KeepJournalMode: true, AllowNetworkFS: true, Unfenced: true,
	}
	if diff := cmp.Diff(want, j.options(), cmpopts.IgnoreUnexported(replica.Options{})); diff != "" {
		t.Error(diff)
	}
	s, err := config.Load(newReplicate(process{}).Flags(), "", []string{"app.db", "s3://b/x"})
	if err != nil {
		t.Fatal(err)
	}
	db := s.Databases[0]
	if db.SpoolLimit != replica.DefaultSpoolLimit || db.CheckpointPages != replica.DefaultCheckpointPages || db.SyncInterval != replica.DefaultSyncInterval {
		t.Errorf("the defaults differ from the engine's: %+v", db)
	}
}

// Hints speak of what there is: folders and permissions, or keys and buckets.
func TestPlacedHints(t *testing.T) {
	t.Parallel()
	db := &config.Database{Path: filepath.Join(t.TempDir(), "absent.db")}
	denied := &fs.PathError{Op: "open", Path: "/r/log", Err: syscall.EACCES}
	for name, tc := range map[string]struct {
		url  string
		db   *config.Database
		err  error
		hint string
	}{
		"folder denied":    {"file:///r", nil, fmt.Errorf("%w: %w", storage.ErrDenied, denied), "check the permissions of the replica's folder"},
		"folder missing":   {"file:///r", nil, storage.ErrNoBucket, "check the path in the URL"},
		"bucket missing":   {"s3://b", nil, storage.ErrNoBucket, "check the name of the bucket"},
		"bucket denied":    {"s3://b", nil, storage.ErrDenied, "TIDEMARK_S3_ACCESS_KEY_ID"},
		"local denied":     {"s3://b", db, fmt.Errorf("make state directory: %w", denied), "check who owns it"},
		"read-only system": {"s3://b", db, &fs.PathError{Op: "mkdir", Path: "/x", Err: syscall.EROFS}, "--state-dir"},
		"output denied":    {"s3://b", nil, denied, "check who owns it"},
		"database denied":  {"s3://b", db, fmt.Errorf("%w: %w", replica.ErrRefused, denied), "check who owns it"},
		"network":          {"file:///r", db, fmt.Errorf("%w: app.db is %w (cifs)", replica.ErrRefused, source.ErrNetworkFS), "to a local disk (the replica may stay on the share), or say --allow-network-fs"},
		"no database":      {"s3://b", db, replica.ErrRefused, "give the path of the database file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := hint(placedError{place: at(t, tc.url), db: tc.db, err: tc.err})
			if !strings.Contains(got, tc.hint) {
				t.Errorf("%q, want %q", got, tc.hint)
			}
			if strings.HasPrefix(tc.url, "file") && (strings.Contains(got, "bucket") || strings.Contains(got, "AWS")) {
				t.Errorf("%q is about a folder", got)
			}
		})
	}
}

// A restore that is interrupted has written nothing, and says so.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t (v)")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	url := "file://" + filepath.ToSlash(filepath.Join(dir, "replica"))
	if volume := filepath.VolumeName(dir); volume != "" {
		url = strings.Replace(url, "file://", "file:///", 1)
	}
	var out, errs bytes.Buffer
	p := process{in: strings.NewReader(""), out: &out, err: &errs, abort: os.Exit}
	if code := run(t.Context(), p, []string{"replicate", "--once", path, url}); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs.Reset()
	code := run(ctx, p, []string{"restore", url, "-o", filepath.Join(dir, "out.db")})
	if want := "tidemark: interrupted; nothing was written\n  run it again\n"; code != exitFailed || errs.String() != want {
		t.Errorf("exit code %d, %q; want %q", code, errs.String(), want)
	}
	if _, err := os.Stat(filepath.Join(dir, "out.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the output: %v", err)
	}
}
