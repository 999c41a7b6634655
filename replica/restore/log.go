package restore

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"tidemark/replica/archive"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// heldBytes bounds the pages that wait to be written.
const heldBytes = 24 << 20

// errGap says that the log does not lead on: what continues it is missing.
var errGap = fmt.Errorf("%w: no segment", archive.ErrBroken)

// errBeside says that the log has another state at the TXID of the snapshot.
var errBeside = fmt.Errorf("%w: the snapshot and the log do not agree", archive.ErrBroken)

// applyLog applies a part of the log, up to the target, to the file, which holds
// the state at, and proves that each segment continues what precedes it. at is
// where it got to. whole tells that the file holds the state at even though there
// was an error.
func (j *job) applyLog(ctx context.Context, f *os.File, log []archive.Segment, d *download, at point) (_ point, whole bool, err error) {
	p := &pages{f: f, size: at.PageSize, held: map[wal.PageNo][]byte{}, length: at.Pages}
	src := &chunks{ctx: ctx, order: d.order, room: d.room}
	var failed error
	for _, s := range log {
		if err := j.applySegment(src, s, p, &at); err != nil {
			failed = fmt.Errorf("apply %s: %w", s.Key(), err)
			break
		}
	}
	if failed != nil && p.torn {
		return at, false, failed
	}
	if err := errors.Join(p.flush(), p.resize(at.Pages)); err != nil {
		return at, false, errors.Join(failed, err)
	}
	return at, true, failed
}

// applySegment applies one segment's commits that come after at, up to the
// target.
func (j *job) applySegment(src *chunks, s archive.Segment, p *pages, at *point) error {
	src.begin(s)
	r, err := segment.NewReader(src, s.Size)
	if err != nil {
		return err
	}
	if err := j.continues(r.Header(), s, at); err != nil {
		return err
	}
	for at.TXID < j.target {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return endsAsNamed(r, s)
		}
		if err != nil {
			return err
		}
		c := rec.Commit
		switch {
		case c.TXID == 0 && r.Last().TXID < at.TXID: // already in the snapshot
		case c.TXID == 0:
			err = p.apply(rec)
		case c.TXID < at.TXID:
		case c.TXID == at.TXID:
			err = j.same(at, c)
		default:
			err = p.commit(c.Pages)
			at.TXID, at.Time, at.Pages, at.Checksum = c.TXID, c.Time, c.Pages, c.After
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endsAsNamed checks that a pack ended with the commit that its key says.
func endsAsNamed(r *segment.Reader, s archive.Segment) error {
	if last := r.Last().TXID; s.IsPack() && last != s.Last {
		return fmt.Errorf("%w: it ends at TXID %v", archive.ErrBroken, last)
	}
	return nil
}

// continues checks that a segment is what follows.
func (j *job) continues(h segment.Header, s archive.Segment, at *point) error {
	switch {
	case h.Replica != j.archive.Meta().Replica:
		return fmt.Errorf("%w: it belongs to replica %v", archive.ErrBroken, h.Replica)
	case h.First != s.First:
		return fmt.Errorf("%w: it begins at TXID %v", archive.ErrBroken, h.First)
	case h.PageSize != at.PageSize:
		return fmt.Errorf("%w: its pages have %d bytes, the snapshot's %d", archive.ErrBroken, h.PageSize, at.PageSize)
	case h.First > at.TXID+1:
		return fmt.Errorf("%w begins at TXID %v", errGap, at.TXID+1)
	case h.First <= at.TXID:
		return nil // it begins before the snapshot; same proves it there
	case h.Before != at.Checksum || h.PagesBefore != at.Pages:
		broken := archive.ErrBroken
		if at.TXID == j.begun.TXID {
			broken = errBeside
		}
		return fmt.Errorf("%w: it follows state %v (%d pages), TXID %v has %v (%d pages)",
			broken, h.Before, h.PagesBefore, at.TXID, at.Checksum, at.Pages)
	}
	return nil
}

// same checks that the log has the state that the output has, at a commit in the
// midst of a segment.
func (j *job) same(at *point, c segment.Commit) error {
	if c.After == at.Checksum && c.Pages == at.Pages {
		return nil
	}
	broken := archive.ErrBroken
	if at.TXID == j.begun.TXID {
		broken = errBeside
	}
	return fmt.Errorf("%w: TXID %v has state %v, in the log %v", broken, at.TXID, at.Checksum, c.After)
}

// pages applies frames to the file. Pages that change often are written once in
// a while only.
type pages struct {
	f      *os.File
	size   wal.PageSize
	length uint32 // of the database after the last commit
	held   map[wal.PageNo][]byte
	free   [][]byte
	// torn tells that frames have been applied whose commit has not.
	torn bool
}

func (p *pages) apply(rec segment.Record) error {
	p.torn = true
	page, held := p.held[rec.Page]
	if !held {
		if err := p.room(); err != nil {
			return err
		}
		page = p.buffer()
		p.held[rec.Page] = page
	}
	if !rec.Delta {
		copy(page, rec.Data)
		return nil
	}
	if !held {
		if err := p.read(rec.Page, page); err != nil {
			return err
		}
	}
	subtle.XORBytes(page, page, rec.Data)
	return nil
}

// room makes sure that one more page can be held.
func (p *pages) room() error {
	if (len(p.held)+1)*int(p.size) <= heldBytes {
		return nil
	}
	return p.flush()
}

func (p *pages) buffer() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, p.size)
}

// read gives a page of the file; past its end there are zeros.
func (p *pages) read(no wal.PageNo, page []byte) error {
	n, err := p.f.ReadAt(page, p.size.Offset(no))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the output: %w", err)
	}
	clear(page[n:])
	return nil
}

// commit ends a transaction. A database that shrank loses its tail at once: if
// it grows again, what is not written then is zeros.
func (p *pages) commit(length uint32) error {
	if length < p.length {
		for no, page := range p.held {
			if uint32(no) > length {
				p.free = append(p.free, page)
				delete(p.held, no)
			}
		}
		if err := p.resize(length); err != nil {
			return err
		}
	}
	p.length, p.torn = length, false
	return nil
}

func (p *pages) resize(length uint32) error {
	if err := p.f.Truncate(int64(length) * int64(p.size)); err != nil {
		return fmt.Errorf("size the output: %w", err)
	}
	return nil
}

// flush writes the held pages in order and forgets them.
func (p *pages) flush() error {
	for _, no := range slices.Sorted(maps.Keys(p.held)) {
		page := p.held[no]
		if _, err := p.f.WriteAt(page, p.size.Offset(no)); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		p.free = append(p.free, page)
	}
	clear(p.held)
	return nil
}
