package replica

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// frame adds a page's new image. h is the header of the WAL that it is from, nil
// without one: then what was before is nowhere any more but in the cache.
func (e *engine) frame(f wal.Frame, h *wal.Header) error {
	sum, old := state.SumPage(f.Page, f.Image), e.table.At(f.Page)
	err := e.cache.swap(f.Page, f.Image, old, sum, func(prev []byte) error {
		if prev == nil && h != nil && uint32(f.Page) <= e.head.Pages {
			prev = e.prev.of(h, f.Page, old)
		}
		if prev == nil || !pays(f.Image, prev) {
			return e.seg.w.Full(f.Page, f.Image)
		}
		return e.seg.w.Delta(f.Page, f.Image, prev)
	})
	if err != nil {
		return err
	}
	e.table.Set(f.Page, sum)
	e.seg.touched = append(e.seg.touched, f.Page)
	if e.snaps.job != nil {
		e.snaps.job.changes.add(f.Page)
	}
	return nil
}

// previous finds the images that pages had until now, of pages that the cache does
// not hold: those that are written for the first time in a while, or since a start.
// With it they, too, can be shipped as their difference.
//
// An image is looked for in one place, where it is if all goes well: in the WAL, if
// the page was written since that began, else in the database file. The pin keeps
// frames that are yet to be read out of the file, so what is there is not newer. It
// can be older, if the frame that it lies in is not known any more; and it can be
// anything, if a checkpoint is just writing it, or somebody has put another file in
// its place. So an image counts only if its sum is the one of the last state that
// was read. Then it is, byte for byte, what a restore has there at this place of the
// history. What can't be read, or is something else, costs a read: the page is then
// shipped whole.
//
// The file is read through the one descriptor of it that there is, see package
// source.
type previous struct {
	file, wal io.ReaderAt
	// seat has the database as it was attached to.
	seat *seat
	// frames tells in which frames the pages lie that were read of a generation of
	// the WAL, which has these salts.
	salts  wal.Salts
	frames map[wal.PageNo]uint32
	page   []byte
	// left is for how long may be read in this turn.
	left time.Duration
}

const (
	// previousTurn is for how long images are read in a turn at most, previousLocked
	// in one under the write lock: a disk that has to seek for each page must not keep
	// the application waiting. From the system's cache, where a page that the application
	// has just changed mostly is, all that a turn has frames for are read in less.
	previousTurn   = 10 * time.Millisecond
	previousLocked = lockedTurn / 4
	// maxNoted bounds how many pages are in frames, and so the memory for them.
	maxNoted = 1 << 15
)

// of gives the image of a page with a sum, or nil. It is valid until the next call.
// The header is that of the WAL.
func (p *previous) of(h *wal.Header, no wal.PageNo, sum state.Sum) []byte {
	if p.left <= 0 {
		return nil
	}
	began := time.Now()
	if len(p.page) != int(h.PageSize) {
		p.page = make([]byte, h.PageSize)
	}
	err := p.read(h, no)
	p.left -= time.Since(began)
	if err != nil || state.SumPage(no, p.page) != sum {
		return nil
	}
	return p.page
}

// read reads what is in the one place.
func (p *previous) read(h *wal.Header, no wal.PageNo) (err error) {
	att := p.seat.attached
	if n, ok := p.frames[no]; ok && p.salts == h.Salts {
		_, err = p.wal.ReadAt(p.page, h.Offset(n)+wal.FrameHeaderSize)
	} else if att != nil && att.HasWAL && att.Header.Salts == h.Salts {
		err = att.Image.ReadPages(no, p.page)
	} else {
		_, err = p.file.ReadAt(p.page, h.PageSize.Offset(no))
	}
	return err
}

// note takes note of the frame in which a page's newest image is.
func (p *previous) note(h *wal.Header, no wal.PageNo, frame uint32) {
	if p.salts != h.Salts { // the file has all that was in the one before
		p.salts, p.frames = h.Salts, map[wal.PageNo]uint32{}
		if att := p.seat.attached; att != nil && att.Header.Salts != h.Salts {
			p.seat.attached = nil
		}
	}
	if len(p.frames) < maxNoted {
		p.frames[no] = frame
		return
	}
	if _, ok := p.frames[no]; ok {
		p.frames[no] = frame
	}
}

// forget gives memory back, when the database file has all.
func (p *previous) forget() { p.salts, p.frames, p.page = wal.Salts{}, nil, nil }

// pays tells whether a page's difference from another image is likely to take less
// room than the page, compressed: it does as long as no more than five in eight of
// its words differ. Of pages of text and numbers most differ in a twentieth, and
// those that were filled anew, as by VACUUM, in nearly all.
func pays(image, prev []byte) bool {
	const part = 64 // bytes: most are the same, and compared at once
	differ, most := 0, len(image)/64*5
	for i := 0; i < len(image) && differ <= most; i += part {
		a, b := image[i:i+part], prev[i:i+part]
		if bytes.Equal(a, b) {
			continue
		}
		for k := 0; k < part; k += 8 {
			if binary.LittleEndian.Uint64(a[k:]) != binary.LittleEndian.Uint64(b[k:]) {
				differ++
			}
		}
	}
	return differ <= most
}
