package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/storage"
)

// clearIn is how long it is until something that a pack covers may be deleted. The
// caller holds mu.
func (k *Keeper) clearIn(now time.Time) (wait time.Duration, ok bool) {
	for _, c := range k.inv.covered {
		if pack := k.inv.over(c); pack == nil || pack.proof == unfit {
			continue
		}
		if left := Hold - waited(c.since, now); !ok || left < wait {
			wait, ok = left, true
		}
	}
	return wait, ok
}

// clear deletes what packs have covered for long enough.
func (k *Keeper) clear(ctx context.Context) error {
	now := k.opts.Now()
	k.mu.Lock()
	type pair struct{ covered, pack object }
	var due []pair
	for _, c := range k.inv.covered {
		if pack := k.inv.over(c); pack != nil && waited(c.since, now) >= Hold {
			due = append(due, pair{c, *pack})
		}
	}
	k.mu.Unlock()
	for _, d := range due {
		fit, err := k.prove(ctx, d.pack.Segment)
		if err != nil {
			return err
		}
		if !fit {
			continue
		}
		if err := k.delete(ctx, d.covered.Segment); err != nil {
			return fmt.Errorf("%w (its commits are in %s)", err, d.pack.Key())
		}
	}
	return nil
}

// delete deletes an object that a pack covers.
func (k *Keeper) delete(ctx context.Context, s archive.Segment) error {
	if err := k.arch.Bucket().Delete(ctx, s.Key()); err != nil {
		return fmt.Errorf("delete %s: %w", s.Key(), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inv.forget(map[string]bool{s.Key(): true})
	return nil
}

// prove tells whether a pack is what its key says, so that what it covers may go.
// It looks once at each.
func (k *Keeper) prove(ctx context.Context, pack archive.Segment) (fit bool, err error) {
	if p := k.proof(pack, unproven); p != unproven {
		return p == proven, nil
	}
	_, x, err := k.arch.Index(ctx, pack)
	if err == nil && x.Trailer.Last != pack.Last {
		err = fmt.Errorf("%w: %s ends at TXID %v", archive.ErrBroken, pack.Key(), x.Trailer.Last)
	}
	switch {
	case err == nil:
		k.proof(pack, proven)
		return true, nil
	case errors.Is(err, archive.ErrBroken), errors.Is(err, block.ErrCorrupt), errors.Is(err, block.ErrVersion), errors.Is(err, storage.ErrNotExist):
		k.log.Error("a pack can't be read; what it was made of stays where it is: if the pack is deleted by hand, that is read again",
			slog.String("pack", pack.Key()), slog.Any("err", err))
		k.proof(pack, unfit)
		return false, nil
	default:
		return false, err
	}
}

// proof gives what is known of a pack, and sets it unless it is to be unproven.
func (k *Keeper) proof(pack archive.Segment, set proof) proof {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.inv.find(pack)
	if i < 0 {
		return unfit // it is gone
	}
	if set != unproven {
		k.inv.log[i].proof = set
	}
	return k.inv.log[i].proof
}
