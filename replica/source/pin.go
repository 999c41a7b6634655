package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"tidemark/replica/disk"
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
	next, err := d.secondPin(ctx)
	if err != nil {
		return err
	}
	if err := drain.Keep(); err != nil {
		rollback(ctx, d.pins[next])
		return err
	}
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

// Attachment is what Attach found: the database at the end of its WAL, at a
// moment when nobody could write.
type Attachment struct {
	// Header is the WAL's. HasWAL is false if the file held no header: then
	// the database file holds everything.
	Header wal.Header
	HasWAL bool
	// End is the position after the last commit, Pages the database's length
	// there.
	End   wal.Position
	Pages uint32
	// Continues tells that the position given to Attach is the end of a
	// commit (or the start) of this WAL. Resumed tells that what follows it
	// has been read.
	Continues, Resumed bool
	// Image reads the database as it stood at End, while the pin that Attach
	// took is held.
	Image *Image
}

// resumeFrames is how many frames Attach has read under the write lock.
const resumeFrames = 2000

// Attach pins the database at the end of its WAL. known is a position from an
// earlier run, or zero. If the WAL continues it by not too many frames, resume
// is called under the write lock to read them: if the pin finds the WAL
// backfilled, the next writer overwrites them.
func (d *DB) Attach(ctx context.Context, known wal.Position, resume func(wal.Header) error) (*Attachment, error) {
	if err := d.pin(ctx); err != nil {
		return nil, d.explain(err)
	}
	// A connection that was opened before the database was switched to WAL
	// learns of the WAL when it reads, not when it checkpoints.
	err := retryBusy(ctx, openPatience, func() error {
		var v int64
		return d.ckpt.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&v)
	})
	if err != nil {
		return nil, d.explain(fmt.Errorf("attach to %s: %w", d.path, err))
	}
	if d.wal == nil {
		f, err := disk.Open(d.fs, d.path+"-wal")
		if err != nil {
			return nil, fmt.Errorf("open WAL: %w", err)
		}
		d.wal = f
	}
	for {
		// The WAL is read once without the lock, so that little is left to
		// read under it.
		s := scan{known: known, frames: map[wal.PageNo]uint32{}}
		if err := s.run(ctx, d); err != nil {
			return nil, err
		}
		a, err := d.attachLocked(ctx, &s, resume)
		if a != nil || err != nil {
			return a, err
		}
	}
}

// attachLocked gives nil if the WAL restarted since it was scanned.
func (d *DB) attachLocked(ctx context.Context, s *scan, resume func(wal.Header) error) (a *Attachment, err error) {
	if err := d.lock(ctx, openPatience); err != nil {
		return nil, d.explain(err)
	}
	defer func() { err = errors.Join(err, d.unlock(ctx)) }()
	if h, err := wal.ReadHeader(d.wal); s.restarted(h, err) {
		return nil, nil //nolint:nilnil // documented
	}
	if err := errors.Join(s.run(ctx, d), s.whole()); err != nil {
		return nil, err
	}
	if err := d.pin(ctx); err != nil {
		return nil, err
	}
	if err := d.pins[d.pinned].QueryRowContext(ctx, "PRAGMA page_count").Scan(&s.pages); err != nil {
		return nil, fmt.Errorf("read page count of %s: %w", d.path, err)
	}
	backfilled, err := d.dropBackfilled(ctx, s)
	if err != nil {
		return nil, err
	}
	image := &Image{db: d.file, wal: d.wal, header: s.header, size: d.pageSize, pages: s.pages, frames: s.frames}
	info, err := d.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", d.path, err)
	}
	if err := image.Complete(info.Size()); err != nil {
		return nil, fmt.Errorf("%s: %w", d.path, err)
	}
	d.slot0 = backfilled
	d.note(ctx)
	resumed := s.continues && s.end().Frame-s.known.Frame <= resumeFrames
	if resumed {
		if err := resume(s.header); err != nil {
			return nil, err
		}
	} else if backfilled {
		s.continues = false // the next writer overwrites what was not read
	}
	return &Attachment{
		Header: s.header, HasWAL: s.reader != nil, End: s.end(), Pages: s.pages,
		Continues: s.continues, Resumed: resumed,
		Image: image,
	}, nil
}

// dropBackfilled forgets where the pages lie in the WAL if the database file has
// them all. Then the pin may be in slot 0, and the next writer restarts the WAL
// over them. If it does not, the pin has a mark, and the frames stay. It is
// called after the pin was taken and under the write lock, when the WAL does not
// grow and no longer changes between the two.
func (d *DB) dropBackfilled(ctx context.Context, s *scan) (bool, error) {
	frames, done, err := d.walIndex(ctx, openPatience)
	if err != nil {
		return false, err
	}
	if frames == done {
		clear(s.frames)
	}
	return frames == done, nil
}

// scan walks a WAL and notes the last frame of each page.
type scan struct {
	known     wal.Position
	header    wal.Header
	reader    *wal.Reader // nil: no WAL
	frames    map[wal.PageNo]uint32
	pages     uint32
	published uint32
	continues bool
}

// begins tells whether the file holds a commit right after its header.
func (s *scan) begins(f io.ReaderAt) bool {
	_, err := wal.NewReader(f, s.header, s.header.Start()).Next()
	return err == nil
}

// whole checks, under the write lock, that the file holds all that SQLite counts.
func (s *scan) whole() error {
	if at := s.end().Frame; s.reader != nil && s.published != 0 && at != s.published {
		return fmt.Errorf("%w: frame %d of the WAL's %d does not have the right checksum", ErrDamaged, at+1, s.published)
	}
	return nil
}

func (s *scan) run(ctx context.Context, d *DB) error {
	if s.reader == nil {
		h, err := wal.ReadHeader(d.wal)
		if errors.Is(err, io.EOF) || errors.Is(err, wal.ErrHeader) {
			return nil
		}
		if err != nil {
			return err
		}
		s.header, s.reader = h, wal.NewReader(d.wal, h, h.Start())
		s.continues = s.known == h.Start()
	}
	published, err := d.Published(ctx)
	if err != nil {
		return err
	}
	s.published = published
	if published == 0 && s.begins(d.wal) {
		// The wal-index has moved on and the file's header has not: this is
		// no longer the WAL of any position.
		s.known = wal.Position{}
		s.continues = false
	}
	s.reader.Rewind()
	s.reader.SetLimit(published)
	for ctx.Err() == nil {
		c, err := s.reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n := c.Start.Frame
		for fr, err := range s.reader.Frames() {
			if err != nil {
				return err
			}
			n++
			s.frames[fr.Page] = n
		}
		s.continues = s.continues || s.known == c.End
	}
	return context.Cause(ctx)
}

func (s *scan) end() wal.Position {
	if s.reader == nil {
		return wal.Position{}
	}
	return s.reader.Position()
}

// restarted compares the WAL's header as it reads now with the scanned one.
func (s *scan) restarted(now wal.Header, err error) bool {
	if s.reader == nil {
		return err == nil
	}
	return err != nil || now.Salts != s.header.Salts
}

// WAL is the WAL file, for reading. It stays the same file as long as the DB is
// open, since SQLite deletes a WAL only with its last connection.
func (d *DB) WAL() io.ReaderAt { return d.wal }

// WALPath is the WAL file's path, to be watched.
func (d *DB) WALPath() string { return d.path + "-wal" }
