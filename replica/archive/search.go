package archive

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// searchers is how many places a search looks at together. With one a search by
// time would take as many round trips to storage as it takes steps: twelve for an
// hour of a segment a second, with these three.
const searchers = 15

// search finds the first of n objects for which is holds, or n. It must hold for
// all that follow one for which it does. It is asked of several at once.
func search(ctx context.Context, n int, is func(ctx context.Context, i int) (bool, error)) (int, error) {
	from, to := 0, n // the result lies between these
	for from < to {
		k := min(searchers, to-from)
		places, found := make([]int, k), make([]bool, k)
		g, ctx := errgroup.WithContext(ctx)
		for p := range places {
			places[p] = from + (to-from)*(p+1)/(k+1)
			if k == to-from {
				places[p] = from + p
			}
			g.Go(func() (err error) {
				found[p], err = is(ctx, places[p])
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		for p, place := range places {
			if found[p] {
				to = place
				break
			}
			from = place + 1
		}
	}
	return from, nil
}

// segmentsUntil is the number of the log's objects whose first commit is not
// after a time. It takes some small reads: times never decrease, over gaps
// either.
func (a *Archive) segmentsUntil(ctx context.Context, t time.Time) (int, error) {
	segs := a.listing.Segments
	return search(ctx, len(segs), func(ctx context.Context, i int) (bool, error) {
		h, err := a.SegmentHeader(ctx, segs[i])
		return h.Time.After(t), err
	})
}
