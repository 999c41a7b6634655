package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal/segment"
)

// sealed is a segment in the spool.
type sealed struct {
	first, last state.TXID
	commits     uint64
	// began and ended are the times of its first and last commit.
	began, ended time.Time
	sum          uint64 // of the trailer
	size         int64
	path         string
}

func sealedOf(h segment.Header, t segment.Trailer, path string, size int64) sealed {
	return sealed{
		first: h.First, last: t.Last, commits: t.Commits, began: h.Time, ended: t.Time, sum: t.Sum(), size: size, path: path,
	}
}

// shipper uploads sealed segments in order, one at a time: a later one must
// never be in the archive without those before it. It tries again until it is
// stopped, unless that is pointless, and lives as long as what it is given
// follows what it has uploaded.
type shipper struct {
	opts   Options
	dir    *local.Dir
	log    *slog.Logger
	report *tally
	status *tracker
	// once gives up at the first error, instead of trying again for ever.
	once bool

	ctx     context.Context //nolint:containedctx // its goroutine's
	cancel  context.CancelFunc
	started bool
	// over and done tell that it has ended, with err as the reason.
	over context.Context //nolint:containedctx // for context.AfterFunc
	end  context.CancelFunc
	done <-chan struct{}
	err  error

	// arch and shipped are used by its goroutine until done; unread tells that
	// the archive could not be read, and is to be checked before it is added to.
	arch    *archive.Archive
	bucket  storage.Bucket
	unread  bool
	shipped local.Shipped
	// heard is how old the proof is that nobody else has added to the archive.
	heard time.Time

	mu     sync.Mutex // guards what follows
	queue  []sealed   // the first is the one on its way, if busy
	closed bool
	busy   bool
	// failing tells that the last attempt of an upload has failed.
	failing bool
	// upkeep looks after the archive; nil before start, and while that could not
	// be read.
	upkeep *upkeep.Runner

	// wake has room for one, and says that there is something to look at; idle
	// that nothing is left to upload.
	wake, idle chan struct{}
}

// newShipper makes one that uploads what follows shipped. It does nothing before
// start.
func (r *replicator) newShipper(arch *archive.Archive, shipped local.Shipped) *shipper {
	ctx, cancel := context.WithCancel(context.Background())
	over, end := context.WithCancel(context.Background())
	r.status.spooled(backlog{})
	return &shipper{
		ctx: ctx, cancel: cancel, opts: r.opts, dir: r.dir, log: r.log, report: &r.report, status: r.status, once: r.once, over: over, end: end, done: over.Done(),
		arch: arch, bucket: r.opts.Bucket, shipped: shipped, heard: r.listed,
		wake: make(chan struct{}, 1), idle: make(chan struct{}, 1),
	}
}

// start begins to upload.
func (s *shipper) start() {
	s.report.add(s.shipped.Newest.Last, 0, 0)
	s.status.begins(s.shipped.Newest.Last)
	s.started = true
	if !s.unread {
		s.tend()
	}
	go func() {
		defer s.end()
		s.err = s.run(s.ctx)
	}()
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
	s.status.spooled(s.backlog())
	s.mu.Unlock()
	poke(s.wake)
}

// close makes it end when the queue is empty.
func (s *shipper) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	poke(s.wake)
}

// stop ends it at once. What is queued stays in the spool.
func (s *shipper) stop() {
	s.cancel()
	if s.started {
		<-s.done
	}
}

// drop ends it after the upload that is under way, and at once if that fails or
// ctx ends.
func (s *shipper) drop(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.queue = s.queue[:min(len(s.queue), 1)]
	s.once = true
	if s.failing || !s.busy {
		s.cancel()
	}
	s.mu.Unlock()
	poke(s.wake)
	select {
	case <-s.done:
	case <-ctx.Done():
		s.stop()
	}
}

// isIdle tells whether nothing is queued or on its way.
func (s *shipper) isIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0
}

// isFailing tells whether uploads fail now.
func (s *shipper) isFailing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// waiting is how many bytes wait for their upload: not the segment that is on
// its way, unless that fails.
func (s *shipper) waiting() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, seg := range s.queue {
		if i > 0 || s.failing {
			n += seg.size
		}
	}
	return n
}

// has tells that storage has all up to a commit, before it begins.
func (s *shipper) has(last StatusCommit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.ships(last, s.backlog())
}

// backlog is what is queued, with what is on its way. The caller holds mu.
func (s *shipper) backlog() (b backlog) {
	for _, seg := range s.queue {
		b.bytes += seg.size
	}
	if len(s.queue) > 0 {
		b.oldest = s.queue[0].began
	}
	return b
}

// take gives the next segment; ok is false at the end.
func (s *shipper) take(ctx context.Context) (seg sealed, ok bool, err error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			seg, s.busy = s.queue[0], true
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
		if err != nil {
			return err
		}
		if !ok {
			return s.rest()
		}
		if err := s.upload(ctx, seg); err != nil {
			return err
		}
		s.mu.Lock()
		s.queue, s.busy = s.queue[1:], false
		s.status.ships(StatusCommit{TXID: seg.last, Time: seg.ended}, s.backlog())
		s.mu.Unlock()
		s.status.flush()
	}
}

// rest notes that nothing is on its way, which the next start then need not find
// out.
func (s *shipper) rest() error {
	if s.shipped.Next == (local.Object{}) {
		return nil
	}
	s.shipped.Next = local.Object{}
	return s.dir.SaveShipped(s.shipped)
}

// upload puts one segment, again and again unless that is pointless.
func (s *shipper) upload(ctx context.Context, seg sealed) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := s.attempt(ctx, seg)
		s.mu.Lock()
		s.failing = err != nil
		giveUp := s.once
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.status.refuses(err)
		}
		if err != nil && (giveUp || permanent(err) || isAny(err, os.ErrNotExist, errMoved)) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(s.opts.backoff()), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, d time.Duration) {
		s.log.Warn("upload failed, trying again", slog.Any("err", err), slog.Duration("in", d))
		s.freeDisk(err)
		s.keep(seg)
	}))
	if ctx.Err() != nil && err != nil && !errors.Is(err, archive.ErrFenced) {
		return fmt.Errorf("stopped before TXID %v to %v were uploaded; they wait in %s for the next start: %w",
			seg.first, seg.last, seg.path, err)
	}
	return err
}

// attempt puts a segment, after writing down that it does, and removes it.
//
// At every step the note, the spool and the archive tell together what there is.
// The note names the segment before the archive can hold it, durably; without it
// there is no upload, and on a full disk it needs no room. From then on the archive
// tells whether it has arrived, and only when it has, it leaves the spool. The note
// may be behind what has arrived, but never by more than the one that it names: the
// next one is not put before it is noted, too.
func (s *shipper) attempt(ctx context.Context, seg sealed) error {
	if err := s.verify(ctx, seg); err != nil {
		return err
	}
	object := local.Object{First: seg.first, Last: seg.last, Sum: seg.sum}
	if s.shipped.Next != object { // else it is on its way since an earlier attempt
		noted := s.shipped
		noted.Next = object
		if err := s.dir.SaveShipped(noted); err != nil {
			return err
		}
		s.shipped = noted
	}
	fs := s.dir.FS()
	err := s.putFenced(ctx, seg, archive.Body{Size: seg.size, Open: func() (io.ReadCloser, error) { return disk.Open(fs, seg.path) }})
	if err != nil {
		return err
	}
	s.report.add(seg.last, seg.commits, seg.size)
	s.status.uploaded(seg.commits, seg.size)
	s.log.Debug("shipped", slog.Uint64("first", uint64(seg.first)), slog.Uint64("last", uint64(seg.last)), slog.Int64("bytes", seg.size))
	s.shipped.Newest = object
	s.uploaded(seg)
	return nil
}

// errMoved says that the archive is not as it was left.
var errMoved = errors.New("the replica is not as it was left")

// verify looks at an archive that could not be read before: it must be the one
// that is known, as it was left.
func (s *shipper) verify(ctx context.Context, seg sealed) error {
	if !s.unread {
		return nil
	}
	began := s.opts.Now()
	a, err := archive.Open(ctx, s.bucket)
	if errors.Is(err, archive.ErrNoReplica) {
		return fmt.Errorf("%w: %w", errMoved, err)
	}
	if err != nil {
		return err
	}
	if id := a.Meta().Replica; id != s.arch.Meta().Replica {
		return fmt.Errorf("%w: it is replica %v, and was %v", errMoved, id, s.arch.Meta().Replica)
	}
	if n := a.Newest(); n != s.shipped.Newest.First && n != seg.first {
		return fmt.Errorf("%w: its newest segment begins at TXID %v, the last one from here at %v", errMoved, n, s.shipped.Newest.First)
	}
	s.arch, s.unread, s.heard = a, false, began
	s.tend()
	return nil
}

// keep makes a segment survive a power cut: it may have to wait for long.
func (s *shipper) keep(seg sealed) {
	f, err := disk.Open(s.dir.FS(), seg.path)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		s.log.Warn("sync spooled segment", slog.Any("err", err))
	}
}
