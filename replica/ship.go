package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark/replica/archive"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
)

// sealed is a segment in the spool.
type sealed struct {
	first, last state.TXID
	commits     uint64
	path        string
}

// shipper uploads sealed segments in order, one at a time: a later one must
// never be in the archive without those before it.
type shipper struct {
	arch *archive.Archive
	dir  *local.Dir
	log  *slog.Logger
	// once gives up at the first error, instead of trying again for ever.
	once bool

	mu     sync.Mutex // guards what follows
	queue  []sealed
	closed bool
	busy   bool
	rep    Report

	// wake has room for one, and says that there is something to look at; idle
	// that nothing is left to upload.
	wake, idle chan struct{}
}

func newShipper(arch *archive.Archive, dir *local.Dir, log *slog.Logger) *shipper {
	return &shipper{arch: arch, dir: dir, log: log, wake: make(chan struct{}, 1), idle: make(chan struct{}, 1)}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add queues a segment.
func (s *shipper) add(seg sealed) {
	s.mu.Lock()
	s.queue = append(s.queue, seg)
	s.mu.Unlock()
	poke(s.wake)
}

// close makes run return when the queue is empty.
func (s *shipper) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	poke(s.wake)
}

// isIdle tells whether nothing is queued or on its way.
func (s *shipper) isIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.busy && len(s.queue) == 0
}

func (s *shipper) report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rep
}

// count adds to the report.
func (s *shipper) count(last state.TXID, commits uint64, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rep.TXID = last
	s.rep.Commits += commits
	s.rep.UploadedBytes += bytes
}

// take gives the next segment; ok is false at the end.
func (s *shipper) take(ctx context.Context) (seg sealed, ok bool, err error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			seg, s.queue, s.busy = s.queue[0], s.queue[1:], true
			s.mu.Unlock()
			return seg, true, nil
		}
		closed := s.closed
		s.busy = false
		s.mu.Unlock()
		if closed {
			return sealed{}, false, nil
		}
		poke(s.idle)
		select {
		case <-s.wake:
		case <-ctx.Done():
			return sealed{}, false, context.Cause(ctx)
		}
	}
}

// run uploads until close and the end of the queue. When ctx ends before, what
// is left stays in the spool.
func (s *shipper) run(ctx context.Context) error {
	for {
		seg, ok, err := s.take(ctx)
		if err != nil || !ok {
			return err
		}
		if err := s.upload(ctx, seg); err != nil {
			return err
		}
	}
}

// upload puts one segment, again and again unless that is pointless.
func (s *shipper) upload(ctx context.Context, seg sealed) error {
	policy := backoff.NewExponentialBackOff()
	policy.MaxInterval = 30 * time.Second
	size, err := backoff.Retry(ctx, func() (int64, error) {
		size, err := s.arch.PutSegment(ctx, seg.first, seg.path)
		if err != nil && (s.once || errors.Is(err, archive.ErrFenced) || errors.Is(err, os.ErrNotExist)) {
			err = backoff.Permanent(err)
		}
		return size, err
	}, backoff.WithBackOff(policy), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, d time.Duration) {
		s.log.Warn("upload failed, trying again", slog.Any("err", err), slog.Duration("in", d))
	}))
	if ctx.Err() != nil && err != nil && !errors.Is(err, archive.ErrFenced) {
		return fmt.Errorf("stopped before TXID %v to %v were uploaded; they wait in %s for the next start: %w",
			seg.first, seg.last, seg.path, err)
	}
	if err != nil {
		return err
	}
	s.count(seg.last, seg.commits, size)
	s.log.Debug("shipped", slog.Uint64("first", uint64(seg.first)), slog.Uint64("last", uint64(seg.last)), slog.Int64("bytes", size))
	err = s.dir.SaveShipped(local.Shipped{Replica: s.arch.Meta().Replica, First: seg.first, Last: seg.last})
	if err = errors.Join(err, os.Remove(seg.path)); err != nil {
		return fmt.Errorf("after upload: %w", err)
	}
	return nil
}
