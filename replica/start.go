package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"tidemark/replica/archive"
	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// origin is the state that the engine goes on from.
type origin struct {
	// table and head are that state.
	table *state.Table
	head  segment.Commit
	// position is where the WAL went on from it; only if proven.
	position wal.Position
	proven   bool
	// descends tells that the local state shows that this database made the
	// replica's newest state.
	descends bool
	// shipped, if not nil, is what is to be remembered of the archive once the
	// database is found to belong to it.
	shipped *local.Shipped
}

// start finds out what the history holds and what the database is, and brings
// the one up to the other.
func (e *engine) start(ctx context.Context) error {
	arch, err := archive.Open(ctx, e.opts.Bucket)
	missing := errors.Is(err, archive.ErrNoReplica)
	if err != nil && !missing {
		return err
	}
	if !missing && arch.Meta().PageSize != e.db.PageSize() {
		return fmt.Errorf("%w into this replica: its pages have %d bytes, the database's %d; use another URL",
			ErrRefused, arch.Meta().PageSize, e.db.PageSize())
	}
	if err := e.db.CheckMode(ctx); err != nil {
		return err
	}
	if missing {
		arch, err = archive.Create(ctx, e.opts.Bucket, e.db.PageSize(), e.now())
		if err != nil {
			return err
		}
		e.log.Info("created the replica", slog.String("id", arch.Meta().Replica.String()))
	}
	e.arch = arch
	if err := e.db.EnsureWAL(ctx); err != nil {
		return err
	}
	e.ship = newShipper(arch, e.dir, e.log)
	if l := arch.Listing(); len(l.Segments)+len(l.Snapshots) == 0 {
		return e.startNew(ctx)
	}
	from, err := e.recall(ctx)
	if err != nil {
		return err
	}
	return e.startFrom(ctx, from)
}

// startFrom attaches to the database and carries on from a state of the
// history.
func (e *engine) startFrom(ctx context.Context, from origin) error {
	e.table, e.head, e.descends = from.table, from.head, from.descends || e.opts.Takeover
	att, err := e.db.Attach(ctx, from.position, func(h wal.Header) error {
		e.tail = e.newTail(ctx)
		e.tail.reader = wal.NewReader(e.db.WAL(), h, from.position)
		_, err := e.Secure()
		return err
	})
	if err != nil {
		return err
	}
	if from.proven && att.Continues {
		if !att.Resumed {
			e.tail = e.newTail(ctx)
			e.tail.reader = wal.NewReader(e.db.WAL(), att.Header, from.position)
		}
		e.tail.sealed = att.End
		e.log.Info("carrying on", slog.Uint64("txid", uint64(e.head.TXID)), slog.String("wal", e.tail.position().String()))
		return e.Read()
	}
	if ok, err := e.continuesFile(ctx, att, from); err != nil {
		return err
	} else if ok {
		e.tail = e.newTail(ctx)
		e.tail.reader = wal.NewReader(e.db.WAL(), att.Header, att.Header.Start())
		e.tail.sealed = att.End
		e.log.Info("carrying on from the WAL's beginning", slog.Uint64("txid", uint64(e.head.TXID)))
		return e.Read()
	}
	if err := e.resync(ctx, att); err != nil || from.shipped == nil {
		return err
	}
	return e.dir.SaveShipped(*from.shipped)
}

// continuesFile tells whether the database file, without its WAL, is the last
// state of the history: then the WAL holds all that has happened since, commit by
// commit. That is so when it is a new one of which nothing has been checkpointed
// yet. Pages that are being checkpointed meanwhile only make it fail.
//
// The file can also be that state because the database came back to it, byte for
// byte, and the WAL's frames led there. So no frame may hold what the file holds:
// then none of them has been checkpointed.
func (e *engine) continuesFile(ctx context.Context, att *source.Attachment, from origin) (bool, error) {
	if !from.proven || !att.HasWAL || att.Header.Salts == from.position.Salts {
		return false, nil
	}
	if ok, err := e.matches(ctx, att.Image.WithoutWAL(e.table.Len())); err != nil || !ok {
		return false, err
	}
	r := wal.NewReader(e.db.WAL(), att.Header, att.Header.Start())
	for r.SetLimit(att.End.Frame); r.Position() != att.End; {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return false, nil // the WAL restarts: it had been checkpointed
		}
		if err != nil {
			return false, err
		}
		for f, err := range r.Frames() {
			if err != nil {
				return false, err
			}
			if state.SumPage(f.Page, f.Image) == e.table.At(f.Page) {
				return false, nil
			}
		}
	}
	return true, nil
}

// matches tells whether an image is the last state of the history.
func (e *engine) matches(ctx context.Context, m *source.Image) (bool, error) {
	if m.Pages() != e.table.Len() {
		return false, nil
	}
	err := e.compare(ctx, m, func(wal.PageNo, []byte) error { return errDiffers })
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

var errDiffers = errors.New("a page differs")

// reattach repairs continuity while running: a new pin, and a comparison of all
// pages with the last state that was read.
func (e *engine) reattach(ctx context.Context) error {
	att, err := e.db.Attach(ctx, wal.Position{}, func(wal.Header) error { return nil })
	if err != nil {
		return err
	}
	return e.resync(ctx, att)
}

// place puts the tail at what Attach found.
func (e *engine) place(ctx context.Context, att *source.Attachment) {
	e.tail = e.newTail(ctx)
	e.tail.sealed = att.End
	if att.HasWAL {
		e.tail.reader = wal.NewReader(e.db.WAL(), att.Header, att.End)
	}
	e.handed = false
}

// newTail gives a tail that stands nowhere. It reads on when ctx has ended, for
// the clean stop.
func (e *engine) newTail(ctx context.Context) tail {
	ctx = context.WithoutCancel(ctx)
	return tail{src: e.db.WAL(), published: func() (uint32, error) { return e.db.Published(ctx) }}
}

// recall finds the newest state of the history, and whether the local state
// shows that it is this database's. What the spool holds is queued.
func (e *engine) recall(ctx context.Context) (origin, error) {
	o, err := e.recallLocal(ctx)
	if err == nil {
		return o, nil
	}
	if !errors.Is(err, local.ErrLost) {
		return origin{}, err
	}
	e.log.Info("no local state to go on from, reading the replica's", slog.Any("why", err))
	descends, err := e.shippedNewest()
	if err != nil {
		return origin{}, err
	}
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
	e.ship.rep.TXID = head.Last
	// If this database is found to be the one, its next segment follows these.
	shipped := local.Shipped{Replica: e.arch.Meta().Replica, First: e.newest(), Last: head.Last}
	return origin{
		shipped: &shipped,
		table:   t, descends: descends,
		head: segment.Commit{TXID: head.Last, Time: head.Commit.Time, Pages: head.Pages, After: head.Checksum},
	}, nil
}

// shippedNewest tells whether the archive's newest segment is the one that was
// put there from here.
func (e *engine) shippedNewest() (bool, error) {
	s, err := e.dir.LoadShipped(e.arch.Meta().Replica)
	if errors.Is(err, local.ErrLost) {
		return false, nil
	}
	return err == nil && s.First == e.newest(), err
}

// newest is the first TXID of the archive's newest segment, 0 without one.
func (e *engine) newest() state.TXID {
	segs := e.arch.Listing().Segments
	if len(segs) == 0 {
		return 0
	}
	return segs[len(segs)-1].First
}

// recallLocal proves the local state and the spool against the archive. Any
// doubt is local.ErrLost.
func (e *engine) recallLocal(ctx context.Context) (origin, error) {
	id := e.arch.Meta().Replica
	st, err := e.dir.Load()
	if err != nil {
		return origin{}, err
	}
	if st.Replica != id {
		return origin{}, fmt.Errorf("%w: it belongs to replica %v, this is %v", local.ErrLost, st.Replica, id)
	}
	shipped, err := e.dir.LoadShipped(id)
	if err != nil {
		return origin{}, err
	}
	spool, err := e.spooled(st, shipped)
	if err != nil {
		return origin{}, err
	}
	newest := e.newest()
	if newest != shipped.First && (len(spool) == 0 || newest != spool[0].first) {
		return origin{}, fmt.Errorf("%w: the archive's newest segment begins at TXID %v, the last one from here at %v",
			local.ErrLost, newest, shipped.First)
	}
	t, err := e.recallTable(ctx, st, shipped, spool)
	if err != nil {
		return origin{}, err
	}
	e.ship.rep.TXID = shipped.Last
	for _, s := range spool {
		e.ship.add(s.sealed)
	}
	return origin{
		table: t, position: st.Position, proven: true, descends: true,
		head: segment.Commit{TXID: st.TXID, Time: st.Time, Pages: st.Pages, After: st.Checksum},
	}, nil
}

// recallTable gives the page sums of the remembered state: the saved ones,
// rolled forward over the archive's segments and then the spool's.
func (e *engine) recallTable(ctx context.Context, st local.State, shipped local.Shipped, spool []spoolSegment) (*state.Table, error) {
	at, t, err := e.dir.LoadSums(st.Replica)
	if err != nil {
		at, t = 0, nil
	}
	if t == nil || at < shipped.Last {
		// A spooled segment can be in the archive already, if its upload was
		// not noted: the archive is read up to what was noted only.
		if t, err = e.arch.Table(ctx, at, t, shipped.Last); err != nil {
			return nil, err
		}
		at = shipped.Last
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
