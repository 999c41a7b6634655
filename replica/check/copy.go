package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"tidemark/wal"
)

// copyAttempts is how often a copy is begun; copyChunk is how much of the database
// file is copied between two looks at the WAL.
const (
	copyAttempts = 5
	copyChunk    = 1 << 20
)

// copier copies a database that is being written, without a lock. The WAL is read to
// its end first, then the database file is copied, and between two pieces of it the
// WAL is read on. A page that changes in the file meanwhile comes out of the WAL, by a
// checkpoint, and so is among the frames that were read; in the end these lie over the
// file's copy, as of the last commit that was read.
//
// That no frame was missed is proven when the WAL restarts: only the very next
// generation (salt-1 grows by 1) may follow, and the place after the last frame that
// was read of the old one must not have been written by the new one: then what was read
// is all that the old one had. While there is no WAL, the file must not change. If the
// proof fails, it is errMoved, and the copy begins anew.
type copier struct {
	*files
	size wal.PageSize
	// db is the copy of the file, over has the page images of all frames.
	db, over *os.File
	written  int64
	at       map[wal.PageNo]int64
	pages    uint32
	// reader follows the WAL; nil while there is none. still is the database file as it was then.
	reader *wal.Reader
	still  moment
}

// copied runs a function on a view of a copy in the folder dir.
func (f *files) copied(ctx context.Context, size wal.PageSize, dir string, use func(context.Context, *view) error) (err error) {
	c := &copier{files: f, size: size}
	defer func() { err = errors.Join(err, c.drop()) }()
	if c.db, err = scratch(dir); err != nil {
		return err
	}
	if c.over, err = scratch(dir); err != nil {
		return err
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for range copyAttempts {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var v *view
		if v, err = c.run(ctx); err == nil {
			return use(ctx, v)
		}
		if !errors.Is(err, errMoved) {
			return err
		}
		pause.Reset(2 * settled)
	}
	return err
}

// drop removes the copies.
func (c *copier) drop() (err error) {
	for _, f := range []*os.File{c.db, c.over} {
		if f != nil {
			err = errors.Join(err, discard(f))
		}
	}
	return err
}

// run makes one attempt.
func (c *copier) run(ctx context.Context) (*view, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	info, err := c.files.db.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	c.pages = uint32(info.Size() / int64(c.size))
	if err := c.catchUp(); err != nil {
		return nil, err
	}
	buf := make([]byte, copyChunk)
	var off int64
	for off < info.Size() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := c.files.db.ReadAt(buf[:min(copyChunk, info.Size()-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the database: %w", err)
		}
		if _, err := c.db.WriteAt(buf[:n], off); err != nil {
			return nil, fmt.Errorf("copy the database: %w", err)
		}
		off += int64(n)
		if err := c.catchUp(); err != nil {
			return nil, err
		}
		if n == 0 {
			break // it has become shorter; what is cut off is in the WAL
		}
	}
	return &view{size: c.size, pages: c.pages, db: c.db, fileSize: off, over: c.over, at: c.at}, nil
}

// begin starts from nothing.
func (c *copier) begin() (err error) {
	c.reader, c.at, c.written = nil, map[wal.PageNo]int64{}, 0
	if err := errors.Join(c.reopen(), c.db.Truncate(0), c.over.Truncate(0)); err != nil {
		return err
	}
	c.still, err = c.now()
	return err
}

// catchUp reads the WAL to its end.
func (c *copier) catchUp() error {
	if c.wal == nil {
		if err := c.open(); err != nil {
			return err
		}
	}
	now, err := c.now()
	switch {
	case err != nil:
		return err
	case now.journal:
		return errMoved // of a file in a rollback-journal mode, nothing tells what has changed
	case c.reader == nil && (now.size != c.still.size || !now.modified.Equal(c.still.modified)):
		return errMoved
	case !now.hasWAL || now.header.PageSize != c.size:
		if c.reader != nil || time.Since(now.modified) < settled {
			return errMoved
		}
		return nil
	case c.reader == nil:
		c.follow(now.header)
	case now.header.Salts != c.reader.Header().Salts:
		if err := c.finish(now.header); err != nil {
			return err
		}
		c.follow(now.header)
	}
	return c.take()
}

// follow begins to read a generation.
func (c *copier) follow(h wal.Header) { c.reader = wal.NewReader(c.wal, h, h.Start()) }

// finish reads the rest of the generation before the one of a header.
func (c *copier) finish(next wal.Header) error {
	was := c.reader.Header()
	if next.Salts.Salt1 != was.Salts.Salt1+1 {
		return errMoved
	}
	if err := c.take(); err != nil {
		return err
	}
	b := make([]byte, wal.FrameHeaderSize)
	n, err := c.wal.ReadAt(b, was.Offset(c.reader.Position().Frame+1))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the WAL: %w", err)
	}
	now, _, err := readWALHeader(c.wal)
	if err != nil && !errors.Is(err, wal.ErrHeader) {
		return fmt.Errorf("read the WAL: %w", err)
	}
	if now.Salts != next.Salts || n == len(b) && wal.ParseFrameHeader(b).Salts == next.Salts {
		return errMoved
	}
	return nil
}

// take copies the frames of the commits that the WAL holds now.
func (c *copier) take() error {
	for {
		commit, err := c.reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for f, err := range c.reader.Frames() {
			if errors.Is(err, wal.ErrChanged) {
				return errMoved
			}
			if err != nil {
				return err
			}
			if _, err := c.over.WriteAt(f.Image, c.written); err != nil {
				return fmt.Errorf("copy the WAL: %w", err)
			}
			c.at[f.Page] = c.written
			c.written += int64(len(f.Image))
		}
		c.pages = commit.Pages
	}
}
