// Package config puts together what `tidemark replicate` runs with, from four
// places. A setting comes from the first of them that has it:
//
//  1. a flag of the command line (--sync-interval 5s)
//  2. the environment (TIDEMARK_SYNC_INTERVAL=5s)
//  3. the entry of one database under `dbs:` in the configuration file
//  4. the top level of the configuration file
//
// and else has its default. The file is YAML; a key that is not known is an
// error, at every level, with its line and the key that was probably meant.
package config

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// The keys of settings: flags and the file's top level spell them so, the
// environment in upper case, with underscores, and TIDEMARK_ before it.
const (
	KeySyncInterval    = "sync-interval"
	KeyCheckpointPages = "checkpoint-pages"
	KeyStateDir        = "state-dir"
	KeyKeepJournalMode = "keep-journal-mode"
	KeyLogLevel        = "log-level"
	KeyLogFormat       = "log-format"
)

// Defaults of the settings that have one.
const (
	DefaultSyncInterval    = time.Second
	DefaultCheckpointPages = 1000
	DefaultLogLevel        = slog.LevelInfo
	DefaultLogFormat       = "text"
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
	// URL is where its replica lives; it has not been parsed.
	URL string
	// StateDir is the folder for local state, or "" for the one next to the
	// database.
	StateDir string
	// SyncInterval is the time between uploads; 0 ships at once.
	SyncInterval time.Duration
	// CheckpointPages is how many pages the WAL holds before it is handed
	// off; at least 1.
	CheckpointPages int
	// KeepJournalMode refuses a database that is not in WAL mode.
	KeepJournalMode bool
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

// LoadLogging gives the logging settings of a command that reads no
// configuration file: its flags (log-level, log-format) and the environment.
func LoadLogging(flags *pflag.FlagSet) (Logging, error) {
	return newLayers(flags).logging()
}

// Load gives the settings from flags, the environment, the file (none if
// empty) and the command line's arguments: nothing, or a database and a URL.
func Load(flags *pflag.FlagSet, file string, args []string) (Settings, error) {
	l := newLayers(flags)
	var entries []entry
	if file != "" {
		var err error
		if entries, err = l.readFile(file); err != nil {
			return Settings{}, err
		}
	}
	logging, err := l.logging()
	if err != nil {
		return Settings{}, err
	}
	base, err := l.database(nil)
	if err != nil {
		return Settings{}, err
	}
	s := Settings{Logging: logging}
	switch {
	case len(args) == 0 && len(entries) == 0:
		return Settings{}, nothingToDo(file)
	case len(args) == 0:
		s.Databases, err = l.databases(entries)
		return s, err
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

func nothingToDo(file string) error {
	if file == "" {
		return &Error{Msg: "no database to replicate", Advice: "write tidemark replicate DB URL, or --config FILE with a list of dbs"}
	}
	return &Error{Where: file, Msg: "no database to replicate: dbs is missing or empty", Advice: "list them under dbs, each with path and url"}
}

// databases resolves the entries of a file and refuses doubles: two engines
// on one database or one replica would fight.
func (l *layers) databases(entries []entry) ([]Database, error) {
	dbs := make([]Database, 0, len(entries))
	paths, urls := map[string]string{}, map[string]string{}
	for _, e := range entries {
		db, err := l.database(&e)
		if err != nil {
			return nil, err
		}
		abs, err := filepath.Abs(db.Path)
		if err != nil {
			return nil, &Error{Where: e.where, Msg: "path: " + err.Error()}
		}
		if first, twice := paths[abs]; twice {
			return nil, &Error{Where: e.where, Msg: "path " + db.Path + " is listed already, at " + first}
		}
		if first, twice := urls[db.URL]; twice {
			return nil, &Error{
				Where: e.where, Msg: "url " + db.URL + " is listed already, at " + first,
				Advice: "each database needs a replica of its own: give them different prefixes",
			}
		}
		paths[abs], urls[db.URL] = e.where, e.where
		dbs = append(dbs, db)
	}
	return dbs, nil
}

// database resolves the settings of one database: of an entry of the file, or
// (nil) the one on the command line.
func (l *layers) database(e *entry) (Database, error) {
	var db Database
	var err error
	if db.SyncInterval, err = l.interval(KeySyncInterval, e); err != nil {
		return Database{}, err
	}
	if db.CheckpointPages, err = l.count(KeyCheckpointPages, e); err != nil {
		return Database{}, err
	}
	if db.KeepJournalMode, err = l.boolean(KeyKeepJournalMode); err != nil {
		return Database{}, err
	}
	if db.StateDir, err = l.stateDir(e); err != nil {
		return Database{}, err
	}
	if e != nil {
		db.Path, db.URL, db.Origin = e.path, e.url, e.where
	}
	return db, nil
}
