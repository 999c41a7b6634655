package salvage

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/scan"
)

// commit is one of the current generation.
type commit struct {
	scan.Commit
	proof  Proof
	reason string
}

// history is what the WAL holds, and what is lost of it.
type history struct {
	*scan.Result
	gen  int
	size wal.PageSize
	// sums are those of the images, by frame; 0 where the image is not to be used.
	sums []state.Sum
	// healed are frames whose image was lost and found elsewhere, and where.
	healed map[int]*pages
	// copies marks the frames of commits that are there twice.
	copies map[int]bool
	// lost are the places before the generation's last commit in which a frame is
	// lost, in order.
	lost []int
	// commits are those of the current generation, in order.
	commits []commit
	// ended is the first frame of the end of the generation before; nil: not looked for yet.
	ended *int
	// tail counts the frames after the last commit, by their verdicts, but for what a
	// healthy WAL can have there, too: frames of older generations.
	tail map[scan.Verdict]int
}

// readHistory scans the WAL. It gives nil if that does not look like one at all.
func readHistory(ctx context.Context, src *private, known wal.PageSize) (*history, error) {
	res, err := scan.Scan(src.File, src.size, scan.Options{PageSize: known})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", src.input.Path, err)
	}
	h := &history{
		Result: res, gen: res.Current(), size: res.Header.Used.PageSize,
		healed: map[int]*pages{}, copies: map[int]bool{},
	}
	if h.size == 0 {
		return nil, nil //nolint:nilnil // nothing was found, and that is no error
	}
	for _, c := range res.Commits {
		if c.Reason != scan.Repeated {
			continue
		}
		for i := range res.FramesOf(c) {
			h.copies[i] = true
		}
	}
	if err := h.sum(ctx); err != nil {
		return nil, err
	}
	h.judge()
	return h, nil
}

// sum computes the sums of all images that may be used.
func (h *history) sum(ctx context.Context) error {
	h.sums = make([]state.Sum, len(h.Frames))
	b := make([]byte, h.size)
	for i, f := range h.Frames {
		if !h.readable(i) {
			continue
		}
		if err := h.ReadPage(i, b); err != nil {
			return err
		}
		h.sums[i] = state.SumPage(f.Page, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// readable tells whether a frame's image can be used at all: it holds, or nothing
// speaks against it.
func (h *history) readable(i int) bool {
	f := h.Frames[i]
	return f.Verdict != scan.Torn && f.Page != 0 && (f.Link.Holds() || f.Link == scan.Orphaned)
}

// usable tells whether a frame is one of the current generation whose image is known.
func (h *history) usable(i int) bool {
	if int(h.Frames[i].Generation) != h.gen || h.copies[i] {
		return false
	}
	return h.readable(i) || h.healed[i] != nil
}

// holds tells whether a frame's image is proven by checksums.
func (h *history) holds(i int) bool { return h.Frames[i].Link.Holds() || h.healed[i] != nil }

// read reads the image of a frame.
func (h *history) read(i int, b []byte) error {
	if from := h.healed[i]; from != nil {
		return from.read(h.Frames[i].Page, b)
	}
	return h.ReadPage(i, b)
}

// judge makes the commits, and finds what is lost, from what is known of the frames.
func (h *history) judge() {
	h.commits, h.lost, h.tail = nil, nil, map[scan.Verdict]int{}
	last := -1
	for _, c := range h.Commits {
		if c.Generation == h.gen && c.Reason != scan.Repeated {
			h.commits = append(h.commits, commit{Commit: c})
			last = c.Last
		}
	}
	for i, f := range h.Frames {
		switch {
		case i > last && !h.isOlder(i):
			h.tail[f.Verdict]++
		case i <= last && (int(f.Generation) != h.gen || h.copies[i] || !h.holds(i)):
			h.lost = append(h.lost, i)
		}
	}
	before := scan.Proven
	for i := range h.commits {
		before = h.judgeCommit(i, before)
	}
}

// judgeCommit says how far a commit can be trusted, given how far the one before can be.
func (h *history) judgeCommit(i int, before scan.Proof) scan.Proof {
	c := &h.commits[i]
	if c.Proof == scan.Damaged && h.isHealed(c.Commit) {
		c.Proof, c.Reason = scan.Intact, scan.NoReason
	}
	if c.Proof == scan.Intact && before == scan.Proven && !h.lostBetween(i) {
		c.Proof = scan.Proven
	}
	switch c.Proof {
	case scan.Proven:
		c.proof = Proven
	case scan.Intact:
		c.proof, c.reason = Probable, "an earlier frame is lost"
	case scan.Probable:
		c.proof, c.reason = Probable, c.Reason.String()
	case scan.Damaged:
		c.proof, c.reason = Damaged, c.Reason.String()
	}
	return c.Proof
}

// isOlder tells whether a frame, or what the file's end leaves of one, is of another
// generation.
func (h *history) isOlder(i int) bool {
	f := h.Frames[i]
	if f.Verdict == scan.Torn && f.Generation == scan.NoGeneration && i > 0 {
		f = h.Frames[i-1]
	}
	return f.Generation != scan.NoGeneration && int(f.Generation) != h.gen
}

// isHealed tells whether what was wrong with a commit is in order now.
func (h *history) isHealed(c scan.Commit) bool {
	if c.Reason != scan.FrameBroken {
		return false
	}
	for i := range h.FramesOf(c) {
		if !h.holds(i) {
			return false
		}
	}
	return true
}

// lostBetween tells whether a frame is lost between a commit and the one before, or
// before the first.
func (h *history) lostBetween(i int) bool {
	from := 0
	if i > 0 {
		from = h.commits[i-1].Last + 1
	} else if !h.Generations[h.gen].FromStart && h.Header.Trust != scan.Whole {
		return true
	}
	k, _ := slices.BinarySearch(h.lost, from)
	return k < len(h.lost) && h.lost[k] <= h.commits[i].Last
}

// heal looks for the images of broken frames in other files: an image from there is
// the right one if the checksum that the frame stores follows from it.
func (h *history) heal(from *pages) error {
	if from == nil || from.size != h.size {
		return nil
	}
	b := make([]byte, h.size)
	found := false
	for i, f := range h.Frames {
		if int(f.Generation) != h.gen || f.Link != scan.Broken || f.Page == 0 || uint32(f.Page) > from.count || h.healed[i] != nil {
			continue
		}
		before, ok := h.sumBefore(i)
		if !ok {
			continue
		}
		if err := from.read(f.Page, b); err != nil {
			return err
		}
		var head [8]byte
		binary.BigEndian.PutUint32(head[:], uint32(f.Page))
		binary.BigEndian.PutUint32(head[4:], f.Commit)
		order := h.Generations[h.gen].Order
		if before.Extend(order, head[:]).Extend(order, b) == f.Sum {
			h.healed[i], h.sums[i], found = from, state.SumPage(f.Page, b), true
		}
	}
	if found {
		h.judge()
	}
	return nil
}

// sumBefore is the checksum from which a frame must follow.
func (h *history) sumBefore(i int) (wal.Checksum, bool) {
	if i == 0 {
		return h.Header.Used.Sum, h.Header.Trust == scan.Whole && h.Frames[0].Offset == wal.HeaderSize
	}
	f := h.Frames[i-1]
	ok := int(f.Generation) == h.gen && (f.Link == scan.Linked || h.healed[i-1] != nil)
	return f.Sum, ok && f.Offset+wal.FrameHeaderSize+int64(h.size) == h.Frames[i].Offset
}

// proven is the number of commits that can be proven from the first on.
func (h *history) proven() int {
	n := 0
	for n < len(h.commits) && h.commits[n].proof == Proven {
		n++
	}
	return n
}

// whole is the number of commits up to the last one that is not damaged.
func (h *history) whole() int {
	n := len(h.commits)
	for n > 0 && h.commits[n-1].proof == Damaged {
		n--
	}
	return n
}

// contiguous is the number of commits that are known without a gap after the first k.
func (h *history) contiguous(k int) int {
	for k < len(h.commits) && h.commits[k].proof != Damaged {
		c := h.commits[k]
		if c.Proof < scan.Intact || h.lostBetween(k) {
			return k
		}
		k++
	}
	return k
}

// end is the last frame of the first k commits, -1 for none.
func (h *history) end(k int) int {
	if k == 0 {
		return -1
	}
	return h.commits[k-1].Last
}

// maxRuns is the number of runs that a report has.
const maxRuns = 100

// report tells what the WAL holds.
func (h *history) report() *Log {
	l := &Log{
		Trust: h.Header.Trust.String(), Generations: len(h.Generations),
		Frames: map[string]int{}, Healed: len(h.healed), Runs: []CommitRun{},
	}
	for _, f := range h.Frames {
		l.Frames[f.Verdict.String()]++
	}
	for i, c := range h.commits {
		switch c.proof {
		case Proven:
			l.Proven++
		case Probable:
			l.Probable++
		case Damaged:
			l.Lost++
		}
		if n := len(l.Runs); n > 0 && l.MoreRuns == 0 && l.Runs[n-1].Proof == c.proof && l.Runs[n-1].Reason == c.reason {
			l.Runs[n-1].Last, l.Runs[n-1].LastOffset = i+1, h.Frames[c.Last].Offset
			continue
		}
		if len(l.Runs) == maxRuns {
			l.MoreRuns++
			continue
		}
		l.Runs = append(l.Runs, CommitRun{
			First: i + 1, Last: i + 1, Proof: c.proof, Reason: c.reason,
			FirstOffset: h.Frames[c.First].Offset, LastOffset: h.Frames[c.Last].Offset,
		})
	}
	return l
}
