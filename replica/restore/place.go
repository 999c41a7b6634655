package restore

import (
	"errors"
	"os"
)

// CheckFree looks whether a database can be made at a path as [Run] would make it:
// ErrExists says that something is there, ErrStray that files of another database lie beside
// it.
func CheckFree(path string) error { return (&output{path: path}).check() }

// Place makes a database file at a path that must be free, as Run does: fill writes it under a
// temporary name in the same folder, and it gets its own name when it is durable. It
// never replaces a file. Whatever fails, nothing is left behind.
func Place(path string, fill func(*os.File) error) error {
	out := &output{path: path}
	if err := out.check(); err != nil {
		return err
	}
	if err := out.create(); err != nil {
		return err
	}
	err := fill(out.file)
	if err == nil {
		_, err = out.publish()
	}
	if err != nil {
		err = errors.Join(err, out.discard())
	}
	return err
}
