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
// full snapshot. Commits that come meanwhile stay in the pinned WAL; only their
// times are noted, since the page sums that they change are not known yet.
func (e *engine) startNew(ctx context.Context) error {
	if err := e.dropSpool(); err != nil {
		return err
	}
	att, err := e.db.Attach(ctx, source.Known{}, nothingToResume)
	if err != nil {
		return err
	}
	e.log.Info("writing the first snapshot", slog.Uint64("pages", uint64(att.Pages)))
	h := snapshot.Header{PageSize: e.db.PageSize(), TXID: 1, Pages: att.Pages, Time: e.now().UnixMilli()}
	// If nothing tells that the snapshot has arrived, it is recognised by its
	// time.
	shipped := local.Shipped{Replica: e.arch.Meta().Replica, Next: local.Object{Last: h.TXID, Sum: uint64(h.Time)}}
	if err := e.dir.SaveShipped(shipped); err != nil {
		return err
	}
	total := int64(att.Pages) * int64(h.PageSize)
	opts := snapshot.WriteOptions{Progress: func(n int64) {
		if e.opts.Progress != nil {
			e.opts.Progress(n, total)
		}
	}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		snapshot.Summary
		error
	}
	done := make(chan result, 1)
	go func() {
		sum, err := e.arch.PutSnapshot(ctx, h, att.Image, opts)
		done <- result{sum, err}
	}()
	e.place(ctx, att)
	watched := e.watchTimes(ctx, att, cancel)
	res := <-done
	cancel()
	if e.seen, err = watched(); err != nil || res.error != nil {
		return errors.Join(res.error, err)
	}
	e.table, e.descends, e.beginning = res.Table, true, false
	e.head = segment.Commit{TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC(), Pages: h.Pages, After: res.Checksum}
	e.report.add(h.TXID, 1, res.Stored)
	shipped.Newest, shipped.Next = shipped.Next, local.Object{}
	if err := errors.Join(e.dir.SaveShipped(shipped), e.saveSums(), e.remember(local.Power)); err != nil {
		return err
	}
	e.ship = e.newShipper(e.arch, shipped)
	e.launch()
	return nil
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
			n, err := t.count()
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
// the history.
func (e *engine) resync(ctx context.Context, att *source.Attachment) error {
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
		return e.frame(wal.Frame{Page: no, Image: page})
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
		slog.Uint64("txid", uint64(e.head.TXID)), slog.Int("pages", differ), slog.Uint64("of", uint64(att.Pages)))
	return e.seal()
}

// compare gives fn each page whose sum is not the one in the table.
func (e *engine) compare(ctx context.Context, m *source.Image, fn func(wal.PageNo, []byte) error) error {
	size := m.PageSize()
	buf := make([]byte, resyncChunk)
	for first := uint32(1); first <= m.Pages(); {
		n := min(uint32(resyncChunk/int(size)), m.Pages()-first+1)
		chunk := buf[:int(n)*int(size)]
		if err := m.ReadPages(wal.PageNo(first), chunk); err != nil {
			return err
		}
		for i := range n {
			no, page := wal.PageNo(first+i), chunk[int(i)*int(size):int(i+1)*int(size)]
			if no == size.LockPage() || uint32(no) <= e.table.Len() && state.SumPage(no, page) == e.table.At(no) {
				continue
			}
			if err := fn(no, page); err != nil {
				return err
			}
		}
		first += n
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}
