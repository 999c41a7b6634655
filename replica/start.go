package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/snapshot/state"
	"tidemark/storage"
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
	// adopt, if not nil, is what is to be remembered of the archive once the
	// database is found to belong to it.
	adopt *local.Shipped
	// file is what the database file looked like.
	file local.Stamp
	// doubt is why nothing is proven.
	doubt string
}

// start finds out what the history holds and what the database is, and brings
// the one up to the other.
func (e *engine) start(ctx context.Context) error {
	e.endShipper((*shipper).stop)
	// Where there is something to carry on from, nothing may get lost while
	// storage is asked.
	_, lerr := e.dir.Load()
	err := e.db.with(func() error {
		err := e.db.CheckMode(ctx)
		if err == nil && lerr == nil {
			err = e.db.Hold(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := e.openArchive(ctx); err != nil {
		return err
	}
	if err := e.db.with(func() error { return e.db.EnsureWAL(ctx) }); err != nil {
		return err
	}
	if e.beginning {
		return e.startNew(ctx)
	}
	from, err := e.recall(ctx)
	if err != nil {
		return err
	}
	return e.db.with(func() error {
		if err := e.startFrom(ctx, from); err != nil {
			return err
		}
		e.db.join(e.seat, e)
		e.launch()
		return nil
	})
}

// launch lets the uploads begin.
func (e *engine) launch() {
	e.ship.unread = e.offline
	if e.table != nil {
		e.tell()
	}
	e.ship.start()
}

// openArchive reads what the replica is and what it holds, and creates it where
// there is none. What storage that does not answer holds can be known from
// before.
func (e *engine) openArchive(ctx context.Context) error {
	e.listed = e.opts.Now()
	arch, err := archive.Open(ctx, e.opts.Bucket)
	switch {
	case errors.Is(err, archive.ErrNoReplica):
		arch, err = archive.Create(ctx, e.opts.Bucket, e.db.PageSize(), e.now())
		if err != nil {
			return err
		}
		e.log.Info("created the replica", slog.String("id", arch.Meta().Replica.String()))
	case errors.Is(err, storage.ErrUnreachable) && !e.once:
		st, lerr := e.dir.Load()
		if lerr != nil {
			return err
		}
		e.log.Warn("storage does not answer; following from local state until it does", slog.Any("err", err))
		e.offline = true
		e.arch = archive.Known(e.opts.Bucket, archive.Meta{Replica: st.Replica, PageSize: e.db.PageSize()})
		return nil
	case err != nil:
		return err
	}
	if arch.Meta().PageSize != e.db.PageSize() {
		return fmt.Errorf("%w into this replica: its pages have %d bytes, the database's %d; use another URL",
			ErrRefused, arch.Meta().PageSize, e.db.PageSize())
	}
	e.arch = arch
	l := arch.Listing()
	e.beginning = len(l.Segments)+len(l.Snapshots) == 0
	if e.opts.Unfenced || e.probed {
		return nil
	}
	if err := arch.CheckFence(ctx); err != nil {
		return err
	}
	e.probed = true
	return nil
}

// startFrom attaches to the database and carries on from a state of the
// history.
func (e *engine) startFrom(ctx context.Context, from origin) error {
	e.table, e.head, e.adopt = from.table, from.head, from.adopt
	e.descends = from.descends || e.opts.Takeover
	before, err := e.db.Stamp()
	if err != nil {
		return err
	}
	untouched := from.file == local.Stamp(before)
	var base *state.Table
	if !untouched && from.proven {
		base = from.table.Clone()
	}
	known := source.Known{Position: from.position, Pinned: from.proven && e.pinnedSince(from.position)}
	att, err := e.db.attach(ctx, e.seat, known, func(h wal.Header, at wal.Position) error {
		e.tail = e.newTail(ctx)
		e.tail.reader = wal.NewReader(e.db.WAL(), h, at)
		if !untouched {
			return e.collect()
		}
		return e.resume(h, at)
	})
	if err != nil {
		return err
	}
	if from.proven && att.Continues {
		if !att.Resumed {
			e.tail = e.newTail(ctx)
			e.tail.reader = wal.NewReader(e.db.WAL(), att.Header, att.From)
		}
		e.tail.sealed = att.End
		if !untouched {
			return e.carryOnIfSame(ctx, att, from, base)
		}
		e.log.Info("carrying on", slog.Uint64("txid", uint64(e.head.TXID)), slog.String("wal", e.tail.position().String()))
		_, err := e.Read()
		return err
	}
	if ok, err := e.continuesFile(ctx, att, from); err != nil {
		return err
	} else if ok {
		e.tail = e.newTail(ctx)
		e.tail.reader = wal.NewReader(e.db.WAL(), att.Header, att.Header.Start())
		e.tail.sealed = att.End
		e.log.Info("carrying on from the WAL's beginning", slog.Uint64("txid", uint64(e.head.TXID)))
		// What proved that is gone with the first checkpoint.
		if err := e.remember(local.Process); err != nil {
			return err
		}
		_, err := e.Read()
		return err
	}
	return e.resync(ctx, att, cmp.Or(from.doubt, "the WAL does not go on from where it was read to, nor the database file from what it was"))
}

// carryOnIfSame reads on in a WAL that continues what is remembered. That its
// frames do does not tell that the database file is the one that they belong to,
// if it was written to since: somebody may have put another one under the WAL.
// So before any of the commits counts, all pages are compared. If a page differs
// that they did not write, they are given up for one resync from base.
func (e *engine) carryOnIfSame(ctx context.Context, att *source.Attachment, from origin, base *state.Table) error {
	if err := e.collectTo(att.End); err != nil {
		return err
	}
	same, err := e.matches(ctx, att.Image)
	if err != nil {
		return err
	}
	if same {
		e.log.Info("carrying on; the database file was written to meanwhile, and holds what it should",
			slog.Uint64("txid", uint64(e.head.TXID)), slog.String("wal", e.tail.position().String()))
		return e.keep()
	}
	e.table, e.head = base, from.head
	e.cache.drop()
	if s := e.seg; s != nil {
		e.seg = nil
		if err := errors.Join(s.file.Close(), e.removePart(from.head.TXID+1)); err != nil {
			return err
		}
	}
	return e.resync(ctx, att, "the database file was changed under its WAL while tidemark was down")
}

// resume reads what was committed before a pin, under the write lock. That it is not
// much Attach has seen to.
func (e *engine) resume(wal.Header, wal.Position) error {
	_, err := e.secure(time.Time{})
	return err
}

// collect reads all commits that the WAL holds now, and neither lets them be
// uploaded nor promises that they are safe.
func (e *engine) collect() error {
	e.locked = true
	defer func() { e.locked = false }()
	_, err := e.readPublished()
	return err
}

// collectTo does so up to a position.
func (e *engine) collectTo(end wal.Position) error {
	e.tail.until = end.Frame
	defer func() { e.tail.until = 0 }()
	for e.tail.position() != end {
		from := e.tail.position()
		if err := e.collect(); err != nil {
			return err
		}
		if at := e.tail.position(); at == from {
			return fmt.Errorf("%w: read to %v of %v", errGap, at, end)
		}
	}
	return nil
}

// pinnedSince tells whether the database has been pinned since the WAL ended at
// a position, and nobody has handed off since what this engine has not read.
func (e *engine) pinnedSince(at wal.Position) bool {
	return e.sealed != (wal.Position{}) && at == e.sealed && e.db.Held() && e.seat.passes == e.db.passes
}

func nothingToResume(wal.Header, wal.Position) error { return nil }

// continuesFile tells whether the database file, without its WAL, is the last
// state of the history: then the WAL holds all that has happened since, commit by
// commit. That is so when it is a new one of which nothing has been checkpointed
// yet. Pages that are being checkpointed meanwhile only make it fail.
//
// The file can also be that state because the database came back to it, byte for
// byte, and the WAL's frames led there. So none of them may have been checkpointed:
// SQLite says so, or no frame holds what the file holds. The second is not always
// so, since a transaction can write a page that it has not changed.
func (e *engine) continuesFile(ctx context.Context, att *source.Attachment, from origin) (bool, error) {
	if !from.proven || !att.HasWAL || att.Header.Salts == from.position.Salts {
		return false, nil
	}
	if ok, err := e.matches(ctx, e.db.File(e.table.Len())); err != nil || !ok {
		return false, err
	}
	if e.db.Uncopied(att.Header.Salts) {
		return true, nil
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
func (e *engine) reattach(ctx context.Context, why string) error {
	e.adrift = true
	e.dropSnapshot(errStale)
	e.status.lost()
	att, err := e.db.attach(ctx, e.seat, source.Known{}, nothingToResume)
	if err != nil {
		return err
	}
	if err := e.resync(ctx, att, why); err != nil {
		return err
	}
	e.db.join(e.seat, e)
	return nil
}

// place puts the tail at what Attach found.
func (e *engine) place(ctx context.Context, att *source.Attachment) {
	e.tail = e.newTail(ctx)
	e.tail.sealed = att.End
	e.adrift = false
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
