package config

import (
	"cmp"
	"errors"
	"path/filepath"
	"time"

	"tidemark/cmd/tidemark/location"
)

// Database is a database and one of its replicas, with every setting resolved. One
// with several replicas is several Databases.
type Database struct {
	// Path is the database file.
	Path string
	// URL is where its replica lives; one from a file can be parsed.
	URL string
	// Replica is the replica's name among several of the database, or "".
	Replica string
	// StateDir is the folder for local state, or "" for the one next to the
	// database. Replicas of one database have the same.
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

// database resolves the settings of one database: of an entry of the file, or
// (nil) the one on the command line.
func (l *layers) database(e *entry) Database {
	db := Database{
		SyncInterval: l.interval(KeySyncInterval, "to ship at once", e), SnapshotInterval: l.interval(KeySnapshotInterval, "for none but the first", e),
		CheckpointPages: l.count(KeyCheckpointPages, "pages", e),
		KeepJournalMode: l.boolean(KeyKeepJournalMode, nil), StateDir: l.stateDir(e),
		SpoolLimit: l.size(KeySpoolLimit, e), AllowNetworkFS: l.boolean(KeyAllowNetworkFS, e), Unfenced: l.boolean(KeyUnfenced, e),
		Retention: l.retention(e),
	}
	if e != nil {
		db.Path, db.Origin = cmp.Or(e.path.text, e.dir.text), e.where
	}
	return db
}

// replicas resolves the replicas of an entry. Those of a folder are as of the folder
// itself: Path is the folder, and URL and StateDir are what each database's lie below.
func (l *layers) replicas(e entry) []Database {
	dbs := make([]Database, 0, len(e.replicas))
	for _, t := range e.replicas {
		db := l.database(e.of(t))
		db.URL, db.Replica = t.url.text, t.name.text
		dbs = append(dbs, db)
	}
	return dbs
}

// resolve resolves the entries of a file and refuses doubles: two engines on one
// database or one replica would fight.
func (l *layers) resolve(entries []entry) (dbs []Database, folders []Folder) {
	l.checkURLs(entries)
	paths := map[string]string{}
	for _, e := range entries {
		replicas := l.replicas(e)
		if e.dir.text != "" {
			folders = append(folders, l.folder(e, replicas))
		} else {
			dbs = append(dbs, replicas...)
		}
		kind, at := keyPath, e.path
		if e.dir.text != "" {
			kind, at = keyDir, e.dir
		}
		abs, err := filepath.Abs(at.text)
		if err != nil {
			l.wrong(e.where, at.line, kind+": "+err.Error(), "")
			continue
		}
		if at.text == "" {
			continue // that is noted already
		}
		abs += "\x00" + e.pattern.text
		if first, twice := paths[abs]; twice {
			l.wrong(e.where, e.line, kind+" "+at.text+" is listed already, at "+first, "")
			continue
		}
		paths[abs] = e.where
	}
	return dbs, folders
}

// listedURL is a place of a file.
type listedURL struct {
	place  location.Location
	where  string
	folder bool // each database has a place below it
}

// checkURLs refuses URLs that can't be parsed, and two that are one place, or lie
// where a folder's databases have theirs.
func (l *layers) checkURLs(entries []entry) {
	var listed []listedURL
	for _, e := range entries {
		for _, t := range e.replicas {
			place, err := location.Parse(t.url.text)
			if err != nil {
				l.wrongURL(t, err)
				continue
			}
			next := listedURL{place, t.where, e.dir.text != ""}
			for _, other := range listed {
				if l.clash(t, next, other) {
					break
				}
			}
			listed = append(listed, next)
		}
	}
}

// clash notes that two places are too near to one another.
func (l *layers) clash(t target, next, other listedURL) bool {
	switch {
	case next.place.Same(other.place):
		l.wrong(t.where, t.line, "url "+t.url.text+" is listed already, at "+other.where,
			"each database needs a replica of its own: give them different prefixes")
	case other.folder && next.place.Within(other.place), next.folder && other.place.Within(next.place):
		l.wrong(t.where, t.line, "url "+t.url.text+" and "+other.place.String()+", at "+other.where+
			", lie within one another, and the databases of a folder have their replicas there", "give them different prefixes")
	default:
		return false
	}
	return true
}

// wrongURL notes that a replica's URL is none; a missing one is noted already.
func (l *layers) wrongURL(t target, err error) {
	if t.url.text == "" {
		return
	}
	advice := ""
	var refused *location.Error
	if errors.As(err, &refused) {
		advice = refused.Advice
	}
	l.wrong(l.doc.place(t.url.line, keyURL), t.url.line, err.Error(), advice)
}
