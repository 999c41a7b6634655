package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal/segment"
)

// ErrInside says that a commit lies inside a segment or a pack, so that the page
// sums after it can't be had: only those after its last commit are recorded.
var ErrInside = errors.New("the commit lies inside a segment or a pack")

// errGap says that the log does not lead from one commit to another.
var errGap = errors.New("the log has a gap")

// Table gives the page sums of the state after a commit at which a segment or a
// pack ends, or the newest if to is 0. It rolls forward by their indexes: from
// base, which are those after the commit at, if the log leads from there to it,
// or else from the newest snapshot. base can be nil, and is changed. A to at which
// nothing ends is ErrInside; ErrBroken is a log that does not lead there.
func (a *Archive) Table(ctx context.Context, at state.TXID, base *state.Table, to state.TXID) (*state.Table, error) {
	if base != nil {
		err := a.rollTo(ctx, at, base, to)
		n := a.listing.snapshotsUntil(to)
		snapped := n > 0 && a.listing.Snapshots[n-1].TXID == to
		if !errors.Is(err, errGap) && (!errors.Is(err, ErrInside) || !snapped) {
			return base, err
		}
	}
	var failed error
	for _, s := range slices.Backward(a.listing.Snapshots) {
		if to != 0 && s.TXID > to {
			continue
		}
		base, err := a.sumsOf(ctx, s)
		if err == nil {
			return base, a.rollTo(ctx, s.TXID, base, to)
		}
		if failed == nil {
			failed = err
		}
		// An older one will do as well.
		if !errors.Is(err, block.ErrCorrupt) && !errors.Is(err, ErrBroken) && !errors.Is(err, storage.ErrNotExist) {
			return nil, err
		}
	}
	if failed == nil {
		failed = fmt.Errorf("%w: it has no snapshot", ErrBroken)
	}
	return nil, failed
}

// sumsOf reads the page sums of a snapshot. One that adds to another has them
// all, too.
func (a *Archive) sumsOf(ctx context.Context, s Snapshot) (*state.Table, error) {
	r, err := a.Snapshot(ctx, s)
	if err != nil {
		return nil, err
	}
	t, err := r.Table()
	if err != nil {
		return nil, fmt.Errorf("read page sums of %s: %w", s.Key(), err)
	}
	return t, nil
}

// rollTo rolls a table forward from one commit to another.
func (a *Archive) rollTo(ctx context.Context, at state.TXID, t *state.Table, to state.TXID) error {
	segs := a.listing.Segments
	target := to
	if n := len(segs); to == 0 {
		switch {
		case n == 0 || segs[n-1].IsPack():
			target = at
			if n > 0 {
				target = max(at, segs[n-1].Last)
			}
		default:
			target = ^state.TXID(0) // where the last one ends does not show
		}
	}
	log, ok := a.listing.After(at, target)
	if !ok {
		return fmt.Errorf("%w: %w after TXID %v", ErrBroken, errGap, at)
	}
	at, err := a.roll(ctx, at, t, log, to)
	if err == nil && to != 0 && at != to {
		err = fmt.Errorf("%w: %w: it ends at TXID %v, before %v", ErrBroken, errGap, at, to)
	}
	return err
}

// roll applies the page sums of a log that leads on from the commit at, and
// gives its last commit.
func (a *Archive) roll(ctx context.Context, at state.TXID, t *state.Table, log []Segment, to state.TXID) (state.TXID, error) {
	for _, s := range log {
		h, x, err := a.Index(ctx, s)
		if err != nil {
			return at, err
		}
		last := x.Trailer.Last
		switch {
		case last <= at:
			continue // a segment's end does not show in the listing
		case h.First > at+1:
			return at, fmt.Errorf("%w: %w: no segment begins at TXID %v", ErrBroken, errGap, at+1)
		case to != 0 && last > to:
			return at, fmt.Errorf("page sums after TXID %v: %w: %s ends at TXID %v", to, ErrInside, s.Key(), last)
		case h.First <= at:
			err = applyRest(x, t)
		default:
			err = x.Apply(h, t)
		}
		if err != nil {
			return at, fmt.Errorf("%w: %s: %w", ErrBroken, s.Key(), err)
		}
		at = last
	}
	return at, nil
}

// applyRest rolls a table forward to the end of a segment from a state in the
// midst of it. All page sums of the segment are entered. That is right: they are
// those after its last commit, of every page that any of its commits wrote or
// that the database grew by. A page that is not among them and is part of the
// database at the end was part of it all the time (else it would have grown over
// it), and has not changed since the table's state. What was cut off and came
// back was grown over, and is among them; what is cut off for good goes with the
// new length. Only that the table is of that state can't be checked before; the
// state checksum after it proves the result.
func applyRest(x *segment.Index, t *state.Table) error {
	if err := x.Pages(t.Set); err != nil {
		return err
	}
	t.Resize(x.Trailer.PagesAfter)
	if t.Checksum() != x.Trailer.After {
		return fmt.Errorf("%w: page sums give state %v, the trailer has %v", block.ErrCorrupt, t.Checksum(), x.Trailer.After)
	}
	return nil
}
