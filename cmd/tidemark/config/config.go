// Package config puts together what `tidemark replicate` runs with, from four
// places. A setting comes from the first of them that has it:
//
//  1. a flag of the command line (--sync-interval 5s)
//  2. the environment (TIDEMARK_SYNC_INTERVAL=5s)
//  3. the entry of one database under `dbs:` in the configuration file
//  4. the top level of the configuration file
//
// and else has its default. The file is YAML; a key that is not known is an
// error, at every level, with its line and the key that was probably meant. So is
// a TIDEMARK_ variable that is not known. Of several mistakes in a file the
// first line's is told.
package config

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/location"
)

// The keys of settings: flags and the file's top level spell them so, the
// environment in upper case, with underscores, and TIDEMARK_ before it.
const (
	KeySyncInterval     = "sync-interval"
	KeySnapshotInterval = "snapshot-interval"
	KeyCheckpointPages  = "checkpoint-pages"
	KeyStateDir         = "state-dir"
	KeyKeepJournalMode  = "keep-journal-mode"
	KeySpoolLimit       = "spool-limit"
	KeyAllowNetworkFS   = "allow-network-fs"
	KeyUnfenced         = "unfenced"
	KeyLogLevel         = "log-level"
	KeyLogFormat        = "log-format"
)

// Defaults of the settings that have one.
const (
	DefaultSyncInterval     = time.Second
	DefaultSnapshotInterval = time.Hour
	DefaultCheckpointPages  = 1000
	DefaultSpoolLimit       = "1GiB"
	DefaultLogLevel         = slog.LevelInfo
	DefaultLogFormat        = "text"
)

// Logging is how a command logs.
type Logging struct {
	// Level is the lowest level that is logged.
	Level slog.Level
	// Format is "text" or "json".
	Format string
}

// Database is one database to replicate, with every setting resolved.
type Database struct {
	// Path is the database file.
	Path string
	// URL is where its replica lives; one from a file can be parsed.
	URL string
	// StateDir is the folder for local state, or "" for the one next to the
	// database.
	StateDir string
	// SyncInterval is the time between uploads; 0 ships at once.
	SyncInterval time.Duration
	// SnapshotInterval is the time between snapshots while there are commits; 0
	// is for none but the first.
	SnapshotInterval time.Duration
	// CheckpointPages is how many pages the WAL holds before it is handed
	// off; at least 1.
	CheckpointPages int
	// KeepJournalMode refuses a database that is not in WAL mode.
	KeepJournalMode bool
	// SpoolLimit is how many bytes may wait on disk to be uploaded; at least 1.
	SpoolLimit int64
	// AllowNetworkFS follows the database on a network file system, too.
	AllowNetworkFS bool
	// Unfenced goes on although the storage ignores conditional writes.
	Unfenced bool
	// Retention is what is kept of the replica.
	Retention Retention
	// Origin is the place in the configuration file, for messages, or "" for
	// the command line.
	Origin string
}

// Settings is what one run of replicate needs.
type Settings struct {
	// Logging is how to log.
	Logging Logging
	// Databases are the databases, in the order in which they were given,
	// none of them twice. There is at least one.
	Databases []Database
}

// Error says what is wrong with the configuration, and where. All errors of
// this package are Errors.
type Error struct {
	// Where is the file (and line), flag or environment variable.
	Where string
	// Msg is what is wrong there.
	Msg string
	// Advice is what to do, or "".
	Advice string

	line int // in the file, or 0
}

// Error gives the place and what is wrong.
func (e *Error) Error() string {
	if e.Where == "" {
		return e.Msg
	}
	return e.Where + ": " + e.Msg
}

// Hint gives the advice.
func (e *Error) Hint() string { return e.Advice }

// problems are what is wrong with a configuration. People mend a file from its
// top, so the first line's is told, and before it what has no line.
type problems []*Error

// first gives it, or nil.
func (p problems) first() error {
	if len(p) == 0 {
		return nil
	}
	return slices.MinFunc(p, func(a, b *Error) int { return cmp.Compare(a.line, b.line) })
}

// LoadLogging gives the logging settings of a command that reads no
// configuration file: its flags (log-level, log-format) and the environment.
func LoadLogging(flags *pflag.FlagSet) (Logging, error) {
	if err := checkEnvironment(os.Environ()); err != nil {
		return Logging{}, err
	}
	l := newLayers(flags)
	out := l.logging()
	return out, l.bad.first()
}

// LoadStateDirs gives the databases of a command that looks at local state: those
// at the paths, or those of the file if there is one. Of the databases at paths
// only Path and StateDir are set; a state directory that is set for several of
// them has a folder for each, as with a file.
func LoadStateDirs(flags *pflag.FlagSet, file string, paths []string) ([]Database, error) {
	if file != "" && len(paths) > 0 {
		return nil, &Error{
			Msg:    "databases are given both on the command line and with --config " + file,
			Advice: "leave out one of the two",
		}
	}
	if file != "" {
		s, err := Load(flags, file, nil)
		return s.Databases, err
	}
	if _, err := LoadLogging(flags); err != nil {
		return nil, err
	}
	l := newLayers(flags)
	dbs := make([]Database, 0, len(paths))
	for _, path := range paths {
		var e *entry // the folder itself
		if len(paths) > 1 {
			e = &entry{path: setting{text: path}}
		}
		dbs = append(dbs, Database{Path: path, StateDir: l.stateDir(e)})
	}
	return dbs, l.bad.first()
}

// Load gives the settings from flags, the environment, the file (none if
// empty) and the command line's arguments: nothing, or a database and a URL.
func Load(flags *pflag.FlagSet, file string, args []string) (Settings, error) {
	l, entries, err := load(flags, file)
	if err != nil {
		return Settings{}, err
	}
	s := Settings{Logging: l.logging()}
	base := l.database(nil)
	dbs := l.databases(entries)
	if err := l.bad.first(); err != nil {
		return Settings{}, err
	}
	switch {
	case len(args) == 0 && len(entries) == 0:
		return Settings{}, nothingToDo(file)
	case len(args) == 0:
		s.Databases = dbs
		return s, nil
	case len(entries) > 0:
		return Settings{}, &Error{
			Msg:    "databases are given both on the command line and under dbs in " + file,
			Advice: "leave out DB and URL, or use a configuration file without dbs",
		}
	case len(args) != 2:
		return Settings{}, &Error{Msg: "replicate needs a database and a URL", Advice: "write tidemark replicate DB URL"}
	}
	base.Path, base.URL = args[0], args[1]
	s.Databases = []Database{base}
	return s, nil
}

// load reads the environment and a file (none if empty).
func load(flags *pflag.FlagSet, file string) (l *layers, entries []entry, err error) {
	if err := checkEnvironment(os.Environ()); err != nil {
		return nil, nil, err
	}
	l = newLayers(flags)
	if file != "" {
		entries, err = l.readFile(file)
	}
	return l, entries, err
}

func nothingToDo(file string) error {
	if file == "" {
		return &Error{Msg: "no database to replicate", Advice: "write tidemark replicate DB URL, or --config FILE with a list of dbs"}
	}
	return &Error{Where: file, Msg: "no database to replicate: dbs is missing or empty", Advice: "list them under dbs, each with path and url"}
}

// databases resolves the entries of a file and refuses doubles: two engines
// on one database or one replica would fight.
func (l *layers) databases(entries []entry) []Database {
	dbs := make([]Database, 0, len(entries))
	places := make([]location.Location, len(entries))
	paths := map[string]string{}
	for i, e := range entries {
		dbs = append(dbs, l.database(&e))
		var err error
		if places[i], err = location.Parse(e.url.text); err != nil {
			l.wrongURL(e, err)
			continue
		}
		same := func(other location.Location) bool { return other.Same(places[i]) }
		if first := slices.IndexFunc(places[:i], same); first >= 0 {
			l.wrong(e.where, e.line, "url "+e.url.text+" is listed already, at "+entries[first].where,
				"each database needs a replica of its own: give them different prefixes")
		}
		abs, err := filepath.Abs(e.path.text)
		if err != nil {
			l.wrong(e.where, e.path.line, "path: "+err.Error(), "")
			continue
		}
		if first, twice := paths[abs]; twice {
			l.wrong(e.where, e.line, "path "+e.path.text+" is listed already, at "+first, "")
			continue
		}
		paths[abs] = e.where
	}
	return dbs
}

// wrongURL notes that an entry's URL is none; a missing one is noted already.
func (l *layers) wrongURL(e entry, err error) {
	if e.url.text == "" {
		return
	}
	advice := ""
	var refused *location.Error
	if errors.As(err, &refused) {
		advice = refused.Advice
	}
	l.wrong(l.doc.place(e.url.line, "url"), e.url.line, err.Error(), advice)
}

// wrong notes what is wrong.
func (l *layers) wrong(where string, line int, msg, advice string) {
	l.bad = append(l.bad, &Error{Where: where, Msg: msg, Advice: advice, line: line})
}

// database resolves the settings of one database: of an entry of the file, or
// (nil) the one on the command line.
func (l *layers) database(e *entry) Database {
	db := Database{
		SyncInterval: l.interval(KeySyncInterval, "to ship at once", e), SnapshotInterval: l.interval(KeySnapshotInterval, "for none but the first", e),
		CheckpointPages: l.count(KeyCheckpointPages, e),
		KeepJournalMode: l.boolean(KeyKeepJournalMode, nil), StateDir: l.stateDir(e),
		SpoolLimit: l.size(KeySpoolLimit, e), AllowNetworkFS: l.boolean(KeyAllowNetworkFS, e), Unfenced: l.boolean(KeyUnfenced, e),
		Retention: l.retention(e),
	}
	if e != nil {
		db.Path, db.URL, db.Origin = e.path.text, e.url.text, e.where
	}
	return db
}
