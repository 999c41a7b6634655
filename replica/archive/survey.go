package archive

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
)

const (
	// mostEnds is how many segments that are no packs are read to see where they
	// end. Packing leaves fewer.
	mostEnds = 256
	// readers is how many small reads are made at once.
	readers = 16
)

// damage is what is wrong with objects, by their keys.
type damage struct {
	mu sync.Mutex
	by map[string]error
}

// note takes errors for damage that say that an object is not what it should be,
// and gives others back.
func (d *damage) note(key string, err error) error {
	if !errors.Is(err, block.ErrCorrupt) && !errors.Is(err, block.ErrVersion) && !errors.Is(err, ErrBroken) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[string]error{}
	}
	d.by[key] = err
	return nil
}

func (d *damage) of(key string) bool { return d.by[key] != nil }

// History reads what can be restored: a small read for each range and each single
// snapshot, and one for each segment that is in no pack, to see where it ends. If
// there are more than 256 of these, the log is taken to have no gaps there, since
// to read them all takes too long. ErrNoReplica says that nothing can be restored
// yet.
//
// An object of which these reads show that it is damaged is taken for missing, and
// [History.Damaged] tells of it.
func (a *Archive) History(ctx context.Context) (*History, error) {
	if _, err := a.firstWhole(); err != nil {
		return nil, err
	}
	h := &History{archive: a}
	ends, err := h.ends(ctx)
	if err != nil {
		return nil, err
	}
	for l, known := a.listing, -1; known != len(h.damage.by); {
		known = len(h.damage.by)
		l.Snapshots = slices.DeleteFunc(slices.Clone(l.Snapshots), func(s Snapshot) bool { return h.damage.of(s.Key()) })
		for i, s := range l.Segments {
			if h.damage.of(s.Key()) {
				ends[i] = s.First - 1
			}
		}
		h.all = l.stretches(ends)
		if err := h.complete(ctx); err != nil {
			return nil, err
		}
	}
	if damaged := h.Damaged(); len(h.all) == 0 && len(damaged) > 0 {
		return nil, damaged[0]
	}
	return h, nil
}

// Damaged are the errors of objects that turned out to be damaged, in the order of
// their keys. What they make unreachable is not in Ranges.
func (h *History) Damaged() (all []error) {
	for _, key := range slices.Sorted(maps.Keys(h.damage.by)) {
		all = append(all, h.damage.by[key])
	}
	return all
}

// ends gives the last commit of each of the listing's Segments. A pack's key
// says it; others are read. If packing is far behind, all but the last are
// taken to end where the next one begins.
func (h *History) ends(ctx context.Context) ([]state.TXID, error) {
	segs := h.archive.listing.Segments
	ends := make([]state.TXID, len(segs))
	var unknown []int
	for i, s := range segs {
		ends[i] = s.Last
		if !s.IsPack() {
			unknown = append(unknown, i)
		}
	}
	if n := len(unknown); n > mostEnds {
		for _, i := range unknown[:n-1] {
			ends[i] = segs[i+1].First - 1
		}
		unknown = unknown[n-1:]
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, i := range unknown {
		g.Go(func() error {
			_, x, err := h.archive.Index(ctx, segs[i])
			if err == nil {
				ends[i] = x.Trailer.Last
			}
			return h.damage.note(segs[i].Key(), err)
		})
	}
	return ends, g.Wait()
}

// complete reads when the stretches begin and end.
func (h *History) complete(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i := range h.all {
		s := &h.all[i]
		g.Go(func() error {
			head, err := h.archive.SnapshotHeader(ctx, s.base)
			if err != nil {
				return h.damage.note(s.base.Key(), err)
			}
			s.begin = snapshotCommit(head, s.base)
			s.begin.Single = s.single
			s.end = Point{s.begin.TXID, s.begin.Time}
			if s.from == s.to {
				return nil
			}
			last := h.archive.listing.Segments[s.to-1]
			_, x, err := h.archive.Index(ctx, last)
			if err != nil {
				return h.damage.note(last.Key(), err)
			}
			s.end = Point{s.last, x.Trailer.Time}
			return nil
		})
	}
	return g.Wait()
}
