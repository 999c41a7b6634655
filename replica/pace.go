package replica

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// pace holds the reading of databases back to so many bytes in a second, all those of
// a process together. The zero value does not. It is safe for concurrent use.
//
// What is held back are snapshots and comparisons of all pages, never what the
// application could come to wait for. While a snapshot is read, hand-offs go on beside it;
// while pages are compared they can't, and so the pace is given up as soon as one is due:
// see engine.pressed.
type pace struct{ limiter *rate.Limiter }

// paceBurst is how many bytes may be read at once after a pause: a piece.
const paceBurst = resyncChunk

func paceOf(perSecond int64) pace {
	if perSecond <= 0 {
		return pace{}
	}
	return pace{rate.NewLimiter(rate.Limit(perSecond), paceBurst)}
}

// limited tells whether there is anything to wait for.
func (p pace) limited() bool { return p.limiter != nil }

// wait waits until n bytes may be read, no more than resyncChunk, or until hurry is closed.
func (p pace) wait(ctx context.Context, n int, hurry <-chan struct{}) error {
	if p.limiter == nil {
		return nil
	}
	turn := p.limiter.ReserveN(time.Now(), n)
	delay := turn.Delay()
	if delay <= 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-hurry:
		turn.Cancel() // others need not wait for it
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return context.Cause(ctx)
	}
}

// pressed gives a channel that is closed as soon as somebody may come to wait for the pin
// that a comparison of pages keeps as it is: the WAL has grown until it should be handed
// off, a checkpoint of the application's waits, or the database has another replica, which
// hands it off, too. An error is as good a reason. end ends the looking, and waits for that.
func (e *engine) pressed(ctx context.Context) (hurry <-chan struct{}, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	pressed, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(yieldEvery)
		defer tick.Stop()
		for g := (growth{}); ; {
			var now bool
			err := e.db.with(func() (err error) { now, err = e.isPressed(ctx, &g); return err })
			if ctx.Err() != nil {
				return
			}
			if now || err != nil {
				close(pressed)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return pressed, func() { cancel(); <-ended }
}

func (e *engine) isPressed(ctx context.Context, g *growth) (bool, error) {
	if len(e.db.seats) > 1 {
		return true, nil
	}
	frames, err := e.db.Published(ctx)
	if err != nil || g.since(frames) >= uint32(e.opts.CheckpointPages) {
		return true, err
	}
	return e.db.CheckpointWaits(ctx)
}

// growth is by how many frames a WAL has grown since it was looked at first, over one
// restart.
type growth struct {
	begun      bool
	from, last uint32
}

func (g *growth) since(frames uint32) uint32 {
	if !g.begun {
		g.begun, g.from = true, frames
	}
	if frames < g.last {
		g.from = 0
	}
	g.last = frames
	return frames - g.from
}
