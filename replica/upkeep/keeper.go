package upkeep

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// Hold is how long what a pack covers stays, and how old an object of the log must
// be to be deleted at all. A writer that has not heard from the archive for half of
// it looks at it before it writes.
const Hold = time.Hour

// Options say how an archive is looked after.
type Options struct {
	// Packing decides what is joined.
	Packing Packing
	// NoPacks joins nothing.
	NoPacks bool
	// Retain prunes what Policy does not keep.
	Retain bool
	// Policy is what is kept, beside what is marked.
	Policy retain.Policy
	// Cache has local copies of objects; nil is none.
	Cache *Cache
	// Writer names this process in the packs that it makes.
	Writer string
	// Turn bounds how many keepers work at a time; nil is no bound. Who has a turn
	// makes one pack, deletes once what is due, or prunes once.
	Turn *semaphore.Weighted
	// Packed and Pruned, if not nil, are told what was done: the size of a pack, in
	// bytes, and how many objects were deleted since Policy does not keep them.
	Packed func(bytes int64)
	Pruned func(objects int)
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Logger is told what happens; nil discards it.
	Logger *slog.Logger
}

// Keeper looks after one archive. It is told of what is put; Next says when there is
// something to do, and Work does it. Work must not be called twice at a time;
// everything else may be called beside it.
type Keeper struct {
	arch *archive.Archive
	opts Options
	log  *slog.Logger

	mu  sync.Mutex // guards what follows
	inv inventory
	// from and to are the objects of the log to join next, if toJoin. They are
	// found again when the log was changed.
	from, to          int
	toJoin, unplanned bool
	// prune tells that something may have to be pruned, but not before pruneAt.
	prune   bool
	pruneAt time.Time
	// rest is until when a task rests after it failed.
	rest [tasks]pause
}

// task is something that a Keeper does.
type task int

const (
	joining task = iota
	clearing
	pruning
)

// tasks is how many there are.
const tasks = 3

// New gives a Keeper of an archive as it was when it was opened. Copies in the cache
// of what is not there any more are removed.
func New(arch *archive.Archive, opts Options) *Keeper {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Cache == nil {
		opts.Cache = NewCache(disk.OS{}, "", 0)
	}
	opts.Packing = opts.Packing.withDefaults()
	k := &Keeper{arch: arch, opts: opts, log: opts.Logger, unplanned: true}
	k.inv = take(arch.Listing(), opts.Now())
	k.opts.Cache.Adopt(segments(k.inv.log))
	return k
}

// Put tells of a segment that was put, with its last commit. The file that it was
// put from, if path is not empty, becomes its copy in the cache. An error says that
// it is still where it was.
func (k *Keeper) Put(s archive.Segment, last state.TXID, path string) error {
	k.mu.Lock()
	now := k.opts.Now()
	k.inv.put(s, last, now)
	k.unplanned = true
	for t := range k.rest {
		k.rest[t].wake(now)
	}
	k.mu.Unlock()
	if path == "" {
		return nil
	}
	return k.opts.Cache.Take(s, path)
}

// PutSnapshot tells of a snapshot that was put, and of its time.
func (k *Keeper) PutSnapshot(s archive.Snapshot, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inv.putSnapshot(s, at)
	// What is kept depends on the time of the newest snapshot alone.
	k.prune = k.opts.Retain
}

// Next is when Work has something to do, a time in the past if it has now, or zero
// if there is nothing unless something is put.
func (k *Keeper) Next() time.Time {
	now := k.opts.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	var next time.Time
	for t := range task(tasks) {
		if wait, ok := k.wait(t, now); ok {
			if at := now.Add(max(wait, 0)); next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// Work does what is due, one thing after another. An error is logged, and what
// failed is tried again later. It returns when nothing is due, or ctx has ended.
func (k *Keeper) Work(ctx context.Context) {
	for ctx.Err() == nil {
		t, ok := k.due()
		if !ok {
			return
		}
		if k.opts.Turn != nil && k.opts.Turn.Acquire(ctx, 1) != nil {
			return // ctx has ended
		}
		err := k.do(ctx, t)
		if k.opts.Turn != nil {
			k.opts.Turn.Release(1)
		}
		if ctx.Err() == nil {
			k.done(t, err)
		}
	}
}

// due is the first task that is.
func (k *Keeper) due() (task, bool) {
	now := k.opts.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for t := range task(tasks) {
		if wait, ok := k.wait(t, now); ok && wait <= 0 {
			return t, true
		}
	}
	return 0, false
}

// wait is how long a task has to wait; ok is false if there is nothing to do. The
// caller holds mu.
func (k *Keeper) wait(t task, now time.Time) (wait time.Duration, ok bool) {
	rest, forever := k.rest[t].left(now)
	if forever {
		return 0, false
	}
	switch t {
	case joining:
		k.plan()
		ok = k.toJoin
	case clearing:
		wait, ok = k.clearIn(now)
	case pruning:
		if ok = k.prune; ok && !k.pruneAt.IsZero() {
			wait = k.pruneAt.Sub(now)
		}
	}
	return max(wait, rest), ok
}

// plan finds what is to be joined next. The caller holds mu.
func (k *Keeper) plan() {
	if !k.unplanned {
		return
	}
	k.unplanned, k.toJoin = false, false
	if !k.opts.NoPacks {
		k.from, k.to, k.toJoin = k.opts.Packing.Due(k.inv.objects())
	}
}

func (k *Keeper) do(ctx context.Context, t task) error {
	switch t {
	case joining:
		return k.join(ctx)
	case clearing:
		return k.clear(ctx)
	case pruning:
		return k.pruneOld(ctx)
	}
	return nil
}
