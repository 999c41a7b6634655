// Package current finds the commit that a live database is at, and waits until
// the replicator that runs beside it has put it into the archive. The replicator
// need not know: what it leaves in the state directory is enough.
//
// The commit is one that includes everything that was committed before the search
// began. To prove that, the end of the WAL is read at the beginning, and compared
// with the position that the replicator remembers (package local), of which all
// commits before are numbered:
//
//   - It is in the same generation of the WAL, and not before that end.
//   - Or it is in a generation that has begun since, as the WAL's header showed: a
//     replicator goes there only when it has read what was before, or compared all
//     pages.
//   - Or the WAL is empty, and the sum over all pages of the database file is the
//     state checksum that is remembered: then what is committed is in the file, and
//     the file is that state.
//
// That the commit is in the archive is then a question to the archive: whether it
// holds the very segment that the state directory names.
//
// Only files are read: the WAL, those in the state directory, and in the last case the
// database, on which no lock is taken.
package current

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

// Errors that callers branch on.
var (
	// ErrBehind says that not everything that is committed is known to be in the
	// archive: nobody replicates the database, or the replicator has not come so
	// far while it was waited for.
	ErrBehind = errors.New("what is committed is not in the replica yet")
	// ErrOther says that the bucket holds another replica than the one that the
	// database is replicated to.
	ErrOther = errors.New("another replica")
)

const (
	// poll is how often local state is looked at, ask how often the archive, tell
	// after which time it is told what is waited for.
	poll = 20 * time.Millisecond
	ask  = 500 * time.Millisecond
	tell = 3 * time.Second
)

// Options say where to look.
type Options struct {
	// Path is the database file, StateDir the replicator's state directory, or ""
	// for the one beside the database.
	Path, StateDir string
	// Bucket is where the replica lies.
	Bucket storage.Bucket
	// Logger is told what is waited for. It must not be nil.
	Logger *slog.Logger
}

// Commit is the current commit.
type Commit struct {
	TXID state.TXID
	Time time.Time
	// Archive holds it.
	Archive *archive.Archive
}

// Find finds the current commit, and waits for it until ctx ends. Without a
// replicator it does not wait: either all is in the archive, or it is ErrBehind.
func Find(ctx context.Context, opts Options) (Commit, error) {
	f := &finder{opts: opts, dir: opts.StateDir, later: map[wal.Salts]bool{}, began: time.Now()}
	path, err := filepath.EvalSymlinks(opts.Path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("find database: %w", err)
	}
	if f.path = path; f.dir == "" {
		f.dir = local.DefaultPath(path)
	}
	if f.start, err = f.lookAtWAL(ctx); err != nil {
		return Commit{}, err
	}
	return f.wait(ctx)
}

// finder is a search under way.
type finder struct {
	opts      Options
	path, dir string
	// start is the end of the WAL at the beginning, later the generations that
	// were seen after that one.
	start end
	later map[wal.Salts]bool
	// found is the commit, TXID 0 until it is known; what follows is about its way
	// into the archive.
	found Commit
	asked time.Time

	began time.Time
	told  string
	// nextCompare is when to compare the database file again.
	nextCompare time.Time
}

// wait looks again and again.
func (f *finder) wait(ctx context.Context) (Commit, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		// First: what a replicator leaves when it ends is what counts then.
		held, err := local.Held(f.dir)
		if err != nil {
			return Commit{}, err
		}
		missing, err := f.look(ctx, held)
		switch {
		case err != nil:
			return Commit{}, err
		case missing == "":
			return f.found, nil
		case !held:
			return Commit{}, fmt.Errorf("%w: %s, and nobody replicates %s", ErrBehind, missing, f.opts.Path)
		case missing != f.told && time.Since(f.began) > tell:
			f.told = missing
			f.opts.Logger.Info("waiting: " + missing)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Commit{}, fmt.Errorf("%w: %s (%w)", ErrBehind, missing, context.Cause(ctx))
		}
	}
}

// look looks once, and tells what is missing, "" if nothing.
func (f *finder) look(ctx context.Context, held bool) (missing string, err error) {
	st, sh, err := local.Peek(disk.OS{}, f.dir)
	if errors.Is(err, local.ErrLost) {
		f.found = Commit{} // a full spool was given up
		return "no commit is remembered in " + f.dir, nil
	}
	if err != nil {
		return "", err
	}
	if f.found.TXID == 0 || st.TXID < f.found.TXID { // given up for a resync
		f.found = Commit{}
		covered, err := f.covers(ctx, st)
		if err != nil {
			return "", err
		}
		if !covered {
			return fmt.Sprintf("commits after TXID %v have not been shipped", st.TXID), nil
		}
		f.found = Commit{TXID: st.TXID, Time: st.Time}
	}
	return f.shipped(ctx, sh, held)
}

// covers tells whether everything that was committed at the beginning is before
// the remembered position.
func (f *finder) covers(ctx context.Context, st local.State) (bool, error) {
	h, empty, err := f.header()
	if err != nil && !errors.Is(err, wal.ErrHeader) {
		return false, err
	}
	if err == nil && !empty && (f.start.empty || h.Salts != f.start.salts) {
		f.later[h.Salts] = true
	}
	switch at := st.Position; {
	case !f.start.empty && at.Salts == f.start.salts:
		return at.Frame >= f.start.frames, nil
	case f.later[at.Salts]:
		return true, nil
	case empty:
		return f.compare(ctx, st)
	default:
		return false, nil
	}
}

// shipped asks the archive for the object that holds the commit, once the state
// directory says that it can be there.
func (f *finder) shipped(ctx context.Context, sh local.Shipped, held bool) (missing string, err error) {
	missing = fmt.Sprintf("TXID %v has not been uploaded", f.found.TXID)
	object := sh.Newest
	if object.Last < f.found.TXID {
		object = sh.Next
	}
	switch _, err := os.Stat(local.SpoolPath(f.dir, object.First)); {
	case object.Last < f.found.TXID:
		return missing, nil
	case !held: // all that can be known is there to be known now
	case object == sh.Next && err == nil, time.Since(f.asked) < ask:
		return missing, nil // it is on its way, or may be
	}
	f.asked = time.Now()
	a, err := archive.Open(ctx, f.opts.Bucket)
	switch {
	case errors.Is(err, storage.ErrUnreachable) && held:
		return fmt.Sprintf("the replica can't be reached: %v", err), nil
	case err != nil:
		return "", err
	case a.Meta().Replica != sh.Replica:
		return "", fmt.Errorf("%w: it is %v, and %s is replicated to %v", ErrOther, a.Meta().Replica, f.opts.Path, sh.Replica)
	}
	f.found.Archive = a
	var ok bool
	if object.First == 0 {
		ok, err = a.HoldsSnapshot(ctx, object.Last, int64(object.Sum))
	} else {
		ok, err = a.HoldsSegment(ctx, object.First, object.Last, object.Sum)
	}
	if ok && err == nil {
		missing = ""
	}
	return missing, err
}
