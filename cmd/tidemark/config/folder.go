package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"path"
	"path/filepath"
	"slices"

	"tidemark/cmd/tidemark/location"
)

// Folder is a folder whose databases are replicated, with every setting resolved.
type Folder struct {
	// Dir is the folder.
	Dir string
	// Pattern is what the databases' names look like, as with [path.Match]; empty:
	// any name.
	Pattern string
	// Recursive looks into the folders below, too.
	Recursive bool
	// Replicas are those of each database, as of the folder: Databases says what is
	// another for each.
	Replicas []Database
	// Origin is the place in the configuration file, for messages.
	Origin string
}

// Databases gives the replicas of the database at a path relative to the folder,
// with slashes. Each lies below the folder's URL, at that path. Two databases of
// a folder have different URLs and state directories.
func (f Folder) Databases(rel string) ([]Database, error) {
	out := make([]Database, 0, len(f.Replicas))
	for _, db := range f.Replicas {
		place, err := location.Parse(db.URL)
		if err == nil {
			place, err = place.Below(rel)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: the replica of %s: %w", db.Origin, rel, err)
		}
		db.Path, db.URL = filepath.Join(f.Dir, filepath.FromSlash(rel)), place.String()
		if db.StateDir != "" {
			if db.StateDir, err = stateBelow(db.StateDir, db.Path, rel); err != nil {
				return nil, fmt.Errorf("%s: the state directory of %s: %w", db.Origin, rel, err)
			}
		}
		out = append(out, db)
	}
	return out, nil
}

// Private are the folders that hold tidemark's own files, and no databases: where the
// local state and the replicas of databases and folders are.
func Private(dbs []Database, folders []Folder) []string {
	for _, f := range folders {
		dbs = append(slices.Clone(dbs), f.Replicas...)
	}
	var out []string
	for _, db := range dbs {
		if db.StateDir != "" {
			out = append(out, db.StateDir)
		}
		if place, err := location.Parse(db.URL); err == nil && place.IsFolder() {
			out = append(out, place.Path())
		}
	}
	return out
}

// folder resolves an entry that is a folder.
func (l *layers) folder(e entry, replicas []Database) Folder {
	f := Folder{Dir: e.dir.text, Pattern: e.pattern.text, Replicas: replicas, Origin: e.where}
	if e.recursive.text != "" {
		f.Recursive = l.truth(value{text: e.recursive.text, where: l.doc.place(e.recursive.line, keyRecursive), line: e.recursive.line})
	}
	return f
}

// stateDir gives an entry's own folder, or one below the folder that is set
// for all. Each database of a list gets its own even if it is the only one, so
// that adding a second does not move the first one's state. For an entry that is a
// folder it is the one above those of its databases.
func (l *layers) stateDir(e *entry) string {
	v := l.get(KeyStateDir, e)
	if v.text == "" || e == nil || e.dir.text != "" || (e.own[KeyStateDir].text != "" && !l.overridden(KeyStateDir)) {
		return v.text
	}
	dir, err := stateBelow(v.text, e.path.text, "")
	if err != nil {
		l.refuse(v, err.Error(), "")
	}
	return dir
}

// stateBelow gives a database's folder below one for several. rel is its path in
// a folder of databases, or "". A short sum tells databases of the same name apart
// that were listed by hand; in the folders below a folder there may be thousands.
func stateBelow(dir, name, rel string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	text := []byte(filepath.ToSlash(abs))
	sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE(text))
	if path.Base(rel) != rel && rel != "" {
		long := sha256.Sum256(text)
		sum = hex.EncodeToString(long[:8])
	}
	return filepath.Join(dir, filepath.Base(abs)+"-"+sum), nil
}
