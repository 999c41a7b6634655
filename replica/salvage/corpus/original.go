package corpus

import (
	"bytes"
	"maps"
	"slices"

	"tidemark/wal"
)

// Files are a database and its WAL as bytes; nil is a file that does not exist.
type Files struct{ DB, WAL []byte }

// Clone copies the bytes.
func (f Files) Clone() Files { return Files{bytes.Clone(f.DB), bytes.Clone(f.WAL)} }

// Original is a database as a crash left it: whole. It is not changed after it was
// made, and its parts must not be, either.
type Original struct {
	Files
	// Ledger is what was committed.
	Ledger *Ledger
	// Base is the number of commits that the database file has.
	Base int
	// Header is the WAL's. With a page size only if there is no WAL.
	Header wal.Header
	// Frames are the numbers of frames of the commits that follow, from the WAL's
	// beginning.
	Frames []int
	// Tail is the number of frames of the transaction that was left open, after them. Once
	// SQLite has rewritten one of them it leaves salts and checksums of the next ones
	// zero until the end of the transaction.
	Tail int
	// Earlier are the files as they were at the ends of the WAL's earlier generations,
	// from the first one.
	Earlier []*Original
}

// Committed is the number of commits in all.
func (o *Original) Committed() int { return o.Base + len(o.Frames) }

// PageSize is the database's page size.
func (o *Original) PageSize() int { return int(o.Header.PageSize) }

// Stride is the length of a frame in bytes.
func (o *Original) Stride() int { return wal.FrameHeaderSize + o.PageSize() }

// Offset is where a frame lies in the WAL, counted from 1.
func (o *Original) Offset(frame int) int { return wal.HeaderSize + (frame-1)*o.Stride() }

// Last is the number of the last frame of a commit of the WAL, counted from 1; that of
// commit 0 is 0.
func (o *Original) Last(commit int) int {
	n := 0
	for _, k := range o.Frames[:commit] {
		n += k
	}
	return n
}

// frame is a frame's header and image, in given bytes of a WAL.
func (o *Original) frame(b []byte, n int) (wal.FrameHeader, []byte) {
	off := o.Offset(n)
	return wal.ParseFrameHeader(b[off:]), b[off+wal.FrameHeaderSize : off+o.Stride()]
}

// image is a database as its pages: those of a file, and those of frames over them.
type image map[wal.PageNo][]byte

// fileImage are the pages of a database file; the last can be short.
func (o *Original) fileImage(db []byte) image {
	m := image{}
	for p := range slices.Chunk(db, o.PageSize()) {
		m[wal.PageNo(len(m)+1)] = p
	}
	return m
}

// apply puts the frames of a commit, counted from 1, over the pages. The
// frames' bytes are those of b. Pages past the commit's length are gone.
func (o *Original) apply(m image, b []byte, commit int) {
	for n := o.Last(commit-1) + 1; n <= o.Last(commit); n++ {
		h, page := o.frame(b, n)
		m[h.Page] = page
		if h.Commit != 0 {
			maps.DeleteFunc(m, func(p wal.PageNo, _ []byte) bool { return uint32(p) > h.Commit })
		}
	}
}

// pages is the database after a number of the WAL's commits.
func (o *Original) pages(commits int) image {
	m := o.fileImage(o.DB)
	for c := range commits {
		o.apply(m, o.WAL, c+1)
	}
	return m
}

// Closed is the same database after its last connection was closed: all is in the
// file, and there is no WAL.
func (o *Original) Closed() *Original {
	m := o.pages(len(o.Frames))
	var db []byte
	for p := range wal.PageNo(len(m)) {
		db = append(db, m[p+1]...)
	}
	return &Original{
		Files: Files{DB: db}, Ledger: o.Ledger, Base: o.Committed(), Earlier: o.Earlier,
		Header: wal.Header{PageSize: o.Header.PageSize},
	}
}

// Reordered is the same, with checksums of the other byte order: as a machine of the
// other kind would have written it.
func (o *Original) Reordered() *Original {
	if o.WAL == nil {
		return o
	}
	r := *o
	r.Header.Order = 1 - o.Header.Order
	r.WAL = r.Header.AppendTo(nil)
	r.Header, _ = wal.ParseHeader(r.WAL)
	r.Earlier = nil
	older := map[wal.Salts][]byte{}
	for _, e := range o.Earlier {
		e = e.Reordered()
		r.Earlier = append(r.Earlier, e)
		older[e.Header.Salts] = e.WAL
	}
	pos := r.Header.Start()
	for n := 1; o.Offset(n+1) <= len(o.WAL); n++ {
		h, page := o.frame(o.WAL, n)
		switch h.Salts {
		case r.Header.Salts:
			r.WAL, pos = r.Header.AppendFrame(r.WAL, pos, h.Page, h.Commit, page)
		case wal.Salts{}: // of the open transaction
			r.WAL = append(r.WAL, o.WAL[o.Offset(n):o.Offset(n+1)]...)
		default:
			r.WAL = append(r.WAL, older[h.Salts][o.Offset(n):o.Offset(n+1)]...)
		}
	}
	return &r
}
