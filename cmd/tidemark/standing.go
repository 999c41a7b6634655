package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/replica"
	"tidemark/replica/fleet"
	"tidemark/replica/local"
)

// standing is how the replication of a database to one of its replicas stands.
type standing struct {
	replica.Status
	// path is the database as it was asked for, name the replica's among several,
	// or "". url is where it is replicated to, as far as that is known.
	path, name, url string
}

// label names it for people.
func (s standing) label() string {
	if s.name == "" {
		return s.path
	}
	return s.path + " (" + s.name + ")"
}

// standingOf reads how one replica of a database stands.
func standingOf(path, stateDir, name string) (standing, error) {
	if name != "" && stateDir == "" {
		st, err := replica.ReadStatus(path, "")
		if err != nil {
			return standing{}, err
		}
		stateDir = st.StateDir
	}
	st, err := replica.ReadStatus(path, local.ReplicaPath(stateDir, name))
	return standing{Status: st, path: path, name: name, url: st.Replica}, err
}

// standingsOf reads how all replicas of a database stand that have left something in
// its state directory, or else that there are none.
func standingsOf(path, stateDir string) ([]standing, error) {
	first, err := standingOf(path, stateDir, "")
	if err != nil {
		return nil, err
	}
	names, err := local.Replicas(first.StateDir)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	if len(names) == 0 {
		return []standing{first}, nil
	}
	out := make([]standing, 0, len(names))
	for _, name := range names {
		s, err := standingOf(path, first.StateDir, name)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// configured reads how the replicas of databases stand that a configuration lists.
func configured(dbs []config.Database) ([]standing, error) {
	out := make([]standing, 0, len(dbs))
	for _, db := range dbs {
		s, err := standingOf(db.Path, db.StateDir, db.Replica)
		if err != nil {
			return nil, err
		}
		s.url = db.URL
		out = append(out, s)
	}
	return out, nil
}

// named picks the replica of a name, if one is given.
func named(all []standing, name string) ([]standing, error) {
	if name == "" {
		return all, nil
	}
	var out []standing
	var names []string
	for _, s := range all {
		if s.name == name {
			out = append(out, s)
		}
		if s.name != "" {
			names = append(names, s.name)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	err := usageError{err: fmt.Errorf("--replica: no replica is named %q", name)}
	if len(names) == 0 {
		return nil, advisedError{err: err, hint: "none has a name"}
	}
	return nil, advisedError{err: err, hint: "there are " + strings.Join(names, ", ")}
}

// standings reads how the replicas of a database stand: those of a configuration
// (none if empty), or those that are found where local state is.
func standings(flags *pflag.FlagSet, file, path string) ([]standing, error) {
	if file == "" {
		dbs, _, err := config.LoadStateDirs(flags, "", []string{path})
		if err != nil {
			return nil, err
		}
		return standingsOf(path, dbs[0].StateDir)
	}
	dbs, folders, err := config.LoadStateDirs(flags, file, nil)
	if err != nil {
		return nil, err
	}
	if dbs, err = databasesAt(dbs, folders, path); err != nil {
		return nil, err
	}
	if len(dbs) == 0 {
		return nil, usagef("%s is not among the databases of %s", path, file)
	}
	return configured(dbs)
}

// databasesAt gives the replicas of the database at a path, as configured: by an entry
// of its own, or one of the folder that it is in.
func databasesAt(dbs []config.Database, folders []config.Folder, path string) ([]config.Database, error) {
	want, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find database: %w", err)
	}
	var out []config.Database
	for _, db := range dbs {
		if got, err := filepath.Abs(db.Path); err == nil && got == want {
			out = append(out, db)
		}
	}
	for i, in := range searched(dbs, folders) {
		if rel, ok := in.Locate(want); ok && len(out) == 0 {
			return folders[i].Databases(rel)
		}
	}
	return out, nil
}

// allDatabases are those that are listed, and those that are in folders now but have
// no entry of their own.
func allDatabases(ctx context.Context, listed []config.Database, folders []config.Folder) ([]config.Database, error) {
	out := listed
	seen := map[string]bool{}
	for _, db := range listed {
		if abs, err := filepath.Abs(db.Path); err == nil {
			seen[abs] = true
		}
	}
	for i, in := range searched(listed, folders) {
		f := folders[i]
		rels, err := fleet.Scan(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Origin, err)
		}
		for _, rel := range rels {
			dbs, err := f.Databases(rel)
			if err != nil {
				return nil, err
			}
			abs, err := filepath.Abs(dbs[0].Path)
			if err != nil || seen[abs] {
				continue
			}
			seen[abs] = true
			out = append(out, dbs...)
		}
	}
	return out, nil
}

// labelled is an error about one of several replicas.
type labelled struct {
	label string
	err   error
}

// severalError is what failed of work on several replicas.
type severalError struct {
	failed []labelled
	of     int
}

// severalFailed makes an error of what failed: of a single replica that is its own.
func severalFailed(failed []labelled, of int) error {
	switch {
	case len(failed) == 0:
		return nil
	case of == 1:
		return failed[0].err
	default:
		return severalError{failed, of}
	}
}

// Error tells of each.
func (e severalError) Error() string {
	texts := make([]string, 0, len(e.failed))
	for _, f := range e.failed {
		texts = append(texts, f.label+": "+f.err.Error())
	}
	return fmt.Sprintf("%d of %d replicas failed: %s", len(e.failed), e.of, strings.Join(texts, "; "))
}

// Unwrap gives the causes.
func (e severalError) Unwrap() []error {
	errs := make([]error, 0, len(e.failed))
	for _, f := range e.failed {
		errs = append(errs, f.err)
	}
	return errs
}
