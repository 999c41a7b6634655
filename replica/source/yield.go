package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"tidemark/wal"
)

const (
	// yieldPause is how long the application's checkpoints go on between two
	// looks at them.
	yieldPause = 2 * time.Millisecond
	// zeroPatience is how long a checkpoint may wait before a pin in slot 0 is
	// taken from it, and asidePatience before there is none for a moment.
	// SQLite's busy handler sleeps 100 ms at most.
	zeroPatience  = 120 * time.Millisecond
	asidePatience = 400 * time.Millisecond
	// yieldPoll is how often a pin that nobody reads behind is looked at.
	yieldPoll = 50 * time.Millisecond
	// maxAside bounds that moment.
	maxAside = 2 * time.Second
)

// ErrAside says that the pin had to be given up for a moment, and that something
// was committed meanwhile: it must be attached to again.
var ErrAside = errors.New("the pin was given up for a checkpoint of the application's")

// Yield lets a checkpoint of the application's pass that waits for the pin, if
// there is one, and tells whether there was. Without one, the WAL may be
// checkpointed as far as the pin allows.
//
// A checkpoint of the modes FULL, RESTART and TRUNCATE holds the write lock and
// waits, for its whole busy timeout and with every writer behind it: for readers
// of an earlier state, then for slot 0 before it copies, and (but for FULL) for
// all other slots before it restarts the WAL. An exchange of the pin is all that
// it needs: while the WAL is not copied, the new pin takes a slot with a mark at
// its end; when it is, slot 0. So the checkpoint passes after a few calls, and
// never is the WAL without a pin.
//
// But for one case: it can wait for a slot that some reader had when the WAL was
// shorter, and in which the next reader has set a new mark since, as the pin
// then does too. From there no exchange leads away. So a pin in slot 0 stays
// there at first, and after some time there is none for a moment. What is
// committed in it, which takes the checkpoint to end and a writer to be quick, is
// read after it, and the wal-index's count of commits proves that it is all.
// ErrAside says that it can't be: another checkpoint has had the WAL restarted
// again.
func (d *DB) Yield(ctx context.Context, drain Drainer) (bool, error) {
	if err := d.untouched(ctx); err != nil {
		return false, err
	}
	_, done, err := d.checkpoint(ctx)
	if err != nil {
		return false, err
	}
	if done >= 0 {
		d.stuck = time.Time{}
		d.note(ctx)
		return false, nil
	}
	return true, d.letPass(ctx, drain)
}

// CheckpointWaits tells whether a checkpoint of the application's is under way, which may
// wait for the pin. Without one, the WAL may be checkpointed as far as the pin allows.
func (d *DB) CheckpointWaits(ctx context.Context) (bool, error) {
	_, done, err := d.checkpoint(ctx)
	return done < 0, err
}

// letPass does what a checkpoint that is under way may wait for.
func (d *DB) letPass(ctx context.Context, drain Drainer) error {
	now, err := d.moment(ctx)
	if err != nil {
		return err
	}
	if d.stuck.IsZero() || now != d.stuckAt {
		d.stuck, d.stuckAt = time.Now(), now
	}
	switch waits := time.Since(d.stuck); {
	case waits > asidePatience:
		return d.stepAside(ctx, drain, now)
	case d.slot0 && waits < zeroPatience:
		return nil
	}
	if err := d.exchange(ctx, drain); err != nil {
		return err
	}
	d.slot0 = now.frames == now.copied
	return nil
}

// stepAside gives the pin up until the checkpoint begins to copy the WAL. Then
// all that was committed meanwhile must be there to be read, else it is ErrAside.
func (d *DB) stepAside(ctx context.Context, drain Drainer, before moment) error {
	index, ok, err := d.readTo(drain)
	if err != nil {
		return err
	}
	if !ok { // who commits does not wait
		d.stuck = time.Time{}
		return nil
	}
	file, err := d.Stamp()
	if err != nil {
		return err
	}
	d.unpin(ctx)
	for until := time.Now().Add(maxAside); ctx.Err() == nil && time.Now().Before(until); {
		_ = sleep(ctx, pause) // its end is looked at above
		stamp, serr := d.Stamp()
		now, err := d.moment(ctx)
		if serr != nil || stamp != file || err == nil && (now.frames == now.copied || now != before) {
			break
		}
	}
	// Nothing, the end of ctx included, may leave the WAL without a pin.
	if err := d.standAgain(context.WithoutCancel(ctx), drain, index); err != nil {
		return fmt.Errorf("%w: %v", ErrAside, err) //nolint:errorlint // ErrBusy passes, this does not
	}
	d.log.Debug("stepped aside for a checkpoint of the application's; nothing was missed")
	return nil
}

// standAgain pins the database after a moment without a pin, and fails if
// anything may have been missed. What the new pin finds must be read while the
// WAL is still the same: from then on it is as good as an exchanged one.
func (d *DB) standAgain(ctx context.Context, drain Drainer, before wal.Index) error {
	if err := d.pin(ctx); err != nil {
		return err
	}
	d.stuck = time.Time{}
	pinned, err := d.moment(ctx)
	if err != nil {
		return err
	}
	if err := d.readOn(drain, before); err != nil {
		return err
	}
	d.slot0 = pinned.frames == pinned.copied
	return nil
}

// lockOrStuck takes the write lock, or tells that a checkpoint has it that may
// wait for the pin.
func (d *DB) lockOrStuck(ctx context.Context) (stuck bool, err error) {
	start, s := time.Now(), suspicion{}
	for {
		err := d.lock(ctx, 0)
		if !errors.Is(err, ErrBusy) || time.Since(start) > openPatience {
			return false, err
		}
		if err := sleep(ctx, yieldPause); err != nil {
			return false, err
		}
		if stuck, err := s.confirm(ctx, d); stuck || err != nil {
			return stuck, err
		}
	}
}

// suspicion is that who has the write lock is a checkpoint of the application's that
// waits for the pin. It asks for that only when nothing is committed: to ask is to
// checkpoint, and what the database file holds may be what continuity is proven by.
type suspicion struct {
	last moment
	// still and since tell since when nothing has been committed, and since when a
	// checkpoint has been under way.
	still, since time.Time
}

// confirm is called again and again as long as the lock is not to be had.
func (s *suspicion) confirm(ctx context.Context, d *DB) (stuck bool, err error) {
	if now, err := d.moment(ctx); err != nil || now != s.last {
		s.last, s.still = now, time.Now()
		return false, nil //nolint:nilerr // it can't be told while the application commits
	}
	if time.Since(s.still) < zeroPatience {
		return false, nil
	}
	busy, err := d.checkpointing(ctx)
	switch {
	case err != nil:
		return false, err
	case !busy:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
	}
	return busy && time.Since(s.since) > asidePatience, nil
}

// checkpointing tells whether a checkpoint of the application's is under way. If
// not, the WAL may be checkpointed as far as the pin allows.
func (d *DB) checkpointing(ctx context.Context) (bool, error) {
	_, done, err := d.checkpoint(ctx)
	return done < 0, err
}

// passAndHold gives the pin up until no checkpoint is under way, for a while at
// most. It tells whether the WAL was still as it had been when it was pinned
// again: then the pin was as good as held.
func (d *DB) passAndHold(ctx context.Context) (held bool, err error) {
	before, berr := d.index()
	wasFrames, wasCopied, werr := d.walIndex(ctx, freePatience)
	d.gaps++
	d.unpin(ctx)
	for until := time.Now().Add(maxAside); time.Now().Before(until); {
		if err := sleep(ctx, yieldPause); err != nil {
			break
		}
		if busy, err := d.checkpointing(ctx); err == nil && !busy {
			break
		}
	}
	if err := d.pin(context.WithoutCancel(ctx)); err != nil {
		return false, err
	}
	after, aerr := d.index()
	frames, copied, nerr := d.walIndex(context.WithoutCancel(ctx), freePatience)
	// If the checkpoint has copied the rest of the WAL, the new pin may be in slot 0:
	// then the next writer restarts the WAL over what nobody has read.
	same := berr == nil && aerr == nil && werr == nil && nerr == nil && after == before
	held = same && (wasFrames == wasCopied || copied < frames)
	if held {
		d.gaps--
	}
	return held, nil
}

// AwaitHeld waits, while the database is pinned and nobody reads the WAL, and lets
// checkpoints of the application's pass. It tells whether the pin was held all
// the time. The database file stays as it is unless such a checkpoint waits.
func (d *DB) AwaitHeld(ctx context.Context, wait time.Duration) (held bool, err error) {
	held = true
	var s suspicion
	for until := time.Now().Add(wait); time.Now().Before(until); {
		if err := sleep(ctx, min(yieldPoll, time.Until(until))); err != nil {
			return held, err
		}
		stuck, err := d.stuckBehind(ctx, &s)
		if err != nil || !stuck {
			continue // what is wrong with the database shows when it is read
		}
		passed, err := d.passAndHold(ctx)
		s = suspicion{}
		if held = held && passed; err != nil {
			return held, err
		}
	}
	return held, nil
}

// stuckBehind tells whether a suspicion is confirmed now. It has the write lock for
// a moment, and not even that while the application commits.
func (d *DB) stuckBehind(ctx context.Context, s *suspicion) (bool, error) {
	if now, err := d.moment(ctx); err != nil || now != s.last {
		*s = suspicion{last: now, still: time.Now()}
		return false, err
	}
	err := d.lock(ctx, 0)
	if err == nil {
		*s = suspicion{last: s.last, still: time.Now()}
		return false, d.unlock(ctx)
	}
	if !errors.Is(err, ErrBusy) {
		return false, err
	}
	return s.confirm(ctx, d)
}

// moment is how far a WAL has come.
type moment struct {
	salts          wal.Salts
	frames, copied uint32
}

func (d *DB) moment(ctx context.Context) (moment, error) {
	var h wal.Header
	if d.wal != nil { // else it is not attached to yet
		var err error
		h, err = wal.ReadHeader(d.wal)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, wal.ErrHeader) {
			return moment{}, err
		}
	}
	frames, copied, err := d.walIndex(ctx, freePatience)
	return moment{h.Salts, frames, copied}, err
}

// checkpointedUntil tells whether there must have been a checkpoint since: the
// file has more of the WAL, or the WAL has restarted.
func (m moment) checkpointedUntil(now moment) bool {
	return now.copied != m.copied || now.salts != m.salts || now.frames < m.frames
}
