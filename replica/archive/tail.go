package archive

import (
	"context"
	"fmt"

	"tidemark/snapshot/state"
	"tidemark/storage"
)

// Tail lists the segments, not the packs, that begin at a commit or after it, as
// they are now. Since the newest segments are not packed, it tells with one small
// List whether somebody has added to the log.
func (a *Archive) Tail(ctx context.Context, from state.TXID) ([]Segment, error) {
	after := ""
	if from > 1 {
		after = SegmentKey(from - 1)
	}
	var l Listing
	err := a.bucket.List(ctx, logPrefix, after, func(o storage.Info) error {
		l.add(o)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the end of the log: %w", err)
	}
	return l.Segments, nil
}

// Fenced is the error of a writer that finds a segment of another one, and says
// whose it is.
func (a *Archive) Fenced(ctx context.Context, s Segment) error {
	who, since := "somebody", ""
	if h, err := a.SegmentHeader(ctx, s); err == nil {
		if h.Writer != "" {
			who = h.Writer
		}
		since = ", from " + stamp(h.Time) + " on"
	}
	return fmt.Errorf("%w: %s put %s there%s", ErrFenced, who, s.Key(), since)
}

// Withdraw deletes a segment that PutSegment has just put, and that nobody must
// read: it came so late that another writer has gone on without it.
func (a *Archive) Withdraw(ctx context.Context, first state.TXID) error {
	if err := a.bucket.Delete(ctx, SegmentKey(first)); err != nil {
		return fmt.Errorf("withdraw %s: %w", SegmentKey(first), err)
	}
	return nil
}
