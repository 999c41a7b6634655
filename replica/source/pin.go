package source

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"time"

	"tidemark/wal"
)

// pin opens a read transaction on the connection that holds none, and then
// ends the one before it.
func (d *DB) pin(ctx context.Context) error {
	next, err := d.secondPin(ctx)
	if err != nil {
		return err
	}
	d.unpin(ctx)
	d.pinned = next
	return nil
}

// exchange takes a new pin, has everything up to it read and secured, and ends
// the one before it. For that it needs no lock: whatever was committed before the
// new pin is readable as long as the old one is held, and what comes after it as
// long as the new one is.
//
// So it can be done while somebody's checkpoint waits for the pin, and lets that
// go on: see Yield.
func (d *DB) exchange(ctx context.Context, drain Drainer) error {
	return d.exchangeThen(ctx, drain, func() {})
}

// exchangeThen calls a function before the old pin ends.
func (d *DB) exchangeThen(ctx context.Context, drain Drainer, fn func()) error {
	next, err := d.secondPin(ctx)
	if err != nil {
		return err
	}
	if _, err := drain.Keep(wal.Salts{}); err != nil {
		rollback(ctx, d.pins[next])
		return err
	}
	fn()
	d.unpin(ctx)
	d.pinned = next
	return nil
}

// secondPin opens a read transaction on the connection that holds none.
func (d *DB) secondPin(ctx context.Context) (next int, err error) {
	if d.pinned == 0 {
		next = 1
	}
	c := d.pins[next]
	if _, err := c.ExecContext(context.WithoutCancel(ctx), "BEGIN"); err != nil {
		return 0, fmt.Errorf("pin %s: %w", d.path, err)
	}
	// Any read opens the transaction. This one needs no schema.
	err = retryBusy(ctx, openPatience, func() error {
		var v int64
		return c.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&v)
	})
	if err != nil {
		rollback(ctx, c)
		return 0, fmt.Errorf("pin %s: %w", d.path, err)
	}
	return next, nil
}

// unpin ends the pin, if there is one.
func (d *DB) unpin(ctx context.Context) {
	d.slot0 = false
	if d.pinned >= 0 {
		rollback(ctx, d.pins[d.pinned])
		d.pinned = -1
	}
}

// rollback ends a read transaction, also when ctx has ended. It can't fail in a
// way that leaves the transaction open.
func rollback(ctx context.Context, c *sql.Conn) {
	_, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
}

// lock takes the write lock.
func (d *DB) lock(ctx context.Context, patience time.Duration) error {
	err := retryBusy(ctx, patience, func() error {
		// An interrupted statement can have taken the lock all the same.
		_, err := d.writer.ExecContext(context.WithoutCancel(ctx), "BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		return fmt.Errorf("lock %s: %w", d.path, err)
	}
	return nil
}

func (d *DB) unlock(ctx context.Context) error {
	if _, err := d.writer.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
		return fmt.Errorf("unlock %s: %w", d.path, err)
	}
	return nil
}

// checkpoint copies what may be copied of the WAL into the database file,
// blocking nobody, and tells how many frames the WAL has and how many of them
// are in the file now.
func (d *DB) checkpoint(ctx context.Context) (frames, done int, err error) {
	var busy int
	err = d.ckpt.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &done)
	switch {
	case isBusy(err) || err == nil && (busy != 0 || frames < 0):
		return 0, -1, nil // someone else is at it
	case err != nil:
		return 0, 0, fmt.Errorf("checkpoint %s: %w", d.path, err)
	default:
		d.claimed = false // SQLite has given the lock back
		return frames, done, nil
	}
}

// Published is the number of frames of the WAL's generation that count, as the
// wal-index has it. A commit that is in the file and not among them is one that
// SQLite does not know: its writer is about to publish it, or died before.
//
// Whoever reads the WAL's header first and then this, and accepts only frames of
// that header's salts up to it, accepts only commits: if the WAL restarts in
// between, no frame has these salts any more.
//
// ErrBusy says that it can't be told now.
func (d *DB) Published(ctx context.Context) (uint32, error) {
	frames, _, err := d.walIndex(ctx, freePatience)
	return frames, err
}

// walIndex tells how many frames of the WAL count, and how many of them the
// database file has. It takes no lock.
func (d *DB) walIndex(ctx context.Context, patience time.Duration) (frames, done uint32, err error) {
	var busy, all, copied int64
	err = retryBusy(ctx, patience, func() error {
		return d.ckpt.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &all, &copied)
	})
	if err == nil && (busy != 0 || all < 0) {
		err = ErrBusy
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look at the wal-index of %s: %w", d.path, err)
	}
	return uint32(all), uint32(copied), nil
}

// WAL is the WAL file, for reading. It stays the same file as long as the DB is
// open, since SQLite deletes a WAL only with its last connection. While the database is
// parked it can't be read.
func (d *DB) WAL() io.ReaderAt { return liveWAL{d} }

// liveWAL is the WAL file as it is open now.
type liveWAL struct{ db *DB }

func (w liveWAL) ReadAt(p []byte, off int64) (int, error) {
	if w.db.wal == nil {
		return 0, fmt.Errorf("read the WAL of %s: %w", w.db.path, os.ErrClosed)
	}
	n, err := w.db.wal.ReadAt(p, off)
	return n, err //nolint:wrapcheck // it is the file's
}

// WALPath is the WAL file's path, to be watched.
func (d *DB) WALPath() string { return d.path + "-wal" }

// AtZero tells that the pin is likely to be in slot 0, where it lets nobody copy.
func (d *DB) AtZero() bool { return d.slot0 }
