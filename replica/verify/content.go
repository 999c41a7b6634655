package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// contents is what has been read of the objects so far. It outlives a listing, so
// that nothing is read twice.
type contents struct {
	v *verifier
	// logs and snaps are by key. They hold no indexes, and no lists of pages that
	// have been compared.
	logs, snaps map[string]*decoded
	// table are the page sums after the commit at, nil if they are not known.
	table *state.Table
	at    state.TXID
}

// content reads the objects, and compares them at the level Chain.
func (v *verifier) content(ctx context.Context) error {
	c := &contents{v: v, logs: map[string]*decoded{}, snaps: map[string]*decoded{}}
	for range tries {
		gone, err := c.pass(ctx)
		if err != nil {
			return err
		}
		if !gone {
			if v.opts.Level < Chain {
				return nil
			}
			gone, err = c.chain(ctx)
			if err != nil || !gone {
				return err
			}
		}
		v.opts.Logger.Info("objects are gone that were to be read; listing the replica again")
		if err := v.list(ctx); err != nil {
			return err
		}
	}
	return ErrRestless
}

// task is an object to be read, and what is to be done then.
type task struct {
	key string
	// cost is the memory that it takes at most.
	cost int64
	read func(context.Context) (*decoded, error)
	// use is called for one object after the other, in order.
	use func(*decoded) error
}

// pass reads the objects that have not been read, and tells whether some of them
// are gone.
func (c *contents) pass(ctx context.Context) (gone bool, err error) {
	tasks := c.tasks(ctx)
	g, ctx := errgroup.WithContext(ctx)
	type reading struct {
		task
		d    *decoded
		done chan struct{}
	}
	order := make(chan *reading, c.v.opts.Parallel-1)
	room := semaphore.NewWeighted(memory)
	g.Go(func() error {
		defer close(order)
		for _, t := range tasks {
			if err := room.Acquire(ctx, t.cost); err != nil {
				return context.Cause(ctx)
			}
			r := &reading{task: t, done: make(chan struct{})}
			select {
			case order <- r:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() (err error) {
				if r.d, err = t.read(ctx); errors.Is(err, storage.ErrNotExist) {
					c.v.opts.Logger.Debug("an object is gone", slog.String("key", t.key))
					r.d, err = nil, nil
				}
				if err == nil {
					close(r.done)
				}
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		for r := range order {
			select {
			case <-r.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if gone = gone || r.d == nil; r.d != nil {
				if err := r.use(r.d); err != nil {
					return err
				}
			}
			room.Release(r.cost)
		}
		return nil
	})
	err = g.Wait()
	return gone, err
}

// tasks are the objects that have not been read, the log first and in order.
func (c *contents) tasks(ctx context.Context) (tasks []task) {
	inv := c.v.inv
	var keys []string
	for _, o := range inv.log {
		keys = append(keys, o.key)
	}
	for _, s := range inv.snaps {
		keys = append(keys, s.key)
	}
	sample := Sample{}
	if c.v.opts.Level == Objects {
		sample = c.v.opts.Sample
	}
	picked, want := sample.of(keys, c.v.opts.Seed), c.wanted()
	var total int64
	const base = 4 << 20
	for _, o := range inv.log {
		if !picked[o.key] || c.logs[o.key] != nil {
			continue
		}
		total += o.size
		tasks = append(tasks, task{
			key: o.key, cost: min(memory, base+o.size/2),
			read: func(ctx context.Context) (*decoded, error) { return c.v.decodeLog(ctx, o, want) },
			use:  func(d *decoded) error { return c.useLog(ctx, o, d) },
		})
	}
	for _, s := range inv.snaps {
		if !picked[s.key] || c.snaps[s.key] != nil {
			continue
		}
		total += s.size
		tasks = append(tasks, task{
			key: s.key, cost: min(memory, base+20*int64(s.pages)),
			read: func(ctx context.Context) (*decoded, error) { return c.v.decodeSnapshot(ctx, s) },
			use:  func(d *decoded) error { c.useSnapshot(s, d); return nil },
		})
	}
	c.v.total.Add(total)
	return tasks
}

// wanted is what is to be remembered of the log: the states at which objects meet.
func (c *contents) wanted() wanted {
	w := wanted{states: map[state.TXID]bool{}, digests: map[string][]interval{}}
	if c.v.opts.Level < Chain {
		return w
	}
	for _, o := range c.v.inv.log {
		w.states[o.first-1], w.states[o.last] = true, true
		if o.over != "" {
			x := c.v.inv.shared(o)
			w.digests[o.key] = append(w.digests[o.key], x)
			w.digests[o.over] = append(w.digests[o.over], x)
		}
	}
	for _, s := range c.v.inv.snaps {
		w.states[s.txid] = true
	}
	for _, m := range c.v.inv.marks {
		w.states[m.txid] = true
	}
	return w
}

// shared are the commits that a covered object has in common with its pack, as the
// keys and the indexes say.
func (inv *inventory) shared(o logObject) interval {
	x := interval{o.first, o.last}
	if p, ok := inv.byKey[o.over]; ok {
		x.last = min(x.last, p.last)
	}
	return x
}

// useLog takes note of an object of the log.
func (c *contents) useLog(ctx context.Context, o logObject, d *decoded) error {
	c.logs[o.key] = d
	c.v.read[o.key] = true
	if d.damage != "" {
		c.v.damaged(CheckObjects, o.class(), o.key, d.damage)
		return nil
	}
	if c.v.opts.Level < Chain {
		d.index = nil
		return nil
	}
	if d.discord == "" && d.after.pages > d.before.pages {
		d.discord = grown(d)
	}
	if d.discord != "" {
		c.v.damaged(CheckChain, o.class(), o.key, d.discord)
	} else if o.over == "" {
		if err := c.roll(ctx, o, d); err != nil {
			return err
		}
	}
	d.index = nil
	return nil
}

// grown says, or "" if all is well, that an object claims more pages than its index
// has: each one that a database grows by is listed there. It bounds the memory for
// what comes next.
func grown(d *decoded) string {
	listed := uint64(0)
	if err := d.index.Pages(func(_ pageNo, _ state.Sum) { listed++ }); err != nil {
		return err.Error()
	}
	const lock = 1 // the lock-byte page is not listed
	if uint64(d.after.pages) > uint64(d.before.pages)+listed+lock {
		return fmt.Sprintf("the database grows from %d to %d pages in it, and its index lists %d", d.before.pages, d.after.pages, listed)
	}
	return ""
}

// useSnapshot takes note of a snapshot.
func (c *contents) useSnapshot(s snapObject, d *decoded) {
	c.snaps[s.key] = d
	c.v.read[s.key] = true
	if s.base == 0 || c.v.opts.Level < Chain {
		d.listed = nil
	}
	if d.damage != "" {
		c.v.damaged(CheckObjects, Snapshot, s.key, d.damage)
	}
}

// roll rolls the page sums forward over an object of the log.
func (c *contents) roll(ctx context.Context, o logObject, d *decoded) error {
	if c.table == nil || c.at < o.first-1 || c.at >= d.after.id {
		if err := c.begin(ctx, o.first-1, d.after.id); err != nil {
			return err
		}
	}
	if c.table == nil {
		return nil
	}
	if p, ok := d.states[c.at]; ok && p.checksum != c.table.Checksum() {
		c.table = nil // the comparison of the objects says it
		return nil
	}
	_ = d.index.Pages(c.table.Set) // it was read before
	c.table.Resize(d.after.pages)
	if c.table.Checksum() != d.after.checksum {
		c.v.damaged(CheckChain, o.class(), o.key, fmt.Sprintf(
			"its page sums lead from the state of TXID %v to state %v, its last commit has %v", c.at, c.table.Checksum(), d.after.checksum))
		c.table = nil
		return nil
	}
	c.at = d.after.id
	return nil
}

// begin takes the page sums of a snapshot that lies at a commit or after it, and
// before another one. Without one that can be used there are none.
func (c *contents) begin(ctx context.Context, from, until state.TXID) error {
	c.table = nil
	for _, s := range c.v.inv.snaps {
		if s.txid < from || s.txid >= until || c.v.bad[s.key] {
			continue
		}
		t, err := c.v.tableOf(ctx, s)
		if err != nil && !isDamage(err) && !errors.Is(err, storage.ErrNotExist) {
			return err
		}
		if err == nil { // else the level Objects says what is wrong, or the next listing
			c.table, c.at = t, s.txid
			return nil
		}
	}
	return nil
}

// tableOf reads the page sums that a snapshot holds.
func (v *verifier) tableOf(ctx context.Context, s snapObject) (*state.Table, error) {
	r, err := snapshot.Open(source{ctx, v, s.key}, s.size)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.key, err)
	}
	t, err := r.Table()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.key, err)
	}
	return t, nil
}
