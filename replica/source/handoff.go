package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"tidemark/wal"
)

const (
	// fewLeft is how many frames are not worth another copy beside the writers, and
	// maxCopies how many copies there are at most.
	fewLeft   = 200
	maxCopies = 3
	// maxUnderLock is how many frames a hand-off may leave to be checkpointed
	// under the write lock: a thousand take some 5 ms. With more it gives the lock
	// back and goes round again. Of a longer WAL it may be one frame in underShare, up to
	// mostUnderLock: where a checkpoint takes long, much is written during the next
	// one, too.
	maxUnderLock  = 1000
	underShare    = 3
	mostUnderLock = 16_000
	// maxRounds and handOffPatience bound how often and for how long a hand-off goes
	// round.
	maxRounds       = 4
	handOffPatience = 5 * time.Second
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
	// Behind tells that the writers were faster than all that was to be done: try
	// again at once.
	Behind bool
	// Why tells a person what kept it from being complete.
	Why string
	// Locked is how long the write lock was held, the longest time if there were
	// several.
	Locked time.Duration
}

// Drainer reads the WAL on behalf of a hand-off.
type Drainer interface {
	// Read reads every commit that the WAL holds, or as many as it can in
	// some 20 ms, which is longer than farBehind, and tells how many.
	Read() (commits int, err error)
	// Tend does what is due besides, between two readings of a hand-off that takes long.
	Tend() error
	// Keep reads every commit that the WAL holds when it is called, and makes
	// sure that a killed process loses none of them. Writers may go on beside
	// it. frames is the number of frames read of the newest generation, which
	// must be the one with these salts, if they are not zero. After an error the
	// hand-off is given up.
	Keep(only wal.Salts) (frames uint32, err error)
	// Secure is Keep under the write lock: nothing can come after what it has
	// read. It reads for a tenth of a second at most; ErrBehind says that there is
	// more. ErrBusy has it called again, after a read without the lock.
	Secure() (frames uint32, err error)
}

// HandOff lets the WAL restart without a gap: it checkpoints, exchanges the
// pin, and has everything that was written until then read and secured in
// between, under the write lock. Writers that are faster than the reader are slowed
// down for it. It ends after a few seconds at most. After ErrBusy nothing was missed,
// and it is to be tried again later.
func (d *DB) HandOff(ctx context.Context, drain Drainer) (HandOffResult, error) {
	var res HandOffResult
	if err := d.untouched(ctx); err != nil {
		return res, err
	}
	for n, until := 0, time.Now().Add(handOffPatience); n < maxRounds && time.Now().Before(until); n++ {
		again, err := d.handOffRound(ctx, drain, until, &res)
		if err != nil || !again {
			return res, err
		}
	}
	return res, nil
}

// handOffRound goes round once, and asks for another round if too much was written
// meanwhile.
func (d *DB) handOffRound(ctx context.Context, drain Drainer, until time.Time, res *HandOffResult) (again bool, err error) {
	res.Behind, res.Why = false, ""
	c, there, err := d.copyAhead(ctx, drain, until, res)
	if err != nil || !there {
		return false, err
	}
	if there, err := d.approach(ctx, drain, until, res); err != nil || !there {
		return false, err
	}
	if locked, err := d.lockReading(ctx, drain); err != nil || !locked {
		res.Why = "the write lock was not free for long enough"
		return false, err
	}
	err = d.locked(ctx, res, func() error {
		again, err = d.handOffLocked(ctx, c, drain, res)
		return err
	})
	if again = again || errors.Is(err, ErrBehind) || errors.Is(err, ErrBusy); !again {
		return false, err
	}
	if res.Behind = c.done < 0 || c.could-c.done <= maxUnderLock; res.Behind {
		res.Why = "the application wrote faster than the WAL was checkpointed"
	} else {
		res.Why = heldBack(c.could, c.done)
	}
	return true, nil
}

// copied tells how much of a generation of the WAL is in the database file.
type copied struct {
	salts wal.Salts
	// could is how many frames the file could have if nobody read an older state, done
	// how many it has, -1 if somebody else is checkpointing.
	could, done int
}

// copyAhead has the database file hold as much of the WAL as can be without the write
// lock: what is written during one copy is left to the next, which is shorter. Or it
// tells that the reader is too far from the WAL's end.
//
// It is made to survive a power cut here, since else the checkpoint under the lock would
// have to: one that leaves something uncopied does not sync the file.
func (d *DB) copyAhead(ctx context.Context, drain Drainer, until time.Time, res *HandOffResult) (c copied, there bool, err error) {
	hurry := false
	for n, before := 1, math.MaxInt; ; n++ {
		// What is read here must be little, since writers are not slowed down for it.
		if there, err = d.approach(ctx, drain, until, res); err != nil || !there {
			return c, false, err
		}
		if c, err = d.advance(ctx, drain); err != nil || hurry {
			return c, true, err
		}
		synced, err := d.syncBeside(ctx, drain, until)
		if err != nil {
			return c, false, err
		}
		left := d.length(ctx) - c.done
		if synced && (n == maxCopies || left <= fewLeft || left > before/2) {
			return c, true, nil
		}
		before, hurry = left, !synced
	}
}

// Advance moves the pin to the WAL's end, and copies everything before it into the
// database file, blocking nobody. The WAL does not restart by this. But as long as the
// file lacks what it may have, each commit of an application that checkpoints by itself
// looks through the whole WAL for what it could copy, in vain. Its errors are those of
// HandOff.
func (d *DB) Advance(ctx context.Context, drain Drainer) error {
	if err := d.untouched(ctx); err != nil {
		return err
	}
	_, err := d.advance(ctx, drain)
	return err
}

func (d *DB) advance(ctx context.Context, drain Drainer) (c copied, err error) {
	// These come first: if the WAL restarts before the checkpoint, it shows.
	if h, err := wal.ReadHeader(d.wal); err == nil {
		c.salts = h.Salts
	}
	frames, before, err := d.walIndex(ctx, freePatience)
	if err != nil {
		return c, err
	}
	defer d.unclaim()
	// The new pin marks the WAL's end, up to which a checkpoint may then copy: ours, not
	// the one that the application tries after its next commit, which would wait for it.
	if err := d.exchangeThen(ctx, drain, d.claim); err != nil {
		return c, err
	}
	d.slot0 = frames == before
	c.could = int(frames)
	if c.done, err = d.checkpointYielding(ctx, drain); err != nil {
		return c, err
	}
	d.note(ctx)
	return c, nil
}

// locked does something under the write lock, which it then gives back.
func (d *DB) locked(ctx context.Context, res *HandOffResult, do func() error) error {
	start := time.Now()
	err := do()
	err = errors.Join(err, d.unlock(ctx))
	res.Locked = max(res.Locked, time.Since(start))
	return err
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

// ignoreBusy takes ErrBusy away.
func ignoreBusy(err error) error {
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// handOffLocked is the part under the write lock. It leaves the pin as it is and asks
// for another round if too many frames were written since what was copied.
func (d *DB) handOffLocked(ctx context.Context, c copied, drain Drainer, res *HandOffResult) (again bool, err error) {
	frames, err := secure(drain, lastSlices)
	if err != nil {
		return false, err
	}
	if h, err := wal.ReadHeader(d.wal); err != nil || h.Salts != c.salts {
		c.done = 0 // next to a pin in slot 0 the WAL has restarted
	}
	if int(frames)-c.done > min(max(maxUnderLock, int(frames)/underShare), mostUnderLock) {
		return true, nil
	}
	// Without a pin nothing can happen to the WAL either: to restart or to
	// truncate it takes the write lock, which is ours.
	d.claim()
	defer d.unclaim()
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
		res.Why = heldBack(total, done)
	}
	return false, err
}

// heldBack tells a person why of so many frames only some are in the database file.
func heldBack(frames, done int) string {
	return fmt.Sprintf("a reader needs the WAL from frame %d of %d on", done, frames)
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
