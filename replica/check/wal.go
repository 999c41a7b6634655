package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"tidemark/wal"
	"tidemark/wal/scan"
)

const (
	// walLooks is how often a WAL that seems damaged is looked at before that is
	// said: a frame that is just being written seems so, too.
	walLooks = 4
	// walPause is the time between two looks.
	walPause = 50 * time.Millisecond
)

// salvageFirst is what to do with a WAL that holds more than SQLite would read.
const salvageFirst = "don't open the database: SQLite would drop what follows for good. Copy it with its -wal, and take all of it out with tidemark salvage"

// leftover is what a WAL holds.
type leftover struct {
	size int64
	// header is what is wrong with its header, nil if nothing is.
	header error
	page   wal.PageSize
	// commits are those that SQLite reads.
	commits int
	// lost are commits past a damaged frame, bad is that frame's number, 0 if that is not known.
	lost int
	bad  uint32
}

// sound tells whether nothing is wrong with it.
func (l leftover) sound() bool { return l.header == nil && l.lost == 0 }

// readLeftover scans the WAL. With a limit other than 0, what lies past so many frames
// does not count: SQLite knows that it is left over from before.
func readLeftover(f *os.File, size wal.PageSize, limit uint32) (leftover, error) {
	info, err := f.Stat()
	if err != nil {
		return leftover{}, fmt.Errorf("look at the WAL: %w", err)
	}
	l := leftover{size: info.Size()}
	if l.size == 0 {
		return l, nil
	}
	r, err := scan.Scan(f, l.size, scan.Options{PageSize: size})
	if err != nil {
		return l, fmt.Errorf("read the WAL: %w", err)
	}
	l.header, l.page = r.Header.Err, r.Header.Used.PageSize
	current := r.Current()
	for _, c := range r.Commits {
		end := r.Number(c.Last)
		switch {
		case c.Generation != current, c.Reason == scan.Repeated, limit != 0 && end > limit:
		case c.Proof == scan.Proven && l.lost == 0 && l.header == nil && untouched(r, c):
			l.commits++
		default:
			if l.lost++; l.lost == 1 {
				l.bad = firstBad(r, c)
			}
		}
	}
	return l, nil
}

// untouched tells whether SQLite reads a commit that is proven: it gives up at a frame
// that had to be healed.
func untouched(r *scan.Result, c scan.Commit) bool {
	for i := range r.FramesOf(c) {
		if r.Frames[i].Link == scan.Healed {
			return false
		}
	}
	return true
}

// firstBad is the number of the first damaged frame of the first commit that SQLite does
// not read, 0 if that frame is not in its place.
func firstBad(r *scan.Result, c scan.Commit) uint32 {
	for i := c.First; i <= c.Last; i++ {
		if r.Frames[i].Link != scan.Linked {
			return r.Number(i)
		}
	}
	return 0
}

// published is how many frames of the WAL's generation SQLite counts, 0 if the
// wal-index does not tell.
func (c *checker) published() uint32 {
	f, err := openShared(c.files.path + "-shm")
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // only read
	b := make([]byte, wal.IndexSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0
	}
	x, err := wal.ParseIndex(b)
	h, ok, herr := readWALHeader(c.files.wal)
	if err != nil || herr != nil || !ok || h.Salts != x.Salts {
		return 0
	}
	return x.Frames
}

// wal looks at the WAL.
func (c *checker) wal(ctx context.Context) error {
	var l leftover
	for look := range walLooks {
		if look > 0 {
			select {
			case <-time.After(walPause):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := c.files.reopen(); err != nil {
			return err
		}
		if c.files.wal == nil {
			c.ok(WAL, "no WAL")
			return nil
		}
		var limit uint32
		if !c.quiet() {
			limit = c.published()
		}
		var err error
		if l, err = readLeftover(c.files.wal, c.head.size, limit); err != nil {
			return err
		}
		if l.sound() && (l.size == 0 || l.page == c.head.size) {
			break
		}
	}
	c.sayWAL(l)
	return nil
}

// sayWAL tells of a WAL that is there.
func (c *checker) sayWAL(l leftover) {
	name := c.files.path + "-wal"
	switch {
	case l.size == 0:
		c.ok(WAL, "the WAL is empty")
	case l.header != nil && l.lost+l.commits == 0 && l.page == 0:
		c.fail(WAL, salvageFirst, "%s (%s) is no WAL, or damaged from its beginning on", name, bytesOf(l.size))
	case l.header != nil:
		c.fail(WAL, salvageFirst, "the header of %s is damaged (%v); commits behind it: %d", name, l.header, l.lost+l.commits)
	case l.page != c.head.size:
		c.fail(WAL, "keep both files, move the WAL away from the database, and look for the one that it belongs to",
			"%s is of another database: its pages have %d bytes, the database's %d", name, l.page, c.head.size)
	case l.lost > 0 && l.bad != 0:
		c.fail(WAL, salvageFirst, "frame %d of %s is damaged before the end of a later commit; commits before it: %d, from it on: %d", l.bad, name, l.commits, l.lost)
	case l.lost > 0:
		c.fail(WAL, salvageFirst, "%s is damaged before the end of a later commit; commits before it: %d, from it on: %d", name, l.commits, l.lost)
	case l.commits > 0 && c.head.readVersion != walVersion:
		c.fail(WAL, "keep both files, and move the WAL away from the database: SQLite would read its pages into it",
			"%s holds commits, and the database is not in WAL mode: it is left over from before, or of another database", name)
	case l.commits > 0 && c.quiet():
		c.warn(WAL, "keep it with the database: SQLite reads it when the database is next opened",
			"the WAL (commits: %d, %s) was left by an application that did not close the database, and is whole", l.commits, bytesOf(l.size))
	default:
		c.ok(WAL, "the WAL is whole (commits: %d, %s)", l.commits, bytesOf(l.size))
	}
}

// shm looks at the shared memory of those who have the database open.
func (c *checker) shm() error {
	info, err := os.Stat(c.files.path + "-shm")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.ok(SharedMemory, "no -shm file")
	case err != nil:
		return fmt.Errorf("look at the -shm file: %w", err)
	case c.quiet() && c.files.wal == nil:
		c.warn(SharedMemory, "nothing: SQLite makes it anew when the database is next opened", "%s-shm (%s) is left over, without a WAL", c.files.path, bytesOf(info.Size()))
	case c.quiet():
		c.ok(SharedMemory, "%s-shm is left over; SQLite makes it anew", c.files.path)
	default:
		c.ok(SharedMemory, "in use")
	}
	return nil
}
