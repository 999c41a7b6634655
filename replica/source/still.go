package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Stamp tells a file that was written to from one that was not.
type Stamp struct {
	// Size is in bytes, Modified in nanoseconds since 1970.
	Size, Modified int64
	// File is the file's number and Changed the time of its last change of any
	// kind, where the system has them, else 0: they tell a file that was put in
	// another's place, or written to, with its times preserved.
	File    uint64
	Changed int64
}

func stampOf(info os.FileInfo) Stamp {
	s := Stamp{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	s.File, s.Changed = identity(info)
	return s
}

// Stamp is what the database file looks like now.
func (d *DB) Stamp() (Stamp, error) {
	info, err := d.file.Stat()
	if err != nil {
		return Stamp{}, fmt.Errorf("look at %s: %w", d.path, err)
	}
	return stampOf(info), nil
}

// Hold pins the database as it is, if it is not pinned yet: what is committed
// from now on stays readable until Attach. One that is not in WAL mode is left alone.
func (d *DB) Hold(ctx context.Context) error {
	if d.Held() {
		return nil
	}
	mode, err := d.pragma(ctx, "PRAGMA journal_mode")
	if err == nil && mode == "wal" {
		err = d.pin(ctx)
	}
	return d.explain(err)
}

// Held tells whether the database is pinned.
func (d *DB) Held() bool { return d.pinned >= 0 || d.bare }

// Release ends the pin. Until the next Attach anything may happen to the WAL, so
// that it does not grow: Trim helps with that.
func (d *DB) Release(ctx context.Context) { d.unpin(ctx) }

// Gaps counts how often there was no pin for a moment in which the WAL may have
// restarted unseen, other than with ErrAside. Who asked knows of it; this is for
// others that read the same WAL.
func (d *DB) Gaps() int { return d.gaps }

// Trim checkpoints a database that is not pinned: the next writer restarts the
// WAL. The end of it, which beside a busy writer would never come, takes the write
// lock, if that is free.
func (d *DB) Trim(ctx context.Context) error {
	if _, done, err := d.checkpoint(ctx); err != nil || done < 0 {
		return err
	}
	if err := d.lock(ctx, lockTurn); err != nil {
		return ignoreBusy(err)
	}
	_, _, err := d.checkpoint(ctx)
	return errors.Join(err, d.unlock(ctx))
}

// Check reports, as ErrReplaced, that another file has taken the database's place
// or that it is gone: what is being followed then is a file that nobody else can
// find. As ErrTouched it reports that the file has changed and no checkpoint
// has. A file's time can change for less than that: Attach and compare.
func (d *DB) Check(ctx context.Context) error {
	if err := d.InPlace(); err != nil {
		return err
	}
	return d.untouched(ctx)
}

// InPlace is the part of Check that is about another file. It may be called at any
// time.
func (d *DB) InPlace() error {
	ours, err := d.file.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", d.path, err)
	}
	for _, path := range []string{d.path, d.given} {
		now, err := os.Stat(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		if err != nil || !os.SameFile(ours, now) {
			return fmt.Errorf("%w while it was being followed: %s no longer leads to %s as it was opened; what was read of that is shipped; "+
				"start again to follow what is there now", ErrReplaced, path, d.path)
		}
	}
	return nil
}

// sight is what the database file looked like at a moment of the WAL.
type sight struct {
	Stamp
	moment
}

// Seen is what the database file looked like when it was last known to hold what
// SQLite has written; zero if that is not known.
func (d *DB) Seen() Stamp {
	if d.seen == nil {
		return Stamp{}
	}
	return d.seen.Stamp
}

// look takes a sight.
func (d *DB) look(ctx context.Context) (sight, error) {
	stamp, err := d.Stamp()
	if err != nil {
		return sight{}, err
	}
	now, err := d.moment(ctx)
	return sight{stamp, now}, err
}

// note remembers what the file looks like after a checkpoint of ours.
func (d *DB) note(ctx context.Context) {
	d.seen = nil
	if s, err := d.look(ctx); err == nil {
		d.seen = &s
	}
}

// untouched tells, as ErrTouched, that the file was written to without a
// checkpoint. It can't tell while others checkpoint.
func (d *DB) untouched(ctx context.Context) error {
	for range 2 {
		now, err := d.look(ctx)
		if errors.Is(err, ErrBusy) || d.seen != nil && err == nil && now.Stamp == d.seen.Stamp {
			return nil
		}
		if err != nil {
			return err
		}
		if d.seen == nil || d.seen.checkpointedUntil(now.moment) {
			d.seen = &now
			return nil
		}
		// A checkpoint that is under way has written and not told so yet.
		_, done, err := d.checkpoint(ctx)
		if err != nil || done < 0 {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrTouched, d.path)
}

// FileAt reads the database file as it is, beside anything but Close.
func (d *DB) FileAt() io.ReaderAt { return d.file }

// File reads the first pages of the database file as it is, whatever the WAL
// holds.
func (d *DB) File(pages uint32) *Image {
	return &Image{db: d.file, size: d.pageSize, pages: pages}
}
