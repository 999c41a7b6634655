package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// recall finds the newest state of the history, and whether the local state
// shows that it is this database's. What the spool holds is queued.
func (e *engine) recall(ctx context.Context) (origin, error) {
	shipped, err := e.shippedHere(ctx)
	if err == nil {
		var o origin
		if o, err = e.recallLocal(ctx, shipped); err == nil {
			return o, nil
		}
	}
	if !errors.Is(err, local.ErrLost) {
		return origin{}, err
	}
	if e.offline {
		return origin{}, fmt.Errorf("%w, and storage does not answer: %w", storageAway(), err)
	}
	doubt := err.Error()
	e.log.Info("no local state to go on from, reading the replica's", slog.String("why", doubt))
	if err := e.dropSpool(); err != nil {
		return origin{}, err
	}
	head, err := e.arch.Head(ctx)
	if err != nil {
		return origin{}, err
	}
	t, err := e.arch.Table(ctx, 0, nil, 0)
	if err != nil {
		return origin{}, err
	}
	// If this database is found to be the one, its next segment follows these.
	adopt := local.Shipped{Replica: e.arch.Meta().Replica, Newest: local.Object{First: head.First, Last: head.Last, Sum: head.Sum}}
	e.ship = e.newShipper(e.arch, adopt)
	return origin{
		adopt: &adopt, table: t, descends: shipped == adopt, doubt: doubt,
		head: segment.Commit{TXID: head.Last, Time: head.Commit.Time, Pages: head.Pages, After: head.Checksum},
	}, nil
}

// shippedHere finds out what is in the archive from here: what is written down,
// and what was being put when the last run ended. It is local.ErrLost if that is
// not known of this replica.
func (e *engine) shippedHere(ctx context.Context) (local.Shipped, error) {
	id := e.arch.Meta().Replica
	var s local.Shipped
	if e.shipped != nil && e.shipped.Replica == id {
		s = *e.shipped
	} else {
		var err error
		if s, err = e.dir.LoadShipped(id); err != nil {
			return local.Shipped{}, err
		}
	}
	next := s.Next
	s.Next = local.Object{}
	if next != s.Next {
		arrived, err := e.arrived(ctx, next)
		if err != nil {
			return local.Shipped{}, err
		}
		if arrived {
			s.Newest = next
			return s, nil
		}
	}
	if s.Newest == (local.Object{}) {
		return local.Shipped{}, fmt.Errorf("%w: it does not tell what is in storage", local.ErrLost)
	}
	if e.offline {
		s.Next = next // to be asked for again when storage answers
		return s, nil
	}
	held, err := e.holds(ctx, s.Newest)
	if err == nil && !held {
		err = fmt.Errorf("%w: the archive does not hold the segment at TXID %v that was put there from here", local.ErrLost, s.Newest.First)
	}
	return s, err
}

// arrived tells whether an object that was being put is in the archive.
func (e *engine) arrived(ctx context.Context, o local.Object) (bool, error) {
	if e.offline {
		// It leaves the spool when it has arrived. If something else took it
		// away, that shows when storage answers.
		f, err := disk.Open(e.dir.FS(), e.dir.SpoolPath(o.First))
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("look into the spool: %w", err)
		}
		return false, f.Close()
	}
	return e.holds(ctx, o)
}

// holds tells whether the archive has an object.
func (e *engine) holds(ctx context.Context, o local.Object) (bool, error) {
	if o.First == 0 {
		return e.arch.HoldsSnapshot(ctx, o.Last, int64(o.Sum))
	}
	return e.arch.HoldsSegment(ctx, o.First, o.Last, o.Sum)
}

// recallLocal proves the local state and the spool against the archive. Any
// doubt is local.ErrLost.
func (e *engine) recallLocal(ctx context.Context, shipped local.Shipped) (origin, error) {
	id := e.arch.Meta().Replica
	st, err := e.dir.Load()
	if err != nil {
		return origin{}, err
	}
	if st.Replica != id {
		return origin{}, fmt.Errorf("%w: it belongs to replica %v, this is %v", local.ErrLost, st.Replica, id)
	}
	spool, err := e.spooled(st, shipped)
	if err == nil || ofSystem(err) && !errors.Is(err, local.ErrLost) {
		err = errors.Join(err, e.queue(shipped, spool, err != nil))
	}
	if err != nil {
		return origin{}, err
	}
	t, err := e.recallTable(ctx, st, shipped, spool)
	if err != nil {
		return origin{}, err
	}
	return origin{
		table: t, position: st.Position, proven: true, descends: true, file: st.File,
		head: segment.Commit{TXID: st.TXID, Time: st.Time, Pages: st.Pages, After: st.Checksum},
	}, nil
}

// queue makes the shipper of what the spool holds. If the rest of it can't be had
// now, as on a full disk, it begins at once: that makes room.
//
//nolint:revive // partly is what the two cases differ in
func (e *engine) queue(shipped local.Shipped, spool []spoolSegment, partly bool) error {
	newest := e.arch.Newest()
	if !e.offline && newest != shipped.Newest.First && (len(spool) == 0 || newest != spool[0].first) {
		return fmt.Errorf("%w: the archive's newest segment begins at TXID %v, the last one from here at %v",
			local.ErrLost, newest, shipped.Newest.First)
	}
	e.ship = e.newShipper(e.arch, shipped)
	for _, s := range spool {
		e.ship.add(s.sealed)
	}
	if partly {
		e.launch()
	}
	return nil
}

// recallTable gives the page sums of the remembered state: the saved ones,
// rolled forward over the archive's segments and then the spool's.
func (e *engine) recallTable(ctx context.Context, st local.State, shipped local.Shipped, spool []spoolSegment) (*state.Table, error) {
	at, t, err := e.dir.LoadSums(st.Replica)
	if err != nil && !errors.Is(err, local.ErrLost) {
		return nil, err
	}
	if err != nil {
		at, t = 0, nil
	}
	if t == nil || at < shipped.Newest.Last {
		if e.offline {
			return nil, storageAway()
		}
		// A spooled segment can be in the archive already, if its upload was
		// not noted: the archive is read up to what was noted only.
		if t, err = e.arch.Table(ctx, at, t, shipped.Newest.Last); err != nil {
			return nil, err
		}
		at = shipped.Newest.Last
	}
	for _, s := range spool {
		if s.last <= at {
			continue
		}
		if err := s.index.Apply(s.header, t); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", local.ErrLost, s.path, err)
		}
	}
	if t.Checksum() != st.Checksum || t.Len() != st.Pages {
		return nil, fmt.Errorf("%w: the page sums give state %v, it was %v", local.ErrLost, t.Checksum(), st.Checksum)
	}
	return t, nil
}
