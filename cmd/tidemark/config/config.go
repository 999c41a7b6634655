// Package config puts together what `tidemark replicate` runs with, from five
// places. A setting comes from the first of them that has it:
//
//  1. a flag of the command line (--sync-interval 5s)
//  2. the environment (TIDEMARK_SYNC_INTERVAL=5s)
//  3. the entry of one replica under `replicas:` of a database's entry in the
//     configuration file
//  4. the entry of one database, or of a folder of them, under `dbs:`
//  5. the top level of the file
//
// and else has its default. The file is YAML; a key that is not known is an
// error, at every level, with its line and the key that was probably meant. So is
// a TIDEMARK_ variable that is not known. Of several mistakes in a file the
// first line's is told.
package config

import (
	"cmp"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"
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
	KeyMetricsAddr      = "metrics-addr"
	KeyMaxUploads       = "max-uploads"
	KeyMaxRequestRate   = "max-request-rate"
	KeySnapshotRate     = "snapshot-rate"
	KeyExec             = "exec"
	KeyCheck            = "check"
	KeyRestoreIfMissing = "restore-if-missing"
	KeyLogLevel         = "log-level"
	KeyLogFormat        = "log-format"
)

// Defaults of the settings that have one.
const (
	DefaultSyncInterval     = time.Second
	DefaultSnapshotInterval = time.Hour
	DefaultCheckpointPages  = 1000
	DefaultSpoolLimit       = "1GiB"
	DefaultMaxUploads       = 32
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

// Settings is what one run of replicate needs.
type Settings struct {
	// Logging is how to log.
	Logging Logging
	// Process is what holds for all databases together.
	Process Process
	// Databases are the databases, in the order in which they were given, none of
	// them twice but for several replicas of it, which follow one another.
	Databases []Database
	// Folders are those in which databases are looked for, in the order of the file.
	// There is at least one database or folder.
	Folders []Folder
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
// at the paths, or those of the file if there is one, and its folders. Of the
// databases at paths only Path and StateDir are set; a state directory that is set
// for several of them has a folder for each, as with a file.
func LoadStateDirs(flags *pflag.FlagSet, file string, paths []string) ([]Database, []Folder, error) {
	if file != "" && len(paths) > 0 {
		return nil, nil, &Error{
			Msg:    "databases are given both on the command line and with --config " + file,
			Advice: "leave out one of the two",
		}
	}
	if file != "" {
		s, err := Load(flags, file, nil)
		return s.Databases, s.Folders, err
	}
	if _, err := LoadLogging(flags); err != nil {
		return nil, nil, err
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
	return dbs, nil, l.bad.first()
}

// Load gives the settings from flags, the environment, the file (none if
// empty) and the command line's arguments: nothing, or a database and a URL.
func Load(flags *pflag.FlagSet, file string, args []string) (Settings, error) {
	l, entries, err := load(flags, file)
	if err != nil {
		return Settings{}, err
	}
	s := Settings{Logging: l.logging(), Process: l.process()}
	base := l.database(nil)
	dbs, folders := l.resolve(entries)
	if err := l.bad.first(); err != nil {
		return Settings{}, err
	}
	switch {
	case len(args) == 0 && len(entries) == 0:
		return Settings{}, nothingToDo(file)
	case len(args) == 0:
		s.Databases, s.Folders = dbs, folders
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
	return &Error{Where: file, Msg: "no database to replicate: dbs is missing or empty", Advice: "list them under dbs, each with path and url, or dir and url"}
}

// wrong notes what is wrong.
func (l *layers) wrong(where string, line int, msg, advice string) {
	l.bad = append(l.bad, &Error{Where: where, Msg: msg, Advice: advice, line: line})
}
