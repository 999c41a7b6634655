package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/prune"
	"tidemark/replica/retain"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// pruneOld deletes what the policy does not keep.
func (k *Keeper) pruneOld(ctx context.Context) (err error) {
	k.pruneAgain(false, time.Time{}) // unless another snapshot comes meanwhile
	defer func() {
		if err != nil {
			k.pruneAgain(true, time.Time{})
		}
	}()
	if err := k.date(ctx); err != nil {
		return err
	}
	now := k.opts.Now()
	s, young := k.held(now)
	plan := k.opts.Policy.Plan(s, now)
	if len(plan.Goes) == 0 {
		return nil // and no need to ask for marks
	}
	if wait := tooYoung(plan, young); wait > 0 {
		k.pruneAgain(true, now.Add(wait))
		return nil
	}
	a, known := k.told()
	v, err := prune.Look(ctx, a, known)
	if err != nil {
		return err
	}
	// The newest segments are never deleted: local state and other writers know the
	// archive by them.
	s = v.State
	s.Segments = slices.DeleteFunc(slices.Clone(s.Segments), func(s retain.Segment) bool { return s.First >= k.newest() })
	res, err := v.Run(ctx, k.opts.Policy.Plan(s, now))
	k.pruned(res)
	if err == nil && len(res.Refused) > 0 {
		err = fmt.Errorf("%d objects, such as %s: %w", len(res.Refused), res.Refused[0].Key, res.Refused[0].Err)
	}
	return err
}

// pruneAgain says whether to prune, and not before when.
func (k *Keeper) pruneAgain(again bool, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.prune, k.pruneAt = again, at
}

// date reads the times of the snapshots that were there at the start.
func (k *Keeper) date(ctx context.Context) error {
	k.mu.Lock()
	unknown := slices.DeleteFunc(slices.Clone(k.inv.snaps), func(s snapshot) bool { return s.bad || !s.time.IsZero() })
	k.mu.Unlock()
	for _, s := range unknown {
		h, err := k.arch.SnapshotHeader(ctx, s.Snapshot)
		gone := errors.Is(err, storage.ErrNotExist)
		switch {
		case errors.Is(err, block.ErrCorrupt):
			s.bad = true
		case errors.Is(err, archive.ErrBroken):
			// It is not this replica's, or not what its key says: it is left alone,
			// and nothing rests on it.
			k.log.Warn("a snapshot that does not belong there is left alone", slog.Any("err", err))
			gone = true
		case err != nil && !gone:
			return err
		}
		s.time = time.UnixMilli(h.Time).UTC()
		k.mu.Lock()
		k.inv.dated(s, gone)
		k.mu.Unlock()
	}
	return nil
}

// held is the inventory as retention sees it, but for the marks, with the objects
// of the log that are too young to be deleted and how long they are.
func (k *Keeper) held(now time.Time) (retain.State, map[retain.Segment]time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var s retain.State
	for _, o := range k.inv.snaps {
		s.Snapshots = append(s.Snapshots, o.retained())
	}
	young := map[retain.Segment]time.Duration{}
	for _, o := range k.inv.log[:k.inv.packable(k.opts.Packing)] {
		seg := retain.Segment{First: o.First, Last: o.last}
		s.Segments = append(s.Segments, seg)
		if left := Hold - waited(o.since, now); left > 0 {
			young[seg] = left
		}
	}
	return s, young
}

func (s snapshot) retained() retain.Snapshot {
	return retain.Snapshot{TXID: s.TXID, Base: s.Base, Time: s.time, Bad: s.bad}
}

// tooYoung is how long to wait for the youngest object that is to go.
func tooYoung(plan retain.Plan, young map[retain.Segment]time.Duration) (wait time.Duration) {
	for _, s := range plan.Segments {
		wait = max(wait, young[s])
	}
	return wait
}

// newest is the first commit that is in one of the newest segments.
func (k *Keeper) newest() state.TXID {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.inv.packable(k.opts.Packing)
	if n == len(k.inv.log) {
		return endless
	}
	return k.inv.log[n].First
}

// told gives the archive as it is now, and what need not be read of it again.
func (k *Keeper) told() (*archive.Archive, *prune.Known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := &prune.Known{}
	var l archive.Listing
	for _, o := range k.inv.log {
		l.Segments = append(l.Segments, o.Segment)
		if !o.IsPack() && o.last != endless {
			known.TellSegment(o.First, o.last)
		}
	}
	for _, o := range k.inv.covered {
		l.Covered = append(l.Covered, o.Segment)
	}
	for _, s := range k.inv.snaps {
		l.Snapshots = append(l.Snapshots, s.Snapshot)
		known.TellSnapshot(s.retained())
	}
	return k.arch.As(l), known
}

// pruned takes note of what was deleted.
func (k *Keeper) pruned(res prune.Result) {
	if len(res.Deleted) == 0 {
		return
	}
	gone := map[string]bool{}
	for _, o := range res.Deleted {
		gone[o.Key] = true
	}
	k.mu.Lock()
	for _, o := range k.inv.log {
		if gone[o.Key()] {
			k.opts.Cache.Drop(o.Segment)
		}
	}
	k.inv.forget(gone)
	k.unplanned = true
	k.mu.Unlock()
	if k.opts.Pruned != nil {
		k.opts.Pruned(len(res.Deleted))
	}
	k.log.Info("pruned", slog.Int("objects", len(res.Deleted)), slog.Int64("bytes", res.Bytes()), slog.Int("spared", res.Spared))
}
