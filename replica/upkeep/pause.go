package upkeep

import (
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark/storage"
)

const (
	// firstPause and longestPause bound the pauses after failures.
	firstPause, longestPause = 15 * time.Second, time.Hour
	// deniedPause is how long what was refused is not asked for again.
	deniedPause = 24 * time.Hour
)

// pause is how long a task rests after it failed.
type pause struct {
	// until is when it is tried again, zero if it has not failed. What was denied
	// is not tried before something is put after that: nothing happens by itself
	// that would allow it, and a database at rest makes no request.
	until  time.Time
	denied bool
	policy *backoff.ExponentialBackOff
	// told tells that a denial was logged.
	told bool
}

// left is how long the pause still is; forever says that it has no end by itself.
func (p *pause) left(now time.Time) (d time.Duration, forever bool) {
	if p.until.IsZero() {
		return 0, false
	}
	return p.until.Sub(now), p.denied
}

// wake ends a pause that has no end by itself, if it was long enough.
func (p *pause) wake(now time.Time) {
	p.denied = p.denied && now.Before(p.until)
}

// fail begins a pause, or a longer one.
func (p *pause) fail(now time.Time) time.Duration {
	if p.policy == nil {
		p.policy = backoff.NewExponentialBackOff()
		p.policy.InitialInterval, p.policy.MaxInterval = firstPause, longestPause
	}
	wait := p.policy.NextBackOff()
	p.until = now.Add(wait)
	return wait
}

// done takes note of how a task ended.
func (k *Keeper) done(t task, err error) {
	now := k.opts.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	p := &k.rest[t]
	switch {
	case err == nil:
		*p = pause{told: p.told}
	case errors.Is(err, storage.ErrDenied):
		p.until, p.denied = now.Add(deniedPause), true
		if !p.told {
			k.log.Warn(t.what()+" is refused; nothing of the history is lost, but the archive grows", slog.Any("err", err))
		}
		p.told = true
	default:
		k.log.Warn(t.what()+" failed; it is tried again", slog.Any("err", err), slog.Duration("in", p.fail(now)))
	}
}

// what names a task to a person.
func (t task) what() string {
	return [tasks]string{"joining segments", "deleting segments that have been joined", "pruning"}[t]
}

// waited is how much time has passed for sure: by the clock that goes on while the
// machine sleeps, and by the one that nobody sets, whichever says less.
func waited(since, now time.Time) time.Duration {
	return min(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}
