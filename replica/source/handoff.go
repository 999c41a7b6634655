package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/wal"
)

// maxUnderLock is how many frames a hand-off may leave to be checkpointed under
// the write lock. With more it gives the lock back and goes round again. Next to
// a writer of 45 frames a millisecond, 300 were never few enough, since the
// checkpoint's fsync alone takes longer; with 2,000 the lock was held for 30 ms at
// worst.
const maxUnderLock = 2000

// maxRounds bounds how often it goes round, and maxBehind how often it takes the
// lock in a round.
const (
	maxRounds = 4
	maxBehind = 1000
)

// ErrBehind says that more is to be read than should be under the write lock.
var ErrBehind = errors.New("the reader is behind")

// HandOffResult tells how a hand-off went. Whatever it says, the WAL is pinned
// and nothing was missed.
type HandOffResult struct {
	// Complete tells that the whole WAL is in the database file: the next
	// writer restarts it. If not, a reader held the checkpoint back, or the
	// write lock was not to be had; try again later.
	Complete bool
	// Why tells a person what kept it from being complete.
	Why string
	// Locked is how long the write lock was held.
	Locked time.Duration
}

// Drainer reads the WAL on behalf of a hand-off.
type Drainer interface {
	// Read reads every commit that the WAL holds, or at least some, and tells
	// how many.
	Read() (commits int, err error)
	// Keep reads every commit that the WAL holds when it is called, and makes
	// sure that a killed process loses none of them. Writers may go on beside
	// it. frames is the number of frames read of the newest generation, which
	// must be the one with these salts, if they are not zero. After an error the
	// hand-off is given up.
	Keep(only wal.Salts) (frames uint32, err error)
	// Secure is Keep under the write lock: nothing can come after what it has
	// read. It reads a bounded amount; ErrBehind says that there is more. ErrBusy
	// has it called again, after a read without the lock.
	Secure() (frames uint32, err error)
}

// HandOff lets the WAL restart without a gap: it checkpoints, exchanges the
// pin, and has everything that was written until then read and secured in
// between, under the write lock. After ErrBusy nothing was missed, and it is to be
// tried again later.
func (d *DB) HandOff(ctx context.Context, drain Drainer) (HandOffResult, error) {
	var res HandOffResult
	if err := d.untouched(ctx); err != nil {
		return res, err
	}
	for range maxRounds {
		// The new pin marks the WAL's end, up to which a checkpoint may then
		// copy.
		if err := d.exchange(ctx, drain); err != nil {
			return res, err
		}
		done, err := d.checkpointYielding(ctx, drain)
		if err != nil {
			return res, err
		}
		d.note(ctx)
		if locked, err := d.lockReading(ctx, drain); err != nil || !locked {
			res.Why = "the write lock was not free for long enough"
			return res, err
		}
		again, err := d.catchUp(ctx, done, drain, &res)
		if err != nil || !again {
			return res, err
		}
	}
	res.Why = "the application wrote faster than the WAL was checkpointed"
	return res, nil
}

// checkpointYielding checkpoints, and waits and yields while the application is
// at it itself.
func (d *DB) checkpointYielding(ctx context.Context, drain Drainer) (done int, err error) {
	for deadline := time.Now().Add(freePatience); ; {
		_, done, err = d.checkpoint(ctx)
		if err != nil || done >= 0 || time.Now().After(deadline) {
			return done, err
		}
		if err := d.letPass(ctx, drain); err != nil {
			return 0, err
		}
		if err := sleep(ctx, yieldPause); err != nil {
			return 0, err
		}
	}
}

// lockReading takes the write lock, and reads the WAL before every few attempts:
// so commits are seen in time, and little is left to read under the lock. If
// there are none, the lock may be taken by a checkpoint that waits for the pin.
// Then the attempts become few, since each one reads for a moment, which such a
// checkpoint has to wait for, too.
func (d *DB) lockReading(ctx context.Context, drain Drainer) (locked bool, err error) {
	start := time.Now()
	for wait := time.Duration(0); time.Since(start) < lockPatience; wait = min(wait+pause, lockTurn) {
		began := time.Now()
		n, err := drain.Read()
		// A reader that is far behind must not leave the attempts next to no time.
		turn := min(max(lockTurn, time.Since(began)), lockPatience/4)
		if err == nil && n == 0 && wait > 0 {
			turn, wait = 0, lockTurn
			_, err = d.Yield(ctx, drain)
		}
		if err != nil {
			return false, err
		}
		if err := sleep(ctx, wait); err != nil { // a transaction that stays open
			return false, err
		}
		err = d.lock(ctx, turn)
		if err == nil || !errors.Is(err, ErrBusy) {
			return err == nil, err
		}
	}
	return false, nil
}

// catchUp does the part under the write lock. While there is much to be read, it
// gives the lock back in between for a moment: a writer that is faster than the
// reader is slowed down so far that the reader comes to the WAL's end.
func (d *DB) catchUp(ctx context.Context, done int, drain Drainer, res *HandOffResult) (again bool, err error) {
	for range maxBehind {
		start := time.Now()
		again, err = d.handOffLocked(ctx, done, drain, res)
		err = errors.Join(err, d.unlock(ctx))
		res.Locked = max(res.Locked, time.Since(start))
		if !errors.Is(err, ErrBehind) {
			return again, err
		}
		if err := d.lock(ctx, lockPatience); err != nil {
			return errors.Is(err, ErrBusy), ignoreBusy(err)
		}
	}
	return true, d.unlock(ctx)
}

// ignoreBusy takes ErrBusy away.
func ignoreBusy(err error) error {
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// handOffLocked is the part under the write lock. done is the number of frames
// that were in the database file before it. It leaves the pin as it is and asks
// for another round if too many were written since.
func (d *DB) handOffLocked(ctx context.Context, done int, drain Drainer, res *HandOffResult) (again bool, err error) {
	frames, err := drain.Secure()
	if errors.Is(err, ErrBusy) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if int(frames)-done > maxUnderLock {
		return true, nil
	}
	// Without a pin nothing can happen to the WAL either: to restart or to
	// truncate it takes the write lock, which is ours.
	d.unpin(ctx)
	total, done, err := d.checkpointPatiently(ctx)
	// Nothing, the end of ctx included, may leave the WAL without a pin.
	if pinErr := d.pin(context.WithoutCancel(ctx)); pinErr != nil {
		return false, errors.Join(err, fmt.Errorf("%w: %v", ErrAside, pinErr)) //nolint:errorlint // ErrBusy passes, this does not
	}
	res.Complete = err == nil && total == done
	d.slot0 = res.Complete
	d.note(context.WithoutCancel(ctx))
	switch {
	case res.Complete:
	case done < 0:
		res.Why = "the application was checkpointing"
	default:
		res.Why = fmt.Sprintf("a reader needs the WAL from frame %d of %d on", done, total)
	}
	return false, err
}

// checkpointPatiently checkpoints under the write lock. The application can be at
// it itself, after a commit, and the two exclude each other.
func (d *DB) checkpointPatiently(ctx context.Context) (frames, done int, err error) {
	deadline := time.Now().Add(lockedPatience)
	for {
		frames, done, err = d.checkpoint(ctx)
		if err != nil || done >= 0 || time.Now().After(deadline) {
			return frames, done, err
		}
		if err := sleep(ctx, pause); err != nil {
			return 0, 0, err
		}
	}
}
