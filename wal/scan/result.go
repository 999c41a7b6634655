package scan

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"tidemark/wal"
)

// Link says how a frame stands to the frame before it.
type Link uint8

// The links.
const (
	// Unlinked is a place in which no frame was recognised.
	Unlinked Link = iota
	// Broken is a frame that does not follow from the frame before it, which
	// holds; or one with page number 0. Its bytes are not what was written there,
	// or it is left over from a transaction that was rolled back.
	Broken
	// Orphaned is a frame before which the chain is lost: nothing proves it, nothing
	// speaks against it.
	Orphaned
	// Linked is a frame that holds.
	Linked
	// Healed is a frame whose page number, commit size and image hold, although
	// its salts or its stored sum are damaged: the chain runs through it.
	Healed
)

// String is the link in a word.
func (l Link) String() string {
	return name(l, "unlinked", "broken", "orphaned", "linked", "healed")
}

// Holds reports whether the frame's page number, commit size and image are proven
// to be what was written together with its predecessor's sum.
func (l Link) Holds() bool { return l >= Linked }

// Verdict is what a frame is, for people.
type Verdict uint8

// The verdicts.
const (
	// Unknown is a place that holds no frame of a known generation: zeros,
	// foreign bytes, or a frame that is damaged beyond recognition. Before a frame
	// that is not in its place it can be shorter than a frame.
	Unknown Verdict = iota
	// Committed is a frame of the current generation that holds, and after which a
	// frame that holds commits. Its commit may still lack another frame.
	Committed
	// Uncommitted is a frame of the current generation that holds, and after which
	// nothing commits.
	Uncommitted
	// Stale is a frame of another generation than the current one.
	Stale
	// ChecksumBroken is a frame of the current generation that is Broken.
	ChecksumBroken
	// Torn is a frame that the end of the file cuts.
	Torn
	// Orphan is a frame of the current generation that is Orphaned.
	Orphan
)

// String is the verdict's name as the command prints it.
func (v Verdict) String() string {
	return name(v, "unknown", "committed", "uncommitted", "stale", "checksum-broken", "torn", "orphan")
}

// name is the v-th of the names.
func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", v)
}

// NoGeneration is the Generation of places that belong to none.
const NoGeneration = -1

// Frame is a frame, or a place in which one is missing. It takes 32 bytes.
type Frame struct {
	// Offset is its place in the file.
	Offset int64
	// Page and Commit are as in [wal.FrameHeader]. They are to be trusted only
	// if the Link holds: they can be 0 or beyond the database.
	Page   wal.PageNo
	Commit uint32
	// Sum is as stored; in a Healed frame it can be damaged.
	Sum wal.Checksum
	// Generation is an index into [Result.Generations], or NoGeneration.
	Generation int16
	Link       Link
	Verdict    Verdict
}

// Generation is the frames between two restarts of the WAL.
type Generation struct {
	// Salts name it.
	Salts wal.Salts
	// Order is the byte order of its checksums.
	Order wal.ByteOrder
	// First and Last are indices into [Result.Frames]. Frames of other generations
	// can lie between them.
	First, Last int
	// Frames is the number of its frames, and Holding that of those that hold.
	Frames, Holding int
	// FromStart says that its first frame follows from a header, found or rebuilt.
	FromStart bool
	// Current says that this is the generation which the WAL holds now. The others
	// are older, or of another WAL.
	Current bool

	// linked says that more than one frame has these salts, as far as is known when
	// the first is looked at.
	linked bool
}

// Proof is how far a commit can be trusted.
type Proof uint8

// The proofs, from worst to best.
const (
	// Damaged is a commit of which a frame is broken, lost or nothing proves it, or
	// whose beginning is lost. Its frames may belong to more than one commit: the frame
	// that is damaged may have been the end of one.
	Damaged Proof = iota
	// Probable is a commit of which nothing is known to be damaged, but whose
	// beginning nothing proves: it follows a damaged frame whose header says
	// that it commits, or it begins at the WAL's beginning under a header that
	// could not be confirmed.
	Probable
	// Intact is a commit whose frames all hold, and which follows a frame that
	// holds and commits; but a frame before it is lost.
	Intact
	// Proven is a commit to whose end the chain runs from the generation's header
	// without a break.
	Proven
)

// String is the proof in a word.
func (p Proof) String() string { return name(p, "damaged", "probable", "intact", "proven") }

// Reason is why a commit is not more than Probable.
type Reason uint8

// The reasons.
const (
	// NoReason goes with Proven and Intact.
	NoReason Reason = iota
	// FrameBroken: the frame [Commit.Bad] is Broken.
	FrameBroken
	// FrameOrphaned: the frame [Commit.Bad] is Orphaned.
	FrameOrphaned
	// StartUnproved: the frame before the first does not hold, and says that it commits.
	StartUnproved
	// StartLost: what lay before the first frame is lost.
	StartLost
	// Repeated: another commit of the result, which ends with the frame [Commit.Bad],
	// is the same. This one is a copy, in a wrong place.
	Repeated
)

// String is the reason in words.
func (r Reason) String() string {
	return name(r, "", "a frame is damaged", "the chain before a frame is lost",
		"it follows a damaged commit", "its beginning is lost", "it is a copy of another commit")
}

// Commit is a transaction that has an end.
type Commit struct {
	// Generation is an index into [Result.Generations].
	Generation int
	// First and Last are indices into [Result.Frames]; see [Result.FramesOf]
	// for the frames between.
	First, Last int
	// Bad is the index of the frame to which the Reason refers.
	Bad int
	// Pages is the database's length after the commit, as its last frame says. It can
	// be absurd if that frame does not hold.
	Pages  uint32
	Proof  Proof
	Reason Reason
}

// Result is what a WAL holds. It is not changed after Scan and is safe for
// concurrent use if the source is.
type Result struct {
	// Header is the file's header as found and as used.
	Header Header
	// Frames are all frames and places of missing ones, by offset. A frame that
	// does not hold can overlap the next one, if bytes are missing in it.
	Frames []Frame
	// Generations are in the order in which they were found. One can have no frames:
	// that of a header which was just written, or that fits no frame.
	Generations []Generation
	// Commits are in the order of their last frames, of all generations.
	Commits []Commit

	src io.ReaderAt
}

// Current is the index of the current generation, or NoGeneration.
func (r *Result) Current() int {
	for i, g := range r.Generations {
		if g.Current {
			return i
		}
	}
	return NoGeneration
}

// Proven gives the proven commits of the current generation, in order: the longest
// prefix that can be proven.
func (r *Result) Proven() []Commit {
	var all []Commit
	current := r.Current()
	for _, c := range r.Commits {
		if c.Generation == current && c.Proof == Proven {
			all = append(all, c)
		}
	}
	return all
}

// FramesOf gives the indices of a commit's frames, in order. A page can be among
// them more than once; the last image counts.
func (r *Result) FramesOf(c Commit) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := c.First; i <= c.Last; i++ {
			f := r.Frames[i]
			if int(f.Generation) == c.Generation && f.Verdict != Torn && !yield(i) {
				return
			}
		}
	}
}

// Number is the number of a frame in the WAL, counted from 1, as its place gives
// it. It is 0 for a frame that lies elsewhere than a whole WAL's frames do.
func (r *Result) Number(i int) uint32 {
	stride := wal.FrameHeaderSize + int64(r.Header.Used.PageSize)
	if n := r.Frames[i].Offset - wal.HeaderSize; n%stride == 0 {
		return uint32(n/stride) + 1
	}
	return 0
}

// ReadPage reads the page image of a frame into b, which must be as long as the
// page size. The image is read from the source anew and is not checked again: a file
// that others may write must be copied before it is scanned. A torn frame gives
// io.ErrUnexpectedEOF.
func (r *Result) ReadPage(i int, b []byte) error {
	if size := int(r.Header.Used.PageSize); len(b) != size {
		return fmt.Errorf("read page of frame %d: buffer of %d bytes, want %d", i, len(b), size)
	}
	off := r.Frames[i].Offset + wal.FrameHeaderSize
	n, err := r.src.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read page at offset %d of the WAL: %w", off, err)
}
