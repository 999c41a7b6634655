package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// coalesce is how long the engine lets commits gather between two looks at the
// WAL. Commit times are exact to it.
const coalesce = 10 * time.Millisecond

// now is the time in the precision of commit times.
func (e *engine) now() time.Time { return e.opts.Now().Truncate(time.Millisecond).UTC() }

// startNew begins a history: the database as it is now becomes TXID 1, as a
// full snapshot. Once its page sums are known, commits are followed as always, and
// wait in the spool for the snapshot to be complete. While they are computed,
// commits stay in the pinned WAL, and only their times are noted.
func (e *engine) startNew(ctx context.Context) error {
	if err := e.dropSpool(); err != nil {
		return err
	}
	if err := e.db.with(func() error { return e.freezeFirst(ctx) }); err != nil {
		return err
	}
	ctx, begun := context.WithCancelCause(ctx)
	defer begun(nil)
	e.snaps.begun = func() { begun(errBegun) }
	err := e.follow(ctx)
	if err == nil && e.beginning {
		err = context.Cause(ctx)
	}
	return err
}

// freezeFirst finds the page sums of the database as it is now, and begins to upload
// that as the first snapshot.
func (e *engine) freezeFirst(ctx context.Context) error {
	att, err := e.db.attach(ctx, e.seat, source.Known{}, nothingToResume)
	if err != nil {
		return err
	}
	now := e.now()
	e.log.Info("writing the first snapshot", slog.Uint64("pages", uint64(att.Pages)))
	// If nothing tells that the snapshot has arrived, it is recognised by its
	// time.
	h := snapshot.Header{PageSize: e.db.PageSize(), TXID: 1, Pages: att.Pages, Time: now.UnixMilli()}
	shipped := local.Shipped{Replica: e.arch.Meta().Replica, Next: local.Object{Last: h.TXID, Sum: uint64(h.Time)}}
	if err := e.dir.SaveShipped(shipped); err != nil {
		return err
	}
	var opts snapshot.WriteOptions
	if e.opts.Progress != nil {
		total := int64(att.Pages) * int64(h.PageSize)
		opts.Progress = func(n int64) { e.opts.Progress(n, total) }
	}
	f, err := newFirst(e.db.DB, att.Image, e.dir.Path())
	if err != nil {
		return err
	}
	e.write(ctx, h, f, opts, func(context.Context) error { return nil })
	if err := e.db.apart(func() error { return e.findSums(ctx, att) }); err != nil {
		return err
	}
	e.table = f.table.Clone()
	e.head = segment.Commit{TXID: 1, Time: now, Pages: att.Pages, After: e.table.Checksum()}
	e.descends = true
	e.ship = e.newShipper(e.arch, shipped)
	e.place(ctx, att)
	e.db.join(e.seat, e)
	return nil
}

// errBegun says that the first snapshot is complete.
var errBegun = errors.New("the first snapshot is complete")

// beginHistory takes note of the first snapshot: from here on commits can be shipped.
func (e *engine) beginHistory(job *snapshotJob) error {
	if err := e.seal(); err != nil { // so that the page sums are those of a segment's end
		return err
	}
	h := job.header
	e.report.add(h.TXID, 1, job.sum.Stored)
	e.tell()
	e.ship.has(StatusCommit{TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC()})
	shipped := e.ship.shipped
	shipped.Newest, shipped.Next = shipped.Next, local.Object{}
	if err := errors.Join(e.dir.SaveShipped(shipped), e.saveSums(), e.remember(local.Power)); err != nil {
		return err
	}
	e.ship.shipped = shipped
	e.beginning = false
	e.launch()
	e.snaps.begun()
	return nil
}

// findSums waits until the page sums of what was attached to are there, and notes meanwhile
// when commits were seen. The snapshot finds them as it is read. If somebody may come to
// wait for the pin, they are found without it.
func (e *engine) findSums(ctx context.Context, att *source.Attachment) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.place(ctx, att)
	watched := e.watchTimes(ctx, att, cancel)
	hurry, end := e.pressed(ctx)
	defer end()
	job, err := e.snaps.job, error(nil)
	select {
	case <-job.frozen.found:
	case <-hurry:
		err = job.frozen.findRest(ctx)
	case <-job.done:
		err = job.err
	case <-ctx.Done():
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel()
	seen, werr := watched()
	e.seen = seen
	return errors.Join(werr, err)
}

// watchTimes notes, on its own tail and until ctx ends, when commits were seen.
// What it gives waits for that. An error of its own cancels.
func (e *engine) watchTimes(ctx context.Context, att *source.Attachment, cancel context.CancelFunc) func() ([]time.Time, error) {
	t := e.tail
	if att.HasWAL {
		t.reader = wal.NewReader(t.src, att.Header, att.End)
	}
	var seen []time.Time
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(coalesce)
		defer tick.Stop()
		for {
			var n int
			err := e.db.with(func() (err error) { n, err = t.count(); return err })
			for at := e.now(); n > 0; n-- {
				seen = append(seen, at)
			}
			if err != nil {
				cancel()
				done <- err
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- nil
				return
			}
		}
	}()
	return func() ([]time.Time, error) { err := <-done; return seen, err }
}

// count tells how many commits there are that next has not given yet.
func (t *tail) count() (n int, err error) {
	if _, err := t.renew(); errors.Is(err, source.ErrBusy) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	for {
		switch _, err := t.next(); {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
		n++
	}
}

// resyncChunk is how many bytes of the database are read at a time.
const resyncChunk = 256 << 10

// resync compares the database with the last state of the history, page by
// page, and makes the difference one commit. A database that does not differ
// goes on without one. One that does is refused if nothing shows that it made
// the history. why is what kept continuity from being proven.
func (e *engine) resync(ctx context.Context, att *source.Attachment, why string) error {
	differ, at := 0, e.now()
	err := e.compare(ctx, att.Image, func(no wal.PageNo, page []byte) error {
		differ++
		if !e.descends {
			return fmt.Errorf("%w into this replica: nothing shows that the database made it, and it differs from TXID %v "+
				"(from page %v on); use another URL, or continue the history with the difference as one commit: --takeover", ErrRefused, e.head.TXID, no)
		}
		if err := e.begin(at); err != nil {
			return err
		}
		return e.frame(wal.Frame{Page: no, Image: page}, nil)
	})
	if err != nil {
		return err
	}
	e.place(ctx, att)
	same := differ == 0 && att.Pages == e.table.Len()
	e.descends, e.seen = e.descends || same, nil
	if e.descends && e.adopt != nil {
		if err := e.dir.SaveShipped(*e.adopt); err != nil {
			return err
		}
		e.adopt = nil
	}
	if same {
		e.log.Info("the database is at the replica's newest commit", slog.Uint64("txid", uint64(e.head.TXID)))
		return e.keep()
	}
	if !e.descends {
		return fmt.Errorf("%w into this replica: nothing shows that the database made it, and it has %d pages, TXID %v has %d; "+
			"use another URL, or continue the history with the difference as one commit: --takeover", ErrRefused, att.Pages, e.head.TXID, e.table.Len())
	}
	if err := e.begin(at); err != nil {
		return err
	}
	if err := e.commit(segment.Commit{Time: at, Pages: att.Pages, Flags: segment.Resync}); err != nil {
		return err
	}
	e.log.Warn("continuity could not be proven; what differs is one commit of the history",
		slog.Uint64("txid", uint64(e.head.TXID)), slog.Int("pages", differ), slog.Uint64("of", uint64(att.Pages)), slog.String("why", why))
	e.status.repaired(Repair{StatusCommit: StatusCommit{TXID: e.head.TXID, Time: e.head.Time}, Pages: differ, Why: why})
	return e.seal()
}

// compare gives fn each page whose sum is not the one in the table. Others of the
// database go on meanwhile, but no pin ends.
func (e *engine) compare(ctx context.Context, m *source.Image, fn func(wal.PageNo, []byte) error) error {
	return e.db.apart(func() error { return e.comparePages(ctx, m, fn) })
}

func (e *engine) comparePages(ctx context.Context, m *source.Image, fn func(wal.PageNo, []byte) error) error {
	var hurry <-chan struct{}
	pace := e.opts.Process.reading
	if pace.limited() {
		var end func()
		hurry, end = e.pressed(ctx)
		defer end()
	}
	sweep := e.db.Sweep()
	defer sweep.End()
	m = m.Through(sweep)
	size := m.PageSize()
	buf := make([]byte, resyncChunk)
	for first := uint32(1); first <= m.Pages(); {
		n := min(uint32(resyncChunk/int(size)), m.Pages()-first+1)
		chunk := buf[:int(n)*int(size)]
		if err := pace.wait(ctx, len(chunk), hurry); err != nil {
			return err
		}
		if err := m.ReadPages(wal.PageNo(first), chunk); err != nil {
			return err
		}
		if err := e.comparePiece(wal.PageNo(first), size, chunk, fn); err != nil {
			return err
		}
		first += n
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (e *engine) comparePiece(first wal.PageNo, size wal.PageSize, pages []byte, fn func(wal.PageNo, []byte) error) error {
	for no := first; len(pages) > 0; no, pages = no+1, pages[size:] {
		page := pages[:size:size]
		if no == size.LockPage() || uint32(no) <= e.table.Len() && state.SumPage(no, page) == e.table.At(no) {
			continue
		}
		if err := fn(no, page); err != nil {
			return err
		}
	}
	return nil
}
