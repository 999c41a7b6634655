package local

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked says that another tidemark uses the directory.
var ErrLocked = errors.New("another tidemark replicates this database")

// lookPatience bounds how long lockDir waits for somebody who looks at the lock.
// A look takes microseconds, unless its process is suspended in the middle.
const lookPatience = 10 * time.Second

// The lock is a flock: it belongs to an open file, so that it ends with the
// process that has it, however that ends. Who replicates holds it exclusively. Who
// looks whether somebody does tries to share it, and gives it back at once.
// /proc/locks would tell without that, but only on Linux, and not from one
// container about another.
func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// lockDir takes the lock for a replicator. That somebody looks at it right then
// must not look like another replicator: the lock could be shared then, with one
// it can't. So it fails at once beside a replicator, and waits for a look.
func lockDir(dir string) (*flock.Flock, error) {
	lock := flock.New(lockPath(dir))
	for end := time.Now().Add(lookPatience); ; {
		ok, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock state directory: %w", err)
		}
		if ok {
			return lock, nil
		}
		held, err := Held(dir)
		if err != nil {
			return nil, err
		}
		if held || time.Now().After(end) {
			return nil, fmt.Errorf("%w: %s is locked; stop the other one first", ErrLocked, dir)
		}
		// Held is a look, too: of two that start at once, both must not go on
		// looking at each other.
		<-time.After(rand.N(2 * time.Millisecond)) //nolint:gosec // no secret
	}
}

// Held tells whether a process holds the lock of the state directory dir, so that
// it replicates, or is about to begin or to end. It makes no file, and delays a
// replicator that starts at the same moment by a few milliseconds at most. It needs
// the right to read the directory.
func Held(dir string) (bool, error) {
	lock := flock.New(lockPath(dir), flock.SetFlag(os.O_RDONLY))
	shared, err := lock.TryRLock()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock of the state directory: %w", err)
	}
	if !shared {
		return true, nil
	}
	if err := lock.Close(); err != nil {
		return false, fmt.Errorf("look at the lock of the state directory: %w", err)
	}
	return false, nil
}
