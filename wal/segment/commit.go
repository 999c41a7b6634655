package segment

import (
	"time"

	"tidemark/snapshot/state"
)

// Flags tell how a commit came about.
type Flags uint8

const (
	// Resync marks a commit that tidemark made up of the pages that differed
	// when continuity could not be proven: it can stand for any number of the
	// application's commits.
	Resync Flags = 1 << iota
	// Complete marks a commit that holds every page of the database, so that
	// nothing before it is needed.
	Complete
)

const allFlags = Resync | Complete

// Commit is one transaction of the history.
type Commit struct {
	// TXID is its number. Writer assigns it.
	TXID state.TXID
	// Time is when tidemark saw it.
	Time time.Time
	// Flags tell how it came about.
	Flags Flags
	// Pages is the database's length after it.
	Pages uint32
	// After is the state's checksum after it. An index leaves it out.
	After state.Checksum
	// Frames is the number of page images in it. A records reader counts
	// them.
	Frames uint32
	// Bytes is the commit's share of the segment's stored bytes. Only an index
	// knows it.
	Bytes int64
}

// Touched pages of a segment: bitmaps of 2^15 pages, so that a small segment
// of a large database stays small.
type touched map[uint32]*[512]uint64

func (t touched) add(no uint32) {
	c := t[no>>15]
	if c == nil {
		c = new([512]uint64)
		t[no>>15] = c
	}
	c[no>>6&511] |= 1 << (no & 63)
}
