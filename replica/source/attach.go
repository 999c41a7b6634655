package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tidemark/replica/disk"
	"tidemark/wal"
)

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
	// Continues tells that From is the end of a commit (or the start) of this
	// WAL. Resumed tells that what follows it has been read.
	Continues, Resumed bool
	// From is the position given to Attach, or the WAL's start if it restarted
	// there.
	From wal.Position
	// Image reads the database as it stood at End, while the pin that Attach
	// took is held.
	Image *Image
}

const (
	// resumeFrames is how many frames Attach has read under the write lock.
	resumeFrames = 2000
	// maxRuns is how often the WAL is read before more than maxUnderLock frames are read
	// under the lock: each time less is left, unless writers are as fast as reading is.
	maxRuns = 8
)

// Known is where a reader of the WAL stands.
type Known struct {
	// Position is from an earlier run, or zero.
	Position wal.Position
	// Pinned tells that the database has been pinned since the reader stood at
	// the WAL's end there: if the WAL has restarted, it has from there.
	Pinned bool
	// Others, if not nil, read the same WAL, and miss nothing by this either: they
	// read and secure what it holds before a pin ends.
	Others Drainer
}

// Attach pins the database at the end of its WAL. If the WAL continues what is
// known by not too many frames, resume is called under the write lock to read
// them, from a position on: if the pin finds the WAL backfilled, the next writer
// overwrites them. After an error the WAL can have restarted before it was read.
func (d *DB) Attach(ctx context.Context, known Known, resume func(h wal.Header, from wal.Position) error) (*Attachment, error) {
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	for s := (*scan)(nil); ; {
		// The WAL is read without the lock first, so that little is left to read under
		// it. What was read is not read again: beside a fast writer it could go on for
		// ever, and the WAL would grow.
		if s == nil || s.restarted(wal.ReadHeader(d.wal)) {
			s = &scan{known: known.Position, pinned: known.Pinned, frames: map[wal.PageNo]uint32{}}
		}
		s.runs++
		if err := s.run(ctx, d); err != nil {
			return nil, err
		}
		if known.Others != nil {
			if _, err := known.Others.Read(); err != nil {
				return nil, err
			}
		}
		stuck, err := d.lockOrStuck(ctx)
		if err != nil {
			return nil, d.explain(err)
		}
		if stuck {
			// A checkpoint waits for the pin, and the pin for its lock.
			held, err := d.passAndHold(ctx)
			if err != nil {
				return nil, d.explain(err)
			}
			if known.Pinned = known.Pinned && held; !known.Pinned {
				s = nil
			}
			continue
		}
		a, err := d.attachLocked(ctx, s, resume, known.Others)
		if a != nil || err != nil {
			return a, err
		}
	}
}

// prepare pins the database if it is not, and opens its WAL.
func (d *DB) prepare(ctx context.Context) error {
	// One that there is stays until all is read: a new one of a WAL that the file
	// has may be in slot 0, and the next writer restarts the WAL next to it.
	if err := d.Hold(ctx); err != nil {
		return d.explain(err)
	}
	// A connection that was opened before the database was switched to WAL
	// learns of the WAL when it reads, not when it checkpoints.
	err := retryBusy(ctx, openPatience, func() error {
		var v int64
		return d.ckpt.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&v)
	})
	if err != nil {
		return d.explain(fmt.Errorf("attach to %s: %w", d.path, err))
	}
	if d.wal == nil {
		f, err := disk.Open(d.fs, d.path+"-wal")
		if err != nil {
			return fmt.Errorf("open WAL: %w", err)
		}
		d.wal = f
	}
	return nil
}

// attachLocked is the part under the write lock, which it gives back. It gives
// nil if the WAL restarted since it was scanned, or much was written, or others
// have yet to read too much.
func (d *DB) attachLocked(ctx context.Context, s *scan, resume func(wal.Header, wal.Position) error, others Drainer) (a *Attachment, err error) {
	defer func() { err = errors.Join(err, d.unlock(ctx)) }()
	if h, err := wal.ReadHeader(d.wal); s.restarted(h, err) {
		return nil, nil //nolint:nilnil // documented
	}
	frames, _, err := d.walIndex(ctx, openPatience)
	if err != nil {
		return nil, err
	}
	if s.isFar(frames) {
		return nil, nil //nolint:nilnil // documented
	}
	if err := errors.Join(s.run(ctx, d), s.whole()); err != nil {
		return nil, err
	}
	if others != nil {
		_, err := others.Secure()
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrBehind) {
			return nil, nil //nolint:nilnil // documented
		}
		if err != nil {
			return nil, err
		}
	}
	image, backfilled, err := d.freeze(ctx, s)
	if err != nil {
		return nil, err
	}
	resumed := s.continues && s.end().Frame-s.known.Frame <= resumeFrames
	if resumed {
		if err := resume(s.header, s.known); err != nil {
			return nil, err
		}
	} else if backfilled {
		s.continues = false // the next writer overwrites what was not read
	}
	return &Attachment{
		Header: s.header, HasWAL: s.reader != nil, End: s.end(), Pages: s.pages,
		Continues: s.continues, Resumed: resumed, From: s.known,
		Image: image,
	}, nil
}

// freeze pins what was scanned and gives its image. It tells whether the file has
// all of the WAL.
func (d *DB) freeze(ctx context.Context, s *scan) (*Image, bool, error) {
	if err := d.pin(ctx); err != nil {
		return nil, false, err
	}
	if err := d.pins[d.pinned].QueryRowContext(ctx, "PRAGMA page_count").Scan(&s.pages); err != nil {
		return nil, false, fmt.Errorf("read page count of %s: %w", d.path, err)
	}
	backfilled, err := d.dropBackfilled(ctx, s)
	if err != nil {
		return nil, false, err
	}
	if s.reader == nil && !backfilled {
		return nil, false, fmt.Errorf("%w: the header of its WAL can't be read, and not all of the WAL is in %s", ErrDamaged, d.path)
	}
	image := &Image{db: d.file, wal: d.wal, header: s.header, size: d.pageSize, pages: s.pages, frames: s.frames}
	info, err := d.file.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("look at %s: %w", d.path, err)
	}
	if err := image.Complete(info.Size()); err != nil {
		return nil, false, fmt.Errorf("%s: %w", d.path, err)
	}
	d.slot0 = backfilled
	d.note(ctx)
	return image, backfilled, nil
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
	pinned    bool
	header    wal.Header
	reader    *wal.Reader // nil: no WAL
	frames    map[wal.PageNo]uint32
	pages     uint32
	published uint32
	continues bool
	runs      int // without the lock
}

// isFar tells whether a WAL of so many frames is to be read on without the write lock
// before it is read under it.
func (s *scan) isFar(frames uint32) bool {
	return s.reader != nil && frames > s.end().Frame+maxUnderLock && s.runs < maxRuns
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

// open reads the WAL's header, if it has one.
func (s *scan) open(d *DB) error {
	if s.reader != nil {
		return nil
	}
	h, err := wal.ReadHeader(d.wal)
	if errors.Is(err, io.EOF) || errors.Is(err, wal.ErrHeader) {
		return nil
	}
	if err != nil {
		return err
	}
	s.header, s.reader = h, wal.NewReader(d.wal, h, h.Start())
	if s.pinned && s.known.Salts != h.Salts {
		s.known = h.Start()
	}
	s.continues = s.known == h.Start()
	return nil
}

func (s *scan) run(ctx context.Context, d *DB) error {
	if err := s.open(d); err != nil || s.reader == nil {
		return err
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
