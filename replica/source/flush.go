package source

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// flushLook is how often the WAL is read while the database file is synced.
	flushLook = 2 * time.Millisecond
	// longWAL is how many frames a WAL may have before the writers have to wait for the
	// database file to be synced.
	longWAL = 16_000
)

// flush is a sync of the database file, which goes on beside everything else.
type flush struct {
	done chan struct{}
	err  error // once done is closed
}

func startFlush(f *os.File) *flush {
	s := &flush{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = f.Sync()
	}()
	return s
}

// syncBeside syncs the database file and reads the WAL meanwhile. If that gets long, or it
// takes too long, it tells so at once: the rest is then waited for by the checkpoint
// under the write lock, since writers that never wait for the disk can outrun it.
func (d *DB) syncBeside(ctx context.Context, drain Drainer, until time.Time) (synced bool, err error) {
	for fresh := false; time.Now().Before(until); {
		if d.flushing == nil {
			fresh, d.flushing = true, startFlush(d.file)
		}
		select {
		case <-d.flushing.done:
			err := d.flushing.err
			d.flushing = nil
			if err != nil {
				return false, fmt.Errorf("sync %s: %w", d.path, err)
			}
			if fresh {
				return true, nil
			}
		case <-time.After(flushLook):
			if err := d.waiting(ctx, drain); err != nil || d.length(ctx) >= longWAL {
				return false, err
			}
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}

// waiting does what has to be done while something is waited for: the WAL is read, and
// when nothing is committed it may be for a checkpoint of the application's that waits
// for the pin.
func (d *DB) waiting(ctx context.Context, drain Drainer) error {
	n, err := drain.Read()
	if err == nil {
		err = drain.Tend()
	}
	if err == nil && n == 0 {
		_, err = d.Yield(ctx, drain)
	}
	return err
}

// endFlush waits for a sync that is under way.
func (d *DB) endFlush() {
	if d.flushing != nil {
		<-d.flushing.done
		d.flushing = nil
	}
}
