package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// join makes one pack.
func (k *Keeper) join(ctx context.Context) error {
	k.mu.Lock()
	k.plan()
	from, to, ok := k.from, k.to, k.toJoin
	if !ok {
		k.mu.Unlock()
		return nil
	}
	// While it runs, the log changes at its end only.
	run, last := segments(k.inv.log[from:to]), k.inv.log[to-1].last
	k.mu.Unlock()

	local := k.opts.Cache.Writer()
	pack, err := k.arch.Join(ctx, run, last, archive.JoinOptions{Writer: k.opts.Writer, Local: k.opts.Cache.Open, Tee: local})
	if err != nil {
		local.Abort()
		return k.notJoined(ctx, run, err)
	}
	local.Keep(pack)
	k.mu.Lock()
	k.inv.pack(from, to, pack, k.opts.Now())
	k.unplanned = true
	k.mu.Unlock()
	k.opts.Cache.Drop(run...)
	if k.opts.Packed != nil {
		k.opts.Packed(pack.Size)
	}
	k.log.Debug("joined objects of the log", slog.String("pack", pack.Key()), slog.Int("objects", len(run)), slog.Int64("bytes", pack.Size))
	return nil
}

// notJoined makes the best of an error: what can't be joined stays apart, so that
// the rest can. It gives errors that may pass.
func (k *Keeper) notJoined(ctx context.Context, run []archive.Segment, err error) error {
	var at *archive.JoinError
	lasting := errors.Is(err, archive.ErrBroken) || errors.Is(err, block.ErrCorrupt) || errors.Is(err, block.ErrVersion)
	switch {
	case ctx.Err() != nil:
		return err
	case !errors.As(err, &at):
		if lasting { // something else has the pack's key
			k.sever(run[1], err)
			return nil
		}
		return err
	case k.opts.Cache.Drop(run...) > 0:
		k.log.Debug("not joined from local copies; reading them from the archive", slog.Any("err", err))
		return nil
	case errors.Is(err, storage.ErrNotExist):
		return errors.Join(err, k.relist(ctx))
	case lasting:
		k.sever(at.Segment, err)
		return nil
	default:
		return err
	}
}

// sever sets an object of the log apart for ever.
func (k *Keeper) sever(s archive.Segment, why error) {
	k.log.Error("an object of the log can't be joined with its neighbours, and stays as it is; tidemark verify tells more",
		slog.String("object", s.Key()), slog.Any("err", why))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unplanned = true
	i := k.inv.find(s)
	if i < 0 {
		return
	}
	k.inv.log[i].severed = true
	if i+1 < len(k.inv.log) {
		k.inv.log[i+1].severed = true
	}
}

// relist looks what there is: somebody else has deleted something.
func (k *Keeper) relist(ctx context.Context) error {
	a, err := archive.Open(ctx, k.arch.Bucket())
	if err != nil {
		return err
	}
	if a.Meta().Replica != k.arch.Meta().Replica {
		return fmt.Errorf("%w: it is replica %v now, and was %v", archive.ErrBroken, a.Meta().Replica, k.arch.Meta().Replica)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.inv
	k.inv, k.unplanned = take(a.Listing(), k.opts.Now()), true
	k.inv.inherit(was)
	return nil
}

// inherit takes over what was known before, and what was put while it was listed.
func (v *inventory) inherit(was inventory) {
	for _, now := range [][]object{v.log, v.covered} {
		for i := range now {
			for _, old := range [][]object{was.log, was.covered} {
				if j := slices.IndexFunc(old, func(o object) bool { return o.Segment == now[i].Segment }); j >= 0 {
					now[i].since, now[i].proof = old[j].since, old[j].proof
					now[i].severed = now[i].severed || old[j].severed
				}
			}
		}
	}
	for _, o := range was.log {
		if n := len(v.log); !o.IsPack() && (n == 0 || o.First > v.log[n-1].First) {
			v.put(o.Segment, o.last, o.since)
		}
	}
	var newest state.TXID
	if n := len(v.snaps); n > 0 {
		newest = v.snaps[n-1].TXID
	}
	for _, s := range was.snaps {
		if i := slices.IndexFunc(v.snaps, func(o snapshot) bool { return o.Snapshot == s.Snapshot }); i >= 0 {
			v.snaps[i] = s
		} else if s.TXID > newest {
			v.snaps = append(v.snaps, s)
		}
	}
}
