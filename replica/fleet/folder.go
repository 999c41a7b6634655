package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folder is where databases are looked for.
type Folder struct {
	// Dir is the folder.
	Dir string
	// Pattern is what the names of databases look like, as with [filepath.Match];
	// empty: any name. Only one that begins with a dot is that of a hidden file.
	Pattern string
	// Recursive looks into the folders below, too.
	Recursive bool
	// Skip are folders that are not looked into.
	Skip []string
	// Replications gives those of the database at a path relative to Dir, with
	// slashes; path is Dir and that. It is called again for one that was gone and is
	// back. With an error, which is logged, there are none.
	Replications func(path, rel string) ([]Replication, error)
}

// Scan gives the databases in a folder, relative to it and with slashes, in the order
// of their names. It reads the beginning of files, so it must not be used while
// this process has a database in there open. Folders and files below it that can't
// be read are left out.
func Scan(ctx context.Context, in Folder) ([]string, error) {
	fo, err := openFolder(in)
	if err != nil {
		return nil, err
	}
	var found []string
	fo.walk(ctx, ".", visitor{
		file: func(rel string, _ fs.FileInfo) {
			if file, ok, _, err := sniff(fo.path(rel)); err == nil {
				_ = file.Close() // only read from
				if ok {
					found = append(found, filepath.ToSlash(rel))
				}
			}
		},
	})
	return found, ctx.Err()
}

// Locate gives the path of a file relative to the folder, with slashes, if the folder
// would have it as a database. It does not look whether there is one.
func (in Folder) Locate(path string) (rel string, ok bool) {
	fo, err := newFolder(in)
	if err != nil {
		return "", false
	}
	abs, err := absolute(path)
	if err != nil {
		return "", false
	}
	rel, ok = fo.locate(abs)
	return filepath.ToSlash(rel), ok && rel != "." && fo.takes(filepath.Base(rel))
}

// folder is a folder that is looked into.
type folder struct {
	Folder
	abs  string
	skip []string // absolute
}

func newFolder(in Folder) (*folder, error) {
	abs, err := absolute(in.Dir)
	if err != nil {
		return nil, err
	}
	if _, err := filepath.Match(in.Pattern, ""); err != nil {
		return nil, fmt.Errorf("the pattern %q: %w", in.Pattern, err)
	}
	fo := &folder{Folder: in, abs: abs}
	for _, dir := range in.Skip {
		if dir, err = absolute(dir); err != nil {
			return nil, err
		}
		fo.skip = append(fo.skip, dir)
	}
	return fo, nil
}

// openFolder checks that a folder can be read.
func openFolder(in Folder) (*folder, error) {
	fo, err := newFolder(in)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(fo.abs)
	if err != nil {
		return nil, fmt.Errorf("look for databases: %w", err)
	}
	_, err = dir.Readdirnames(1)
	if err = errors.Join(ignoreEOF(err), dir.Close()); err != nil {
		return nil, fmt.Errorf("look for databases: %w", err)
	}
	return fo, nil
}

// path is the path of something in the folder, as its user writes it.
func (fo *folder) path(rel string) string { return filepath.Join(fo.Dir, rel) }

// key is its absolute path.
func (fo *folder) key(rel string) string { return filepath.Join(fo.abs, rel) }

// enters tells whether a folder below is looked into.
func (fo *folder) enters(rel string) bool {
	return rel == "." || fo.Recursive && !hidden(filepath.Base(rel)) && !slices.Contains(fo.skip, fo.key(rel))
}

// takes tells whether a file of that name may be a database.
func (fo *folder) takes(name string) bool {
	if besideDatabase(name) || hidden(name) && !hidden(fo.Pattern) {
		return false
	}
	ok, err := filepath.Match(cmp.Or(fo.Pattern, "*"), name)
	return ok && err == nil
}

// locate gives the relative path of an absolute one, and whether it is of a place
// that is looked into.
func (fo *folder) locate(abs string) (rel string, ok bool) {
	rel, err := filepath.Rel(fo.abs, abs)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return "", false
	}
	for dir := filepath.Dir(rel); dir != "."; dir = filepath.Dir(dir) {
		if !fo.enters(dir) {
			return "", false
		}
	}
	return rel, true
}

// visitor is told what there is in a folder.
type visitor struct {
	// enter is told of a folder before it is read, and left after with what came of
	// that; either may be nil.
	enter func(rel string)
	left  func(rel string, err error)
	// file is told of a file that may be a database.
	file func(rel string, info fs.FileInfo)
}

// walk looks into a folder, and in the order of names into those below it. Links are
// not followed.
func (fo *folder) walk(ctx context.Context, rel string, v visitor) {
	if ctx.Err() != nil {
		return
	}
	if v.enter != nil {
		v.enter(rel)
	}
	entries, err := os.ReadDir(fo.key(rel))
	if v.left != nil {
		v.left(rel, err)
	}
	for _, e := range entries {
		below := filepath.Join(rel, e.Name())
		switch {
		case e.IsDir() && fo.enters(below):
			fo.walk(ctx, below, v)
		case e.Type().IsRegular() && fo.takes(e.Name()):
			if info, err := e.Info(); err == nil { // else it is gone
				v.file(below, info)
			}
		}
	}
}

func hidden(name string) bool { return strings.HasPrefix(name, ".") }

// besideDatabase tells whether a file is one that lies beside a database.
func besideDatabase(name string) bool {
	return strings.HasSuffix(name, "-wal") || strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, "-journal")
}

func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	return abs, nil
}
