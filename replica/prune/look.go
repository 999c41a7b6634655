package prune

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/replica/retain"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
)

// readers is how many small reads are made at once.
const readers = 16

// Known is what has been read of objects. Since they never change, it saves the
// same reads to the next Look at the replica. The zero value knows nothing. It is
// safe for concurrent use.
type Known struct {
	mu    sync.Mutex // guards what follows
	snaps map[string]retain.Snapshot
	ends  map[string]state.TXID
}

// Inventory is a replica as [retain.Policy] sees it.
type Inventory struct {
	// State is to be planned for. It must not be changed.
	State retain.State

	arch  *archive.Archive
	snaps map[key]object
	segs  map[retain.Segment][]object
}

// key is what names a snapshot.
type key struct{ id, base state.TXID }

// object is one that can be deleted.
type object struct {
	key  string
	size int64
}

// Look reads what a replica consists of: the headers of its snapshots, where those
// segments end that are no packs, and the marks as they are now. It takes a small
// read or two for each of these that known does not have; known can be nil. All
// else is as it was when the archive was opened.
//
// A snapshot whose header is damaged is bad. Anything else that can't be read is an
// error, since what it holds is not known, and so is what belongs to another replica:
// then somebody should look first.
func Look(ctx context.Context, a *archive.Archive, known *Known) (*Inventory, error) {
	if known == nil {
		known = &Known{}
	}
	v := &Inventory{arch: a, snaps: map[key]object{}, segs: map[retain.Segment][]object{}}
	l := a.Listing()
	snaps, ends := make([]retain.Snapshot, len(l.Snapshots)), make([]state.TXID, len(l.Segments))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, s := range l.Snapshots {
		g.Go(func() (err error) { snaps[i], err = known.snapshot(gctx, a, s); return err })
	}
	for i, s := range l.Segments {
		g.Go(func() (err error) { ends[i], err = known.end(gctx, a, s, l.Segments[i+1:]); return err })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	marks, err := listMarks(ctx, a)
	if err != nil {
		return nil, err
	}
	v.State.Snapshots, v.State.Marks = snaps, marks
	for _, s := range l.Snapshots {
		v.snaps[key{s.TXID, s.Base}] = object{s.Key(), s.Size}
	}
	for i, s := range l.Segments {
		v.addSegment(s, ends[i])
	}
	for _, s := range l.Covered {
		v.addSegment(s, endOfCovered(s, l.Segments))
	}
	return v, nil
}

// addSegment files an object of the log.
func (v *Inventory) addSegment(s archive.Segment, last state.TXID) {
	seg := retain.Segment{First: s.First, Last: last}
	if v.segs[seg] == nil {
		v.State.Segments = append(v.State.Segments, seg)
	}
	v.segs[seg] = append(v.segs[seg], object{s.Key(), s.Size})
}

// endOfCovered is the last commit of an object that a pack covers, or that of the
// pack: it goes with it at the latest.
func endOfCovered(s archive.Segment, log []archive.Segment) state.TXID {
	if s.IsPack() {
		return s.Last
	}
	for _, pack := range log {
		if pack.IsPack() && pack.First <= s.First && s.First <= pack.Last {
			return pack.Last
		}
	}
	return s.First
}

func listMarks(ctx context.Context, a *archive.Archive) ([]retain.Mark, error) {
	marks, err := a.Marks(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]retain.Mark, 0, len(marks))
	for _, m := range marks {
		out = append(out, retain.Mark{Name: m.Name, TXID: m.TXID})
	}
	return out, nil
}

// snapshot reads what is to be known about a snapshot.
func (k *Known) snapshot(ctx context.Context, a *archive.Archive, s archive.Snapshot) (retain.Snapshot, error) {
	k.mu.Lock()
	out, ok := k.snaps[s.Key()]
	k.mu.Unlock()
	if ok {
		return out, nil
	}
	h, err := a.SnapshotHeader(ctx, s)
	out = retain.Snapshot{TXID: s.TXID, Base: s.Base}
	switch {
	case errors.Is(err, block.ErrCorrupt):
		out.Bad = true
	case err != nil:
		return out, err
	default:
		out.Time = time.UnixMilli(h.Time).UTC()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.snaps == nil {
		k.snaps = map[string]retain.Snapshot{}
	}
	k.snaps[s.Key()] = out
	return out, nil
}

// end is the last commit of an object of the log, after which others come. One
// that is damaged is taken to end where the next one begins.
func (k *Known) end(ctx context.Context, a *archive.Archive, s archive.Segment, after []archive.Segment) (state.TXID, error) {
	if s.IsPack() {
		return s.Last, nil
	}
	k.mu.Lock()
	last, ok := k.ends[s.Key()]
	k.mu.Unlock()
	if ok {
		return last, nil
	}
	_, x, err := a.Index(ctx, s)
	switch {
	case err == nil:
		last = x.Trailer.Last
	case len(after) > 0 && errors.Is(err, block.ErrCorrupt):
		last = after[0].First - 1
	default:
		return 0, fmt.Errorf("find the end of %s: %w", s.Key(), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ends == nil {
		k.ends = map[string]state.TXID{}
	}
	k.ends[s.Key()] = last
	return last, nil
}

// Object is one object of the replica.
type Object struct {
	Key string
	// Size is its length in bytes.
	Size int64
}

// Objects are those that an item of the state stands for.
func (v *Inventory) Objects(i retain.Item) []Object {
	objects := v.segs[i.Segment]
	if i.IsSnapshot() {
		objects = []object{v.snaps[key{i.Snapshot.TXID, i.Snapshot.Base}]}
	}
	out := make([]Object, 0, len(objects))
	for _, o := range objects {
		out = append(out, Object{o.key, o.size})
	}
	return out
}
