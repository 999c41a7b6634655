package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tidemark/replica/archive"
	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

// replicator is what lives as long as a run: the pinned database, the locked
// state directory, the uploads. An engine follows the database on top of it, and
// after an error that may pass another one takes its place. That one begins with
// what the local state says, as after a crash, but the pin was held all the time.
// So there is one way to recover, and it is the one that is tested most.
type replicator struct {
	opts   Options
	log    *slog.Logger
	db     *database
	seat   *seat
	dir    *local.Dir
	report tally
	status *tracker
	once   bool

	// ship uploads for an engine, and goes on after it until the next one begins.
	// It is nil at first; shipped is then what is known of earlier ones.
	ship    *shipper
	shipped *local.Shipped
	// listed is when the archive was listed last.
	listed time.Time
	// sealed is the end of the WAL at the last hand-off, if the database has
	// been pinned since: from there the WAL goes on.
	sealed wal.Position
	// started is called when there is nothing more to start.
	started func()
	// ready tells that a database has been followed in this run, probed that the
	// storage was found to honour conditions.
	ready, probed bool
}

// open takes the state directory's lock and opens the database.
func open(ctx context.Context, opts Options, db *database, place *seat, once bool) (*replicator, error) {
	err := db.open(ctx, opts.Path, source.Options{
		KeepJournalMode: opts.KeepJournalMode, AllowNetworkFS: opts.AllowNetworkFS, FS: opts.fs, Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	path := opts.StateDir
	if path == "" {
		path = local.DefaultPath(db.Path())
	}
	dir, err := local.Open(opts.fs, local.ReplicaPath(path, opts.Replica))
	if err != nil {
		return nil, errors.Join(err, db.close(ctx, place))
	}
	clearSaves(dir.Path())
	if opts.Unfenced {
		opts.Bucket = storage.Unfenced(opts.Bucket)
	}
	return &replicator{
		opts: opts, log: opts.Logger, db: db, seat: place, dir: dir, once: once, status: newTracker(opts, db.Path(), dir),
	}, nil
}

// close ends the pin and gives up the lock, after a run that ended with why.
func (r *replicator) close(ctx context.Context, why error) error {
	r.endShipper((*shipper).stop)
	err := r.db.close(ctx, r.seat)
	r.status.ends(errors.Join(why, err), ctx.Err() != nil)
	if err := errors.Join(err, r.dir.Close()); err != nil {
		return fmt.Errorf("stop following %s: %w", r.opts.Path, err)
	}
	return nil
}

// endShipper ends the uploads, in a way, and keeps what they came to.
func (r *replicator) endShipper(end func(*shipper)) {
	if r.ship == nil {
		return
	}
	end(r.ship)
	if run := r.ship.tended(); run != nil {
		run.Stop()
	}
	if r.ship.started { // else it was not known to be this database's
		shipped := r.ship.shipped
		r.shipped = &shipped
	}
	r.ship = nil
}

// run follows the database with one engine after another.
func (r *replicator) run(ctx context.Context) error {
	policy := r.opts.backoff()
	var before error
	for {
		began := time.Now()
		err := r.follow(ctx)
		if err != nil && before != nil && stopped(ctx, err) {
			return stoppedFailing(before)
		}
		before = err
		if err == nil || r.once || ctx.Err() != nil || permanent(err) || !r.ready && !r.mayWait(err) {
			return err
		}
		if time.Since(began) > policy.MaxInterval {
			policy.Reset()
		}
		wait := policy.NextBackOff()
		if errors.Is(err, errOverflow) {
			if err := r.overflow(ctx); err != nil {
				return err
			}
		} else {
			r.log.Error("replication failed; what was read is kept, and it is tried again",
				slog.Any("error", err), slog.Duration("in", wait))
			r.freeDisk(err)
			r.status.fails(err)
		}
		if r.wait(ctx, wait) != nil {
			return stoppedFailing(err)
		}
	}
}

func stoppedFailing(err error) error {
	return fmt.Errorf("stopped while replication failed: %w", err)
}

// awaitTurn is for how long others of the database wait while nobody reads the WAL.
const awaitTurn = time.Second

// wait waits between two engines.
func (r *replicator) wait(ctx context.Context, d time.Duration) error {
	for until := time.Now().Add(d); time.Now().Before(until); {
		err := r.waitTurn(ctx, min(awaitTurn, time.Until(until)))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.log.Warn("the WAL is not pinned for now", slog.Any("err", err))
			break
		}
	}
	return nil
}

// waitTurn is a part of that. While nobody else follows the database, it lets
// checkpoints of the application's pass.
func (r *replicator) waitTurn(ctx context.Context, d time.Duration) error {
	r.db.mu.Lock()
	if r.db.others(r.seat) || r.db.images > 0 || r.db.Unpark(ctx) != nil || !r.db.Held() {
		r.db.mu.Unlock()
		return sleep(ctx, d) // what is wrong with the database shows when it is read
	}
	defer r.db.mu.Unlock()
	held, err := r.db.AwaitHeld(ctx, d)
	if !held { // for all that wait
		r.sealed = wal.Position{}
		r.db.passes++
		r.db.gaps = r.db.Gaps()
	}
	return err
}

// follow is the life of one engine.
func (r *replicator) follow(ctx context.Context) error {
	r.db.mu.Lock()
	r.seat.awaited = true
	err := r.db.Unpark(ctx)
	r.db.mu.Unlock()
	if err != nil {
		return err
	}
	e := &engine{
		replicator: r, watch: watcher{hub: &r.opts.Process.watch}, cache: pageCache{from: &r.opts.Process.images},
		prev: previous{file: r.db.FileAt(), wal: r.db.WAL(), seat: r.seat},
	}
	err = e.run(ctx)
	r.db.mu.Lock()
	r.db.unjoin(r.seat)
	r.sealed = wal.Position{}
	if e.table != nil && !e.adrift && r.seat.lost == nil && r.db.Held() {
		r.sealed = e.tail.sealed
	}
	r.db.mu.Unlock()
	if cerr := e.close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("stop following %s: %w", r.opts.Path, cerr))
	}
	return err
}

// mayWait tells whether a start that failed can wait for storage, or for the
// application's locks: the local state shows that the database has been followed
// before, and the WAL is pinned.
func (r *replicator) mayWait(err error) bool {
	r.db.mu.Lock()
	held := r.db.Held()
	r.db.mu.Unlock()
	if !isAny(err, storage.ErrUnreachable, source.ErrBusy) || !held {
		return false
	}
	_, lerr := r.dir.Load()
	return lerr == nil
}

// overflow gives up the commits in the spool, one by one: what they did will be
// found by comparing pages, and becomes one commit. Until storage answers nothing
// is pinned, so that the WAL does not grow.
func (r *replicator) overflow(ctx context.Context) error {
	r.log.Error("the spool has reached its limit: its commits are given up, and what they did will be one commit of the history",
		slog.Int64("limit", r.opts.SpoolLimit))
	r.status.overflows()
	r.endShipper(func(s *shipper) { s.drop(ctx) })
	// The spool is of no use without the remembered state: so that goes first.
	if err := errors.Join(r.dir.Forget(), r.dropSpool()); err != nil {
		return err
	}
	r.status.dropped()
	r.release(ctx)
	policy := r.opts.backoff()
	for {
		_, err := archive.Open(ctx, r.opts.Bucket)
		if err == nil || permanent(err) {
			return err
		}
		if err := r.idle(ctx, policy.NextBackOff()); err != nil {
			return err
		}
	}
}

// release ends the pin, unless others need it. Nobody has to wait for this one.
func (r *replicator) release(ctx context.Context) {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	r.seat.awaited = false
	if !r.db.awaited() {
		r.db.Release(ctx)
	}
}

// idle waits, and keeps the WAL of a database short that is not pinned.
func (r *replicator) idle(ctx context.Context, d time.Duration) error {
	for until := time.Now().Add(d); time.Now().Before(until); {
		if err := r.trim(ctx); err != nil && permanent(err) {
			return err
		}
		r.status.flush()
		if err := sleep(ctx, min(time.Second, time.Until(until))); err != nil {
			return err
		}
	}
	return nil
}

// trim is for a database that is not pinned.
func (r *replicator) trim(ctx context.Context) error {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	if r.db.Held() {
		if r.db.awaited() {
			return r.db.InPlace() // others see to it
		}
		if err := r.db.Unpark(ctx); err != nil {
			return err
		}
		r.db.Release(ctx) // they have left
	}
	return errors.Join(r.db.Check(ctx), r.db.Trim(ctx))
}

// backoff gives the pauses between attempts.
func (o Options) backoff() *backoff.ExponentialBackOff {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval, policy.MaxInterval = o.retryAfter, maxRetryAfter
	return policy
}

// sleep waits, or gives the reason for which ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// storageAway is why something can't be read that is in storage only.
func storageAway() error { return fmt.Errorf("%w: what is needed is not here", storage.ErrUnreachable) }

// errOverflow says that the spool has grown past its limit.
var errOverflow = errors.New("the spool is full")

// permanent tells whether an error will not pass by itself.
func permanent(err error) bool {
	if isAny(err, ErrFenced, ErrReplaced, ErrOverwritten, ErrDamaged, ErrLocked, ErrUnfenceable,
		archive.ErrBroken, block.ErrCorrupt, block.ErrVersion) {
		return true
	}
	return isAny(err, ErrRefused, ErrNotDatabase) && !ofSystem(err)
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}

// ofSystem tells whether the operating system, or SQLite for its sake, has given
// an error: a full disk, too many open files, a lock, a failing device.
func ofSystem(err error) bool {
	var errno syscall.Errno
	var path *fs.PathError
	if errors.As(err, &errno) || errors.As(err, &path) || errors.Is(err, source.ErrBusy) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL:
		return true
	default:
		return false
	}
}

// tally is a report that several goroutines add to.
type tally struct {
	mu  sync.Mutex
	rep Report
}

func (t *tally) get() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rep
}

// add counts what was uploaded; last is the newest commit then.
func (t *tally) add(last state.TXID, commits uint64, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rep.TXID = last
	t.rep.Commits += commits
	t.rep.UploadedBytes += bytes
}

// addBytes counts what was uploaded beside commits.
func (t *tally) addBytes(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rep.UploadedBytes += bytes
}
