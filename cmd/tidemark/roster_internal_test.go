package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/cmd/tidemark/config"
	"tidemark/replica"
	"tidemark/replica/fleet"
	"tidemark/replica/source"
	"tidemark/snapshot/block"
	"tidemark/storage"
)

// rosterOf is a roster of a database with two replicas, and a folder of others.
func rosterOf(t *testing.T) (r *roster, log *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	log = &bytes.Buffer{}
	con := newConsole(log)
	r = &roster{shared: replica.NewProcess(), con: con, logger: con.logger(config.Logging{Format: "json"})}
	err := r.list(config.Settings{
		Databases: []config.Database{
			{Path: filepath.Join(dir, "a.db"), URL: "file://near"},
			{Path: filepath.Join(dir, "a.db"), URL: "file://far", Replica: "far"},
			{Path: filepath.Join(dir, "b.db"), URL: "file://b"},
		},
		Folders: []config.Folder{{Dir: dir, Replicas: []config.Database{{Path: dir, URL: "file://r"}, {Path: dir, URL: "file://s", Replica: "s"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, log
}

// The replicas of one database are one of the fleet's, and what is found again is the
// same job.
func TestRosterJobs(t *testing.T) {
	t.Parallel()
	r, _ := rosterOf(t)
	var got []string
	for _, db := range r.databases() {
		for _, one := range db.Replications {
			got = append(got, filepath.Base(db.Path)+" "+one.Name)
		}
		got = append(got, "")
	}
	if diff := cmp.Diff([]string{"a.db file://near", "a.db file://far", "", "b.db file://b", ""}, got); diff != "" {
		t.Error(diff)
	}
	folder := r.watched()[0]
	for range 2 {
		runs, err := folder.Replications("x.db", "x.db")
		if err != nil || len(runs) != 2 || runs[0].Name != "file://r/x.db" || runs[1].Name != "file://s/x.db" {
			t.Fatalf("%+v %v", runs, err)
		}
	}
	if diff := cmp.Diff([]string{"near", "far", "b", "r", "s"}, folder.Skip); diff != "" {
		t.Error(diff)
	}
	if len(r.jobs) != 5 || r.jobs[4].db.Replica != "s" || r.jobs[4].options().Replica != "s" || r.jobs[4].options().Replicas != 2 ||
		r.jobs[0].options().Replicas != 2 || r.jobs[2].options().Replicas != 1 {
		t.Errorf("%d jobs, %+v", len(r.jobs), r.jobs[4].options())
	}
}

// A hint about a database that is open is given without a look at its file: to close
// it would end locks.
func TestRosterFailed(t *testing.T) {
	t.Parallel()
	r, log := rosterOf(t)
	j := r.jobs[0]
	if err := os.WriteFile(j.db.Path, []byte(strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := j.explain(t.Context(), fmt.Errorf("%w: too bad", replica.ErrRefused))
	for _, closed := range []bool{true, false} {
		log.Reset()
		r.failed(fleet.Failure{Path: j.db.Path, Replication: "file://near", Err: refused, Closed: closed})
		if hinted := !strings.Contains(log.String(), `"hint":""`); hinted != closed || !strings.Contains(log.String(), "too bad") {
			t.Errorf("closed %t: %s", closed, log)
		}
	}
	// One that was not begun has failed, too.
	log.Reset()
	r.failed(fleet.Failure{Path: j.db.Path, Replication: "file://far", Err: fleet.ErrTwice})
	if far := r.jobs[1]; !errors.Is(far.err, fleet.ErrTwice) || j.err != nil || !strings.Contains(log.String(), "not by links") {
		t.Errorf("%v, %v: %s", far.err, j.err, log)
	}
	if got, want := failedOf(r.jobs).Error(), "1 of 3 replications failed"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What is wrong with data is not tried again, all else is.
func TestNeedsPerson(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		replica.ErrOverwritten: true, block.ErrCorrupt: true, replica.ErrDamaged: false, replica.ErrFenced: false, storage.ErrUnreachable: false,
	} {
		if got := needsPerson(fmt.Errorf("follow: %w", err)); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

// That a database of a folder is gone is no failure.
func TestRosterGone(t *testing.T) {
	t.Parallel()
	r, _ := rosterOf(t)
	if _, err := r.watched()[0].Replications("x.db", "x.db"); err != nil {
		t.Fatal(err)
	}
	r.found["x.db"][0].err = source.ErrReplaced
	r.found["x.db"][1].err = source.ErrReplaced
	r.gone("x.db")
	if err := failedOf(r.jobs); err != nil {
		t.Error(err)
	}
}

// A database's settings are those of its own entry, or of the folder that it is in.
func TestDatabasesAt(t *testing.T) {
	t.Parallel()
	r, _ := rosterOf(t)
	dir := r.folders[0].Dir
	listed := []config.Database{r.jobs[0].db, r.jobs[1].db, r.jobs[2].db}
	for name, want := range map[string][]string{
		"a.db": {"file://near", "file://far"}, "c.db": {"file://r/c.db", "file://s/c.db"}, "c.db-wal": nil, "deep/c.db": nil, "../c.db": nil,
	} {
		dbs, err := databasesAt(listed, r.folders, filepath.Join(dir, name))
		var got []string
		for _, db := range dbs {
			got = append(got, db.URL)
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	for _, name := range []string{"a.db", "c.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("SQLite format 3\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := allDatabases(t.Context(), listed, append(r.folders, r.folders...))
	if err != nil || len(all) != 5 || all[3].URL != "file://r/c.db" {
		t.Errorf("%+v %v", all, err)
	}
}
