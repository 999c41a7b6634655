package replica

import (
	"context"
	"errors"
	"slices"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/local"
	"tidemark/replica/retain"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// snapshotPlan is what a snapshot is to be.
type snapshotPlan struct {
	// base is the commit of the snapshot that it adds to, 0 for a full one;
	// table has the page sums there.
	base  state.TXID
	table *state.Table
}

// shelf is the archive's snapshots as this run knows them. While a plan is being
// made it belongs to the plan's goroutine, else to the engine.
type shelf struct {
	arch *archive.Archive
	dir  *local.Dir
	// bucket is where to read what there is, if it could not be read at the start;
	// then nil.
	bucket storage.Bucket
	all    []archive.Snapshot // ascending
	// times are the commit times of those that are known.
	times map[state.TXID]time.Time
	// ahead is when the newest was first found to lie in the future; zero if it was
	// not.
	ahead time.Time
}

// newShelf begins with what an archive held when it was opened, or, of one that
// could not be read, is going to find out.
func (e *engine) newShelf() *shelf {
	s := &shelf{arch: e.arch, dir: e.dir, all: slices.Clone(e.arch.Listing().Snapshots), times: map[state.TXID]time.Time{}}
	if e.offline {
		s.bucket = e.opts.Bucket
	}
	return s
}

// read finds out what there is, if that was not possible at the start.
func (s *shelf) read(ctx context.Context) error {
	if s.bucket == nil {
		return nil
	}
	arch, err := archive.Open(ctx, s.bucket)
	if err != nil {
		return err
	}
	s.arch, s.bucket, s.all = arch, nil, slices.Clone(arch.Listing().Snapshots)
	return nil
}

func (s *shelf) newest() (archive.Snapshot, bool) {
	if len(s.all) == 0 {
		return archive.Snapshot{}, false
	}
	return s.all[len(s.all)-1], true
}

func (s *shelf) put(snap archive.Snapshot, at time.Time) {
	s.all = append(s.all, snap)
	s.times[snap.TXID], s.ahead = at, time.Time{}
}

// age is how long ago a commit was, that of the newest snapshot. If it lies in the
// future, since the clock was ahead for a while and commit times never decrease, it is
// as old as that has been known: else there would be no snapshot until then.
func (s *shelf) age(at, now time.Time) time.Duration {
	if !at.After(now) {
		return now.Sub(at)
	}
	if s.ahead.IsZero() || s.ahead.After(now) {
		s.ahead = now
	}
	return now.Sub(s.ahead)
}

// time reads the commit time of a snapshot.
func (s *shelf) time(ctx context.Context, snap archive.Snapshot) (time.Time, error) {
	if at, ok := s.times[snap.TXID]; ok {
		return at, nil
	}
	h, err := s.arch.SnapshotHeader(ctx, snap)
	if err != nil {
		return time.Time{}, err
	}
	at := time.UnixMilli(h.Time).UTC()
	s.times[snap.TXID] = at
	return at, nil
}

// plan chooses what a snapshot adds to. It gives nil if none is due yet, which
// only the time of the newest one tells.
//
//nolint:revive // full is what is asked for
func (s *shelf) plan(ctx context.Context, now time.Time, interval time.Duration, full bool) (*snapshotPlan, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	newest, ok := s.newest()
	if !ok || full {
		return &snapshotPlan{}, nil
	}
	at, err := s.time(ctx, newest)
	if err != nil {
		return nil, err
	}
	if s.age(at, now) < interval {
		return nil, nil //nolint:nilnil // documented
	}
	if now.Before(at) {
		now = at // as the next commit will be
	}
	base, ok, err := s.base(ctx, at, now)
	if err != nil || !ok {
		return &snapshotPlan{}, err
	}
	table, err := s.table(ctx, base)
	return &snapshotPlan{base: base.TXID, table: table}, err
}

// base finds the snapshot that the next one adds to. ok is false if the next is to
// be full, since those since the last full one have come to half of it.
//
// The first snapshot of a day adds to the first one of the newest day before it,
// and that of a week to the first one of the newest week; all others add to the
// newest. So those in between can go, and none that stays needs them. The base is
// always the newest snapshot or one that it rests on, which retention keeps.
func (s *shelf) base(ctx context.Context, newest, now time.Time) (base archive.Snapshot, ok bool, err error) {
	chain, ok := s.chain()
	if !ok {
		return archive.Snapshot{}, false, nil
	}
	full := chain[len(chain)-1]
	var since int64
	for _, x := range s.all {
		if x.TXID > full.TXID {
			since += x.Size
		}
	}
	if since > full.Size/2 {
		return archive.Snapshot{}, false, nil
	}
	var same func(a, b time.Time) bool
	switch {
	case !retain.SameWeek(newest, now):
		same = retain.SameWeek
	case !retain.SameDay(newest, now):
		same = retain.SameDay
	default:
		return chain[0], true, nil
	}
	base = chain[0]
	for _, x := range chain[1:] {
		at, err := s.time(ctx, x)
		if err != nil || !same(at, newest) {
			return base, err == nil, err
		}
		base = x
	}
	return base, true, nil
}

// chain is what the newest snapshot rests on, itself first and a full one last. ok
// is false if something of it is missing.
func (s *shelf) chain() (chain []archive.Snapshot, ok bool) {
	next, ok := s.newest()
	for ok {
		chain = append(chain, next)
		if next.Base == 0 {
			return chain, true
		}
		i := slices.IndexFunc(s.all, func(x archive.Snapshot) bool { return x.TXID == next.Base })
		if ok = i >= 0; ok {
			next = s.all[i]
		}
	}
	return nil, false
}

// table gives the page sums of a snapshot.
func (s *shelf) table(ctx context.Context, snap archive.Snapshot) (*state.Table, error) {
	id, t, err := s.dir.LoadBase(s.arch.Meta().Replica)
	if err == nil && id == snap.TXID {
		return t, nil
	}
	if err != nil && !errors.Is(err, local.ErrLost) {
		return nil, err
	}
	r, err := s.arch.Snapshot(ctx, snap)
	if err != nil {
		return nil, err
	}
	return r.Table()
}
