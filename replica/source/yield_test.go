package source_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/replica/source"
)

// An application's own checkpoints pass, next to its busy writer, without using
// up their busy timeout, and nothing is missed.
func TestYield(t *testing.T) {
	t.Parallel()
	const checkpoints, timeout = 20, 20 * time.Second
	for _, mode := range []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"} {
		for _, writing := range []bool{true, false} {
			name := mode + " beside a writer"
			if !writing {
				name = mode + " of an idle database"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				path, first := database(t)
				first.insert(10)
				d := open(t, path)
				f := follow(t, d, attach(t, d))
				app := connectWith(t, path, "_pragma=busy_timeout(60000)&_pragma=synchronous(0)&_pragma=wal_autocheckpoint(0)")
				w := &writer{}
				if writing {
					w = write(t, app.DB)
				}
				other := connectWith(t, path, "_pragma=busy_timeout(20000)&_pragma=wal_autocheckpoint(0)")
				passed := make(chan time.Duration, checkpoints)
				var wg sync.WaitGroup
				var refused atomic.Int64
				wg.Go(func() {
					defer close(passed)
					for range checkpoints {
						if !writing {
							app.insert(3) // a reader can have the write lock for a moment, to read the wal-index
						}
						start := time.Now()
						for other.busy(mode) && t.Context().Err() == nil {
							refused.Add(1) // tidemark is at it itself
						}
						passed <- time.Since(start)
					}
				})
				t.Cleanup(wg.Wait) // the test's context has ended then: a checkpoint that waits for the pin, too
				var slowest time.Duration
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for done := false; !done; {
					n, err := f.Read()
					if err == nil && n == 0 {
						_, err = d.Yield(t.Context(), f)
					}
					if errors.Is(err, source.ErrBusy) {
						err = nil // not now
					}
					if err != nil {
						t.Fatal(err)
					}
					select {
					case took, ok := <-passed:
						slowest, done = max(slowest, took), !ok
					case <-tick.C:
					}
				}
				commits := 3 * checkpoints
				if writing {
					var err error
					if commits, err = w.end(); err != nil {
						t.Fatal("the application failed: ", err)
					}
				}
				f.mustRead(commits)
				if digestOf(t, f.copy) != app.digest() {
					t.Error("the copy is not the database")
				}
				t.Logf(name+": the slowest of %d checkpoints took %v, %d attempts found another one at work", checkpoints, slowest, refused.Load())
				if slowest >= timeout {
					t.Error("a checkpoint used up its busy timeout")
				}
			})
		}
	}
}

// busy runs a checkpoint and tells whether another one was at work, which SQLite
// does not wait for.
func (c *conn) busy(mode string) bool {
	var busy, frames, copied int
	if err := c.QueryRowContext(c.t.Context(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &frames, &copied); err != nil {
		c.t.Errorf("checkpoint: %v", err)
		return false
	}
	return busy != 0
}
