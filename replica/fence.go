package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
)

// The fence is that the next segment's key depends only on its first commit, and is
// put only if it is not there: of two writers one wins, and the other finds the key
// taken. Once segments are packed, their keys become free again, upkeep.Hold after
// they were put at the earliest. A writer that knew nothing of the other for so
// long, as after the machine was suspended, would not be stopped. So:
//
//   - If the last proof that the log ends with what was put from here is older than
//     half of that, the log's end is listed before the next PUT.
//   - If a PUT ends when the proof is older than that, it may have taken effect when
//     the key was free again. The log's end is listed before it counts.
//
// A proof is as old as its request's beginning. That of a PUT is that its key was
// free while the keys of those after the last proof can't have been freed yet.

// staleAfter is how old a proof may be.
const staleAfter = upkeep.Hold / 2

// passed is how much time may have passed: by the clock that goes on while the
// machine is suspended, and by the one that nobody sets, whichever says more.
func passed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// stale tells whether the last proof is too old.
func (s *shipper) stale() bool { return passed(s.heard, s.opts.Now()) > staleAfter }

// putFenced puts a segment, and looks whether anybody else has added to the log
// where its key alone would not tell.
func (s *shipper) putFenced(ctx context.Context, seg sealed, body archive.Body) error {
	if s.stale() {
		if err := s.listEnd(ctx, seg.first); err != nil {
			return err
		}
	}
	began := s.opts.Now()
	if err := s.arch.PutSegment(ctx, seg.first, body); err != nil {
		return err
	}
	if !s.stale() {
		s.heard = began
		return nil
	}
	err := s.listEnd(ctx, seg.first)
	if errors.Is(err, archive.ErrFenced) {
		// Most likely it is inside a pack of the other writer's, and never read.
		if werr := s.arch.Withdraw(ctx, seg.first); werr != nil {
			s.log.Warn("what was put too late stays in the archive", slog.Any("err", werr))
		}
	}
	return err
}

// listEnd proves that the log ends with what was put from here, and perhaps with
// the segment that is being put. It is archive.ErrFenced if there is anything else.
func (s *shipper) listEnd(ctx context.Context, next state.TXID) error {
	began := s.opts.Now()
	newest := s.shipped.Newest
	segs, err := s.arch.Tail(ctx, max(newest.First, 1))
	if err != nil {
		return err
	}
	for _, o := range segs {
		if o.First > newest.First && o.First != next {
			return s.arch.Fenced(ctx, o)
		}
	}
	if has := func(id state.TXID) bool {
		return slices.ContainsFunc(segs, func(o archive.Segment) bool { return o.First == id })
	}; newest.First != 0 && !has(newest.First) {
		return fmt.Errorf("%w: the segment at TXID %v, the last one from here, is gone", errMoved, newest.First)
	}
	s.heard = began
	return nil
}
