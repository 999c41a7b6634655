package wal_test

import (
	"errors"
	"io"
	"slices"

	"pgregory.net/rapid"

	"tidemark/wal"
)

// This file holds a second reading of the format, written from
// https://sqlite.org/fileformat2.html#walformat and sharing no code with the
// package: whole file in memory, byte by byte, one frame after another. What
// the package reads is compared with what it reads.

// frame is one page image of a commit. Images are strings because go-cmp
// compares them at once.
type frame struct {
	Page  wal.PageNo
	Image string
}

// commit is a whole transaction with its frames.
type commit struct {
	Start, End wal.Position
	Pages      uint32
	Frames     []frame
}

func naiveWord(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func naiveSum(order wal.ByteOrder, c wal.Checksum, b []byte) wal.Checksum {
	word := func(i int) uint32 {
		if order == wal.BigEndian {
			return naiveWord(b[i:])
		}
		return uint32(b[i+3])<<24 | uint32(b[i+2])<<16 | uint32(b[i+1])<<8 | uint32(b[i])
	}
	for i := 0; i+8 <= len(b); i += 8 {
		c.S0 += word(i) + c.S1
		c.S1 += word(i+4) + c.S0
	}
	return c
}

// naiveHeader reads the header at the beginning of a WAL, if it is one.
func naiveHeader(b []byte) (wal.Header, bool) {
	if len(b) < 32 {
		return wal.Header{}, false
	}
	h := wal.Header{
		PageSize: wal.PageSize(naiveWord(b[8:])),
		Sequence: naiveWord(b[12:]),
		Salts:    wal.Salts{Salt1: naiveWord(b[16:]), Salt2: naiveWord(b[20:])},
		Sum:      wal.Checksum{S0: naiveWord(b[24:]), S1: naiveWord(b[28:])},
	}
	h.Order = wal.ByteOrder(b[3] & 1)
	if naiveWord(b)&^1 != 0x377f0682 || naiveWord(b[4:]) != 3007000 {
		return wal.Header{}, false
	}
	if !slices.Contains(pageSizes(), h.PageSize) {
		return wal.Header{}, false
	}
	return h, naiveSum(h.Order, wal.Checksum{}, b[:24]) == h.Sum
}

// naiveNext is the first whole transaction after a position, if b holds one.
func naiveNext(b []byte, h wal.Header, from wal.Position) (commit, bool) {
	size := 24 + int(h.PageSize)
	c := commit{Start: from, End: from}
	for {
		off := 32 + int(c.End.Frame)*size
		if off+size > len(b) {
			return commit{}, false
		}
		f := b[off : off+size]
		salts := wal.Salts{Salt1: naiveWord(f[8:]), Salt2: naiveWord(f[12:])}
		sum := naiveSum(h.Order, naiveSum(h.Order, c.End.Sum, f[:8]), f[24:])
		stored := wal.Checksum{S0: naiveWord(f[16:]), S1: naiveWord(f[20:])}
		if salts != h.Salts || sum != stored || naiveWord(f) == 0 {
			return commit{}, false
		}
		c.End = wal.Position{Salts: h.Salts, Frame: c.End.Frame + 1, Sum: sum}
		c.Frames = append(c.Frames, frame{Page: wal.PageNo(naiveWord(f)), Image: string(f[24:])})
		if c.Pages = naiveWord(f[4:]); c.Pages != 0 {
			return c, true
		}
	}
}

// naiveAll is every whole transaction after a position.
func naiveAll(b []byte, h wal.Header, from wal.Position) []commit {
	var all []commit
	for {
		c, ok := naiveNext(b, h, from)
		if !ok {
			return all
		}
		all, from = append(all, c), c.End
	}
}

// next is the reader's next commit with its frames, and false at the end.
func next(t rapid.TB, r *wal.Reader) (commit, bool) {
	t.Helper()
	c, err := r.Next()
	if errors.Is(err, io.EOF) {
		return commit{}, false
	}
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	frames, err := framesOf(r)
	if err != nil {
		t.Fatalf("Frames of %v to %v: %v", c.Start, c.End, err)
	}
	if len(frames) != int(c.Frames()) {
		t.Fatalf("Frames gave %d, commit has %d", len(frames), c.Frames())
	}
	return commit{Start: c.Start, End: c.End, Pages: c.Pages, Frames: frames}, true
}

// drain is every commit up to the end of what the WAL holds now.
func drain(t rapid.TB, r *wal.Reader) []commit {
	t.Helper()
	var all []commit
	for {
		c, ok := next(t, r)
		if !ok {
			return all
		}
		all = append(all, c)
	}
}

// framesOf copies the frames of the reader's last commit, up to an error.
func framesOf(r *wal.Reader) ([]frame, error) {
	var all []frame
	for f, err := range r.Frames() {
		if err != nil {
			return all, err
		}
		all = append(all, frame{Page: f.Page, Image: string(f.Image)})
	}
	return all, nil
}
