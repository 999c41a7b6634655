package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"tidemark/replica/disk"
	"tidemark/wal"
)

// Park closes what a database in which nothing happens does not need, so that it
// costs as little as can be: all but two descriptors, where the system has the locks
// for that (see lockRest), else all connections but the pin's. read is where all stand
// that read the WAL.
//
// Until Unpark nothing may be called but Parked, Held, Resting, InPlace, Stamp, Seen
// and Close. Without a pin it does nothing.
func (d *DB) Park(ctx context.Context, read ...wal.Position) error {
	if d.parked || d.pinned < 0 {
		return nil
	}
	d.parked = true
	d.rest, _ = d.restful() // before it is looked whether all was read
	if d.mayLock(read) {
		d.bare = d.lockRest(read)
	}
	return d.shut(ctx)
}

// mayLock tells whether locks may take the pin's place.
func (d *DB) mayLock(read []wal.Position) bool {
	return !d.network && d.wal != nil && len(read) > 0 && d.rest != (rest{}) && d.InPlace() == nil
}

// shut closes all connections but the pin's, and if there are locks in its place,
// that one and the WAL, too.
func (d *DB) shut(ctx context.Context) error {
	var errs []error
	if d.bare {
		d.unpin(ctx)
	}
	for i, c := range []**sql.Conn{&d.pins[0], &d.pins[1], &d.ckpt, &d.writer} {
		if *c != nil && i != d.pinned {
			errs = append(errs, (*c).Close())
			*c = nil
		}
	}
	if d.bare && d.db != nil {
		errs = append(errs, d.db.Close())
		d.db = nil
	}
	if d.bare && d.wal != nil {
		errs = append(errs, d.wal.Close())
		d.wal = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close connections to %s: %w", d.path, err)
	}
	return nil
}

// Parked tells whether connections are closed.
func (d *DB) Parked() bool { return d.parked }

// Unpark opens again what Park has closed. It is ErrReplaced if another file has
// taken the place of the database or of its WAL: a connection to that would read it
// as this one. After an error the database is parked and pinned as before.
func (d *DB) Unpark(ctx context.Context) error {
	if !d.parked {
		return nil
	}
	if err := d.InPlace(); err != nil {
		return err
	}
	err := d.reopen(ctx)
	if err == nil {
		err = d.InPlace()
	}
	if err != nil {
		return errors.Join(d.explain(err), d.shut(ctx))
	}
	d.unlockRest()
	d.parked, d.bare, d.stuck = false, false, time.Time{}
	return nil
}

// reopen opens what there is not. The pin that it takes is as good as the one that
// there was: while the locks are held, the WAL can't restart over what is unread, nor
// next to a pin in another slot than 0; and in slot 0 that pin is only if the file
// has all of the WAL, which then is as it was when all was read, or empty.
func (d *DB) reopen(ctx context.Context) error {
	if !d.bare {
		return d.connect(ctx)
	}
	if err := d.reopenWAL(); err != nil {
		return err
	}
	if !d.indexInPlace() {
		return fmt.Errorf("%w: its -shm file is gone or another one%s", ErrReplaced, deletedInUse)
	}
	if err := d.connect(ctx); err != nil {
		return err
	}
	if err := d.pin(ctx); err != nil {
		return err
	}
	frames, copied, err := d.walIndex(ctx, freePatience)
	d.slot0 = err == nil && frames == copied
	return nil
}

// deletedInUse says what to do about files that SQLite would not have deleted.
const deletedInUse = "; it was deleted while it was in use: stop the application, and start both again"

// reopenWAL opens the WAL, if it is still the one that was closed: SQLite does not
// delete it while the locks are held, but a person can.
func (d *DB) reopenWAL() error {
	f, err := disk.Open(d.fs, d.WALPath())
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: its WAL is gone%s", ErrReplaced, deletedInUse)
	}
	if err != nil {
		return fmt.Errorf("open WAL: %w", err)
	}
	info, err := f.Stat()
	if err == nil && stampOf(info).File != d.rest.wal.File {
		err = fmt.Errorf("%w: its WAL is another file%s", ErrReplaced, deletedInUse)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.wal = f
	return nil
}

// closeLast closes the database as a connection would that is the last one to have it
// open, if there are locks in place of one: SQLite then deletes the WAL. Where others
// have it open it only drops the locks.
func (d *DB) closeLast(ctx context.Context) {
	if !d.bare {
		return
	}
	if d.alone() && d.Resting() && d.indexInPlace() {
		// If it can't, the WAL stays, as after a crash.
		_ = d.connectAll(context.WithoutCancel(ctx), &d.writer)
	}
	d.unlockRest()
	d.bare = false
}

// Resting tells, for a few calls to the system, that nothing has happened to a
// database since it was parked: to the file, to its WAL, or to what is at its path.
// All else is to be found out with connections.
func (d *DB) Resting() bool {
	now, err := d.restful()
	return err == nil && now == d.rest && d.InPlace() == nil
}

// rest is what a database and its WAL look like while nothing happens to them.
type rest struct{ file, wal Stamp }

func (d *DB) restful() (r rest, err error) {
	if r.file, err = d.Stamp(); err != nil {
		return r, err
	}
	info, err := os.Stat(d.WALPath())
	if err != nil {
		return r, fmt.Errorf("look at the WAL: %w", err)
	}
	r.wal = stampOf(info)
	return r, nil
}
