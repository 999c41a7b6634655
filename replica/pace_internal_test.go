package replica

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// After a pause a piece may be read at once, then so many bytes a second, by all together.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, start := paceOf(2*resyncChunk), time.Now()
		for i := range 8 {
			if err := p.wait(t.Context(), resyncChunk, nil); err != nil {
				t.Fatal(err)
			}
			if want := time.Duration(i) * time.Second / 2; time.Since(start) != want {
				t.Errorf("piece %d may be read after %v, want %v", i, time.Since(start), want)
			}
		}
		if (pace{}).wait(t.Context(), 1<<40, nil) != nil || paceOf(0).limited() || !p.limited() {
			t.Error("no limit is one")
		}
	})
}

// Who is in a hurry does not wait, nor does who stops; and what they did not wait for is
// left to others.
func TestPaceHurry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, start := paceOf(1), time.Now()
		if err := p.wait(t.Context(), paceBurst, nil); err != nil {
			t.Fatal(err)
		}
		hurry := make(chan struct{})
		go func() {
			time.AfterFunc(time.Minute, func() { close(hurry) })
		}()
		if err := p.wait(t.Context(), resyncChunk, hurry); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := p.wait(t.Context(), resyncChunk, hurry); err != nil || time.Since(start) != time.Minute {
			t.Errorf("once more: %v after %v", err, time.Since(start))
		}
		ctx, stop := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(time.Minute, func() { stop(why) })
		if err := p.wait(ctx, resyncChunk, nil); !errors.Is(err, why) || time.Since(start) != 2*time.Minute {
			t.Errorf("stopped: %v after %v", err, time.Since(start))
		}
		if err := p.wait(t.Context(), 180, nil); err != nil || time.Since(start) != 3*time.Minute {
			t.Errorf("the next: %v after %v", err, time.Since(start))
		}
	})
}

// What a WAL has grown by goes on over a restart.
func TestGrowth(t *testing.T) {
	t.Parallel()
	g := growth{}
	for _, step := range [][2]uint32{{70, 0}, {75, 5}, {3, 3}, {9, 9}} {
		if got := g.since(step[0]); got != step[1] {
			t.Errorf("at frame %d it has grown by %d, want %d", step[0], got, step[1])
		}
	}
}
