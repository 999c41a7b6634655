package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

type pageNo = wal.PageNo

// chain compares the objects with one another. All of them have been read. It tells
// whether some that had to be read once more are gone.
func (c *contents) chain(ctx context.Context) (gone bool, err error) {
	c.links()
	c.packs()
	c.marks()
	for _, s := range c.v.inv.snaps {
		err := c.snapshot(ctx, s)
		if errors.Is(err, storage.ErrNotExist) {
			gone = true
			continue
		}
		if err != nil {
			return false, err
		}
	}
	return gone, nil
}

// sound tells whether an object of the log was read and is in itself what it should
// be.
func (c *contents) sound(o logObject) bool {
	d := c.logs[o.key]
	return d != nil && d.damage == "" && d.discord == ""
}

// state is the state of the log at a commit, and the object that has it. Of two the
// one that ends with it comes first.
func (c *contents) state(id state.TXID) (p point, from logObject, ok bool) {
	for _, o := range c.v.inv.log {
		if o.over != "" || !c.sound(o) {
			continue
		}
		if p, has := c.logs[o.key].states[id]; has {
			return p, o, true
		}
	}
	return point{}, logObject{}, false
}

// links looks whether each object of the log continues the one before it. Of an
// object that fits neither before nor after, it is the one; else the later of two
// is named: which of them is right nobody can know.
func (c *contents) links() {
	log := c.v.inv.read()
	why := make([]string, len(log)) // it does not continue the one before it
	for i := 1; i < len(log); i++ {
		prev, o := log[i-1], log[i]
		if !c.sound(prev) || !c.sound(o) || o.first > prev.last+1 {
			continue
		}
		was, ok := c.logs[prev.key].states[o.first-1]
		now := c.logs[o.key].before
		switch {
		case !ok:
		case was.checksum != now.checksum || was.pages != now.pages:
			why[i] = fmt.Sprintf("it continues state %v (%d pages), and %s leads to state %v (%d pages) at TXID %v",
				now.checksum, now.pages, prev.key, was.checksum, was.pages, was.id)
		case c.logs[o.key].header.Time.Before(was.time):
			why[i] = fmt.Sprintf("its first commit is older than TXID %v in %s", was.id, prev.key)
		}
	}
	for i := 1; i < len(log); i++ {
		switch {
		case why[i] == "":
		case i+1 < len(log) && why[i+1] != "":
			c.v.damaged(CheckChain, log[i].class(), log[i].key, "it is of another history: "+why[i]+"; nor does "+log[i+1].key+" continue it")
			i++ // that one is not to blame
		default:
			c.v.damaged(CheckChain, log[i].class(), log[i].key, why[i]+"; one of the two is of another history")
		}
	}
}

// packs compares what packs cover with what they hold.
func (c *contents) packs() {
	for _, o := range c.v.inv.log {
		d, p := c.logs[o.key], c.logs[o.over]
		if o.over == "" || !c.sound(o) || p == nil || p.damage != "" {
			continue
		}
		x := c.v.inv.shared(o)
		mine, ok1 := d.digests[x]
		theirs, ok2 := p.digests[x]
		if !ok1 || !ok2 || mine == theirs {
			continue
		}
		if end, ok := p.states[o.last]; ok && end.checksum == d.after.checksum && p.states[o.first-1].checksum == d.before.checksum {
			f := damage(c.v.inv, CheckChain, Pack, o.over, fmt.Sprintf("it holds other changes than %s for TXID %v to %v, though they lead to the same states", o.key, x.first, x.last))
			f.Do = "if " + o.key + " is sound (another finding would name it), delete the pack: then what it was made of is read again"
			c.v.found(f)
			c.v.bad[o.over] = true
			continue
		}
		c.v.found(Finding{
			Check: CheckChain, Class: o.class(), Key: o.key, Severity: Warning,
			Problem: fmt.Sprintf("it holds other commits than %s, which covers it (written by %q)", o.over, d.header.Writer),
			Means:   "nobody reads it: it is what another writer has put there, and its commits are not part of this history",
			Do:      "find out who that was: two replicators must not ship to one URL; keep a copy if its commits matter, then delete it",
		})
	}
}

// marks compares the times of marks with those of their commits.
func (c *contents) marks() {
	for _, m := range c.v.inv.marks {
		at, name := time.Time{}, ""
		if p, o, ok := c.state(m.txid); ok && p.id >= o.first {
			at, name = p.time, o.key
		}
		if name == "" || m.time.IsZero() || m.time.UnixMilli() == at.UnixMilli() {
			continue
		}
		c.v.found(Finding{
			Check: CheckChain, Class: Mark, Key: m.key, Severity: Error,
			Problem: fmt.Sprintf("it says that TXID %v is of %s, in %s that is of %s", m.txid, stamp(m.time), name, stamp(at)),
			Means:   "a restore by this mark may give another commit than was meant",
			Do:      "find the commit of that time with tidemark log URL; delete the mark, and mark that one",
		})
	}
}

// snapshot compares a snapshot with the log, and with the one that it adds to.
func (c *contents) snapshot(ctx context.Context, s snapObject) error {
	d := c.snaps[s.key]
	if d == nil || d.damage != "" || c.v.bad[s.key] {
		return nil
	}
	p, o, ok := c.state(s.txid)
	problem := ""
	switch {
	case !ok || c.v.bad[o.key]:
	case p.checksum != d.checksum || p.pages != d.snap.Pages:
		problem = fmt.Sprintf("it is of state %v (%d pages), %s has state %v (%d pages) at TXID %v", d.checksum, d.snap.Pages, o.key, p.checksum, p.pages, p.id)
	case p.id >= o.first && p.time.UnixMilli() != d.snap.Time:
		problem = fmt.Sprintf("it is of %s, %s has TXID %v at %s", stamp(time.UnixMilli(d.snap.Time)), o.key, p.id, stamp(p.time))
	}
	if problem != "" {
		c.v.damaged(CheckChain, Snapshot, s.key, problem)
		return nil
	}
	if s.base == 0 || d.listed == nil && d.snap.Pages == 0 {
		return nil
	}
	return c.adds(ctx, s, d)
}

// adds looks whether an incremental snapshot holds all that differs from its base.
func (c *contents) adds(ctx context.Context, s snapObject, d *decoded) error {
	for _, b := range c.v.inv.snaps {
		if b.txid != s.base || c.v.bad[b.key] {
			continue
		}
		was, err := c.v.tableOf(ctx, b)
		if err != nil {
			return ignoreDamage(err)
		}
		now, err := c.v.tableOf(ctx, s)
		if err != nil {
			return ignoreDamage(err)
		}
		if no := lacks(was, now, d.listed); no != 0 {
			c.v.damaged(CheckChain, Snapshot, s.key, fmt.Sprintf("it does not hold page %v, which is not what it was in %s", no, b.key))
		}
		return nil
	}
	return nil
}

// ignoreDamage drops the errors that another check has told of.
func ignoreDamage(err error) error {
	if isDamage(err) {
		return nil
	}
	return err
}

// lacks is the first page that differs from what it was and is not listed, 0 if
// there is none. Pages that come to be there are zeros.
func lacks(was, now *state.Table, listed []snapshot.Run) pageNo {
	size := now.PageSize()
	zeros := make([]byte, size)
	for i := range now.Len() {
		no := pageNo(i) + 1
		for len(listed) > 0 && uint64(listed[0].First)+uint64(listed[0].Pages) <= uint64(no) {
			listed = listed[1:]
		}
		if no == size.LockPage() || len(listed) > 0 && listed[0].First <= no {
			continue
		}
		old := was.At(no)
		if i >= was.Len() {
			old = sumPage(no, zeros)
		}
		if now.At(no) != old {
			return no
		}
	}
	return 0
}
