package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"tidemark/replica/source"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// run is the life of an engine: start, follow, ship what is left.
func (e *engine) run(ctx context.Context) error {
	if err := e.start(ctx); err != nil {
		err = e.explain(ctx, err)
		if ctx.Err() != nil && e.beginning {
			err = fmt.Errorf("%w: %w", ErrUnfinished, err)
		}
		return err
	}
	e.started()
	e.status.follows()
	if !e.ready && e.opts.Ready != nil {
		e.opts.Ready()
	}
	e.ready = true
	var err error
	if e.once {
		err = e.snapshotOnce(ctx)
	} else {
		err = e.followWhileShipping(ctx)
	}
	switch {
	case err == nil && e.adrift:
		return errors.New("stopped while pages were compared; what was read before waits in the spool, and the next start compares again")
	case err == nil, errors.Is(err, ErrReplaced):
		// Also what was read of a file that is no longer the database is
		// shipped, for as long as a stop may take.
		err = errors.Join(err, e.leave(e.finish))
	case errors.Is(err, ErrOverwritten):
		err = errors.Join(err, e.leave(e.seal))
	default:
		return err // what is sealed goes on being uploaded
	}
	return errors.Join(err, e.shipRest(ctx))
}

// explain says that the database was replaced, if it was, of an error that ended a start:
// it would be tried for ever otherwise, since it comes before anybody looks. An engine
// that follows the database looks by itself, and ships what it can still read.
func (e *engine) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil || permanent(err) {
		return err
	}
	if ierr := e.db.InPlace(); errors.Is(ierr, source.ErrReplaced) {
		return fmt.Errorf("%w; before that: %w", ierr, err)
	}
	return err
}

// leave ends following with a last step, after which nobody reads on this one's
// behalf.
func (e *engine) leave(last func() error) error {
	return e.db.with(func() error {
		err := e.seat.lost
		if err == nil {
			err = last()
		} else { // what it has read is not whole
			err = fmt.Errorf("stopped before it could go on from where others went on without it: %w", err)
		}
		e.db.unjoin(e.seat)
		e.seat.awaited, e.db.left = false, time.Now()
		return err
	})
}

// followWhileShipping follows until ctx ends, or the uploads do.
func (e *engine) followWhileShipping(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ship := e.ship
	defer context.AfterFunc(ship.over, func() { cancel(errShipped) })() //nolint:contextcheck // it waits for the one that ends
	err := e.follow(ctx)
	if errors.Is(context.Cause(ctx), errShipped) && ship.err != nil {
		return ship.err // whatever else failed then was told to stop
	}
	return err
}

// errShipped says that the uploads have ended.
var errShipped = errors.New("uploads have ended")

// shipRest waits until all is uploaded. After a stop it does so for a while only.
func (e *engine) shipRest(ctx context.Context) error {
	ship := e.ship
	ship.close()
	if e.once {
		select {
		case <-ship.done:
			if run := ship.tended(); run != nil && ship.err == nil {
				run.Finish(ctx)
			}
			return ship.err
		case <-ctx.Done():
		}
	}
	t := time.NewTimer(e.opts.StopPatience)
	defer t.Stop()
	select {
	case <-ship.done:
	case <-t.C:
		ship.stop()
	}
	return ship.err
}

// close gives back what the engine alone has open.
func (e *engine) close() error {
	e.dropSnapshot(context.Canceled)
	var err error
	if e.seg != nil {
		err = e.seg.file.Close() // cut off by an error; it is taken up again
	}
	e.cache.drop()
	e.watch.disarm()
	return err
}

// verifyFile compares all pages of a database file that was touched, err, with
// what they should be. A file's time changes for less than a write.
func (e *engine) verifyFile(ctx context.Context, err error) error {
	if err := e.readAll(); err != nil {
		return err
	}
	at := e.tail.position()
	known := source.Known{Position: at, Pinned: at == e.tail.sealed}
	e.adrift = true
	e.dropSnapshot(err)
	att, aerr := e.db.attach(ctx, e.seat, known, e.resume)
	if aerr != nil {
		return errors.Join(err, aerr)
	}
	if !att.Resumed {
		return fmt.Errorf("%w: it restarted while the database file was looked at", errGap)
	}
	e.tail.sealed, e.handed, e.adrift = att.End, false, false
	same, cerr := e.matches(ctx, att.Image)
	if cerr != nil {
		return cerr
	}
	if !same {
		return e.overwritten(err.Error())
	}
	e.db.join(e.seat, e)
	e.log.Debug("the database file was touched, and holds what it should", slog.String("file", e.db.Path()))
	return nil
}

// overwritten says what has happened to the file, and what to do.
func (e *engine) overwritten(how string) error {
	return fmt.Errorf("%w, by cp or something else that is not SQLite: %s (%s); what was shipped before is whole; stop the application, "+
		"bring the database into the state that you want, without a stale -wal and -shm file beside it, and start again", ErrOverwritten, e.db.Path(), how)
}

// samples is how many pages are looked at after each hand-off.
const samples = 8

// sampleFile looks at the database file when a hand-off has just brought all into
// it: it holds the state that was read last. The first page changes with almost
// all that others do to a database.
func (e *engine) sampleFile() error {
	file := e.db.File(e.table.Len())
	page := make([]byte, file.PageSize())
	for i := range min(samples, file.Pages()) {
		no := wal.PageNo(1)
		if i > 0 {
			no += wal.PageNo(rand.Uint32N(file.Pages())) //nolint:gosec // no secret
		}
		if err := file.ReadPages(no, page); err != nil {
			return err
		}
		if no != file.PageSize().LockPage() && state.SumPage(no, page) != e.table.At(no) {
			return e.overwritten(fmt.Sprintf("page %v is not what SQLite has written", no))
		}
	}
	return nil
}
