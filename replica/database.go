package replica

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tidemark/replica/source"
	"tidemark/wal"
)

// database is a live database, and those that replicate it from this process, each
// into a replica of its own. They share its connections and its pin, and nothing
// else: two sets of connections in one process would drop each other's locks, and of
// two pins each would keep the other's checkpoints from the WAL's end.
//
// Who reads the database, or hands its WAL off, does so with the lock held, and on
// behalf of all that have joined: all have read and secured what the WAL holds
// before a pin ends. So it is as with one, for each of them. An engine has the lock
// whenever it does anything, and gives it up while it waits. Only an engine that
// has not joined, since it is finding out where it stands, reads pages without it,
// and for that long no pin ends.
type database struct {
	holders int // guarded by the process's lock
	// DB is nil before the first has opened it.
	*source.DB
	mu sync.Mutex
	// still tells of the end of the last image that was read.
	still *sync.Cond
	seats []*seat
	// users is how many have it open, images how many read pages of the pinned
	// state without the lock.
	users, images int
	// passes counts what may have let the WAL restart, gaps is how often the source
	// said that it may have done so unseen.
	passes, gaps int
	// expected is how many replications there are to be, came how many there have
	// been, since the first.
	expected, came int
	since          time.Time
	// left is when somebody stopped following last.
	left time.Time
}

// seat is one replication's place at a database. All is guarded by the database's
// lock.
type seat struct {
	// engine reads on behalf of others' hand-offs, too; nil until it has joined.
	engine *engine
	// lost is why it was left out, to be told to it.
	lost error
	// awaited tells that the WAL holds, or may hold, what it has yet to read:
	// others wait for it with their hand-offs, for a while.
	awaited bool
	// parked tells that it has nothing to do with the database for now, followed that
	// it has joined at all.
	parked, followed bool
	// passes is the database's count when it was followed last.
	passes int
	// since is when it began to be awaited.
	since time.Time
	// attached is what the database was when it was attached to last; nil when that
	// is of no use any more.
	attached *source.Attachment
}

const (
	// awaitFactor is how many times longer than it should be a WAL grows while one
	// of several replications has failed, or is starting.
	awaitFactor = 16
	// awaitFail is for how long they wait at most.
	awaitFail = time.Minute
	// leaveQuiet is how long nothing is handed off after one of several has stopped:
	// the others are likely to stop, too, and what is in the WAL then shows the next
	// start that nothing was missed.
	leaveQuiet = 5 * time.Second
	// awaitYield is for how long an awaited one has checkpoints of the application's
	// wait that need the pin: what is in the database file may be what shows it that
	// nothing was missed.
	awaitYield = 3 * time.Second
	// awaitCome is for how long those are waited for that have not begun.
	awaitCome = 5 * time.Second
)

// database gives the one at a path, with a seat for one of so many. leave gives it
// back.
func (p *Process) database(path string, of int) (d *database, s *seat, leave func()) {
	key := path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		key = target
	}
	if abs, err := filepath.Abs(key); err == nil {
		key = abs
	}
	p.mu.Lock()
	if d = p.databases[key]; d == nil {
		d = &database{since: time.Now()}
		d.still = sync.NewCond(&d.mu)
		p.databases[key] = d
	}
	d.holders++
	p.mu.Unlock()
	s = &seat{awaited: true, since: time.Now()}
	d.mu.Lock()
	d.seats, d.came, d.expected = append(d.seats, s), d.came+1, max(d.expected, of)
	d.mu.Unlock()
	return d, s, func() {
		d.mu.Lock()
		d.seats = slices.DeleteFunc(d.seats, func(o *seat) bool { return o == s })
		d.mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		if d.holders--; d.holders == 0 {
			delete(p.databases, key)
		}
	}
}

// open opens it, unless somebody has done so. While somebody still has a file open
// that another one has replaced, it waits: see source.DB about descriptors.
func (d *database) open(ctx context.Context, path string, opts source.Options) error {
	for {
		d.mu.Lock()
		if d.DB == nil {
			break
		}
		if err := d.InPlace(); !errors.Is(err, source.ErrReplaced) {
			d.users++
			d.mu.Unlock()
			return nil
		}
		d.mu.Unlock()
		if err := sleep(ctx, time.Second/20); err != nil {
			return err
		}
	}
	defer d.mu.Unlock()
	db, err := source.Open(ctx, path, opts)
	if err != nil {
		return err
	}
	d.DB, d.users, d.gaps = db, 1, db.Gaps()
	return nil
}

// close is for each that has opened it. It ends the pin with the last.
func (d *database) close(ctx context.Context, s *seat) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.engine, s.awaited = nil, false
	if d.users--; d.users > 0 {
		if s.followed {
			d.left = time.Now()
		}
		return nil
	}
	db := d.DB
	d.DB = nil
	return db.Close(ctx)
}

// with calls fn with the lock held.
func (d *database) with(fn func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fn()
}

// apart calls fn without the lock, and sees to it that no pin ends meanwhile.
func (d *database) apart(fn func() error) error {
	d.images++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.images--
		d.still.Broadcast()
	}()
	return fn()
}

// join has an engine take part. It must have read to where the pin stands, or be
// able to from there.
func (d *database) join(s *seat, e *engine) {
	s.engine, s.lost, s.awaited, s.parked, s.followed = e, nil, true, false, true
}

// unjoin ends that. What the WAL holds is still awaited to be read.
func (d *database) unjoin(s *seat) {
	if s.engine != nil {
		s.engine, s.passes, s.since = nil, d.passes, time.Now()
	}
}

// joined is how many have joined.
func (d *database) joined() (n int) {
	for _, s := range d.seats {
		if s.engine != nil {
			n++
		}
	}
	return n
}

// others tells whether others than one have joined.
func (d *database) others(s *seat) bool {
	return slices.ContainsFunc(d.seats, func(o *seat) bool { return o != s && o.engine != nil })
}

// awaited tells whether there is anyone who is to read the WAL.
func (d *database) awaited() bool {
	return slices.ContainsFunc(d.seats, func(s *seat) bool { return s.awaited })
}

// mayPass tells whether a WAL of so many frames may be handed off, of so many that
// it should have at most. Of several, one that is starting or that has failed is
// waited for: else what it has yet to read would be gone.
func (d *database) mayPass(frames, most int) bool {
	if d.images > 0 {
		return false
	}
	if frames > awaitFactor*most {
		return true
	}
	if time.Since(d.left) < leaveQuiet {
		return false
	}
	return !d.waits(awaitFail)
}

// waits tells whether anyone is waited for, who is for so long at most.
func (d *database) waits(patience time.Duration) bool {
	return !d.complete() || slices.ContainsFunc(d.seats, func(s *seat) bool {
		return s.awaited && s.engine == nil && time.Since(s.since) < patience
	})
}

// complete tells whether all have come that are to, or won't.
func (d *database) complete() bool { return d.came >= d.expected || time.Since(d.since) > awaitCome }

// mayYield tells whether the application's checkpoints may pass.
func (d *database) mayYield() bool {
	return d.images == 0 && !d.waits(awaitYield)
}

// pass calls what may end a pin, and tells those that it has left behind.
func (d *database) pass(s *seat, fn func(source.Drainer) error) error {
	drain := source.Drainer(&everybody{database: d, lead: s})
	if s.engine != nil && !d.others(s) {
		drain = s.engine
	}
	d.passes++
	err := fn(drain)
	d.passes++
	if gaps := d.Gaps(); gaps != d.gaps || errors.Is(err, source.ErrAside) {
		d.gaps = gaps
		d.leaveOthers(s, source.ErrAside)
	}
	return err
}

// leaveOut goes on without one.
func (d *database) leaveOut(s *seat, why error) {
	d.unjoin(s)
	s.lost = why
}

// leaveOthers goes on without all others that have joined: each finds out for itself
// where it stands.
func (d *database) leaveOthers(s *seat, why error) {
	for _, o := range d.seats {
		if o != s && o.engine != nil {
			d.leaveOut(o, why)
		}
	}
}

// everybody drains the WAL for all that have joined. One that can't is left out, and
// what is under way is given up for it. From then on it is waited for, but not for
// ever: see mayPass.
type everybody struct {
	*database
	lead *seat
	// failed is for whom it is given up.
	failed error
}

// each calls fn for all of them.
func (d *everybody) each(fn func(*engine) error) error {
	if d.failed != nil {
		return d.failed
	}
	for _, s := range slices.Clone(d.seats) {
		if s.engine == nil {
			continue
		}
		err := fn(s.engine)
		switch {
		case err == nil:
		case s == d.lead || isAny(err, source.ErrBusy, source.ErrBehind):
			return err
		default:
			d.leaveOut(s, err)
			d.failed = fmt.Errorf("%w: another replica of the database has failed: %v", source.ErrBusy, err) //nolint:errorlint // that is told to its own
		}
	}
	return d.failed
}

// Read implements source.Drainer.
func (d *everybody) Read() (commits int, err error) {
	err = d.each(func(e *engine) error {
		n, err := e.Read()
		commits = max(commits, n)
		return err
	})
	return commits, err
}

// Tend implements source.Drainer.
func (d *everybody) Tend() error { return d.each((*engine).Tend) }

// Keep implements source.Drainer.
func (d *everybody) Keep(only wal.Salts) (frames uint32, err error) {
	frames, err = d.least(func(e *engine) (uint32, error) { return e.Keep(only) })
	if d.failed != nil && only != (wal.Salts{}) && d.joined() > 0 {
		d.failed = nil
		// Nothing can be given up any more: the WAL was not pinned. Who has failed
		// must not make the others fail.
		return d.least(func(e *engine) (uint32, error) { return e.Keep(only) })
	}
	return frames, err
}

// Secure implements source.Drainer.
func (d *everybody) Secure() (frames uint32, err error) {
	return d.least((*engine).Secure)
}

func (d *everybody) least(fn func(*engine) (uint32, error)) (frames uint32, err error) {
	first := true
	err = d.each(func(e *engine) error {
		n, err := fn(e)
		if err == nil && (first || n < frames) {
			frames, first = n, false
		}
		return err
	})
	return frames, err
}

// attach attaches an engine, which then reads on its own until it joins.
func (d *database) attach(ctx context.Context, s *seat, known source.Known, resume func(wal.Header, wal.Position) error) (*source.Attachment, error) {
	d.unjoin(s)
	passes := d.passes
	defer context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.still.Broadcast()
	})()
	for d.images > 0 && ctx.Err() == nil {
		d.still.Wait()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if d.others(s) { // to attach is to take the file as it is
		if err := d.Check(ctx); errors.Is(err, source.ErrTouched) {
			d.leaveOthers(s, err)
		}
	}
	known.Pinned = known.Pinned && passes == d.passes
	for {
		var att *source.Attachment
		joined := d.joined()
		err := d.pass(s, func(drain source.Drainer) (err error) {
			if known.Others = nil; d.others(s) {
				known.Others = drain
			}
			att, err = d.Attach(ctx, known, resume)
			return err
		})
		if !errors.Is(err, source.ErrBusy) || d.joined() == joined {
			s.passes, s.attached = d.passes, att
			return att, err
		}
	}
}

// park has the connections closed when there is nothing to be done with the
// database by anyone.
func (d *database) park(ctx context.Context, s *seat) error {
	s.parked = true
	if d.images > 0 || !d.complete() || slices.ContainsFunc(d.seats, func(o *seat) bool { return o.awaited && (o.engine == nil || !o.parked) }) || d.Parked() {
		return nil
	}
	var read []wal.Position
	for _, o := range d.seats {
		if o.engine != nil {
			read = append(read, o.engine.tail.position())
		}
	}
	return d.Park(context.WithoutCancel(ctx), read...)
}

// unpark has them opened again.
func (d *database) unpark(ctx context.Context, s *seat) error {
	s.parked = false
	return d.Unpark(ctx)
}
