package upkeep

import (
	"context"
	"sync"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// Runner lets a Keeper work when there is something to do: in a goroutine that ends
// when nothing is due, and by a timer while something will be. An archive to which
// nothing is put has neither, once what was left is done. It is safe for concurrent
// use.
type Runner struct {
	keeper *Keeper
	wait   sync.WaitGroup
	ctx    context.Context //nolint:containedctx // its goroutine's
	cancel context.CancelFunc

	mu sync.Mutex // guards what follows
	// working is closed when the goroutine has ended; nil without one.
	working chan struct{}
	timer   *time.Timer
	stopped bool
}

// Run begins to look after an archive.
func Run(k *Keeper) *Runner {
	r := &Runner{keeper: k}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wake()
	return r
}

// Put is [Keeper.Put].
func (r *Runner) Put(s archive.Segment, last state.TXID, path string) error {
	err := r.keeper.Put(s, last, path)
	r.wake()
	return err
}

// PutSnapshot is [Keeper.PutSnapshot].
func (r *Runner) PutSnapshot(s archive.Snapshot, at time.Time) {
	r.keeper.PutSnapshot(s, at)
	r.wake()
}

// FreeDisk gives up the local copies of objects, since the disk is full.
func (r *Runner) FreeDisk() { r.keeper.opts.Cache.Clear() }

// wake begins to work if something is due, and nobody does.
func (r *Runner) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working != nil || !r.due() {
		return
	}
	done := make(chan struct{})
	r.working = done
	r.wait.Go(func() {
		defer close(done)
		for again := true; again; {
			r.keeper.Work(r.ctx)
			r.mu.Lock()
			if again = r.due(); !again {
				r.working = nil
			}
			r.mu.Unlock()
		}
	})
}

// due tells whether there is something to do now, and if not, sets the timer for
// when there is. The caller holds mu.
func (r *Runner) due() bool {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	next := r.keeper.Next()
	if r.stopped || next.IsZero() {
		return false
	}
	wait := next.Sub(r.keeper.opts.Now())
	if wait > 0 {
		r.timer = time.AfterFunc(wait, r.wake)
	}
	return wait <= 0
}

// Finish waits until nothing is due, or ctx has ended, and stops then.
func (r *Runner) Finish(ctx context.Context) {
	for {
		r.mu.Lock()
		working := r.working
		r.mu.Unlock()
		if working == nil {
			break
		}
		select {
		case <-working:
			continue
		case <-ctx.Done():
		}
		break
	}
	r.Stop()
}

// Stop ends it, what is under way, too. What was not done is found again by the
// next one.
func (r *Runner) Stop() {
	r.mu.Lock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	r.mu.Unlock()
	r.cancel()
	r.wait.Wait()
}
