package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidemark/replica/current"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// mostPages is how many pages that differ are named one by one.
const mostPages = 100

// Live is the live database to compare with.
type Live struct {
	// Path is the database file, StateDir the replicator's state directory, or ""
	// for the one beside the database.
	Path, StateDir string
	// Timeout is how long to wait for the replicator to ship what is committed.
	Timeout time.Duration
}

// Comparison is what came of comparing the live database with the replica.
type Comparison struct {
	// Path is the database's.
	Path string
	// TXID is the commit that the live state was compared with, Time its time.
	TXID state.TXID
	Time time.Time
	// Known tells that the comparison is conclusive. It is not if the database
	// differs and nobody replicates it: it can have commits that nobody has shipped.
	Known bool
	// Equal tells that all pages are the same.
	Equal bool
	// Differ is how many pages differ, Pages are the first 100 of them, and Tables
	// those tables that they belong to, on either side.
	Differ int
	Pages  []uint32
	Tables []string
	// Why says why it is not known.
	Why string
}

// comparing is a comparison under way.
type comparing struct {
	v    *verifier
	opts Live
	// live are the page sums of the live database, at a moment between the commits
	// from and to of the history.
	live     *state.Table
	from, to state.TXID
	// found is the commit that the live state is, or to which it is nearest, by
	// differ pages.
	found  point
	differ int
	res    *Comparison
}

// errFound ends the search for a commit.
var errFound = errors.New("found")

// against reads the live database, and waits until what was committed then is
// shipped.
func (v *verifier) against(ctx context.Context) (*comparing, error) {
	c := &comparing{v: v, opts: *v.opts.Against, res: &Comparison{Path: v.opts.Against.Path}}
	v.report.Against = c.res
	// What is in the replica now was committed before the database is read.
	c.from = reachable(v.inv.read(), v.inv.snaps, v.bad).last()
	live, err := readLive(ctx, c.opts.Path)
	if err != nil {
		return nil, err
	}
	c.live, err = live.table(ctx)
	if err = errors.Join(err, live.close()); err != nil {
		return nil, err
	}
	return c, c.until(ctx)
}

// conclude compares what was read with the replica.
func (c *comparing) conclude(ctx context.Context) error {
	inv := c.v.inv
	c.to = reachable(inv.read(), inv.snaps, c.v.bad).last()
	if c.from == 0 || c.from > c.to {
		c.from = c.to
	}
	if c.to == 0 {
		c.res.Known, c.res.Why = false, "no commit of the replica can be restored"
		return nil
	}
	return c.search(ctx)
}

// until waits until the replicator has shipped what was committed when the database
// was read. Where nobody replicates, or it does not get so far, that is not an error,
// but a reason not to know.
func (c *comparing) until(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	_, err := current.Find(wait, current.Options{Path: c.opts.Path, StateDir: c.opts.StateDir, Bucket: c.v.bucket, Logger: c.v.opts.Logger})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, current.ErrBehind):
		c.res.Why = err.Error()
		return nil
	case err == nil:
		c.res.Known = true
	}
	return err
}

// search rebuilds the history between the two commits, until it comes upon the live
// state.
func (c *comparing) search(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(c.v.opts.TempDir, "tidemark-verify-*")
	if err != nil {
		return fmt.Errorf("make a folder to restore in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "against.db")
	c.differ = math.MaxInt
	for range tries {
		err := c.walk(ctx, path, c.to)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			c.v.opts.Logger.Info("an object is gone that was to be read; listing the replica again", slog.Any("err", err))
			if err := c.v.list(ctx); err != nil {
				return err
			}
			continue
		case errors.Is(err, errFound):
			c.equal()
			return nil
		case err != nil:
			return err
		case c.found.id != 0:
			return c.differs(ctx, path)
		default: // the finding is there
			c.res.Known, c.res.Why = false, "the replica can't be rebuilt"
			return nil
		}
	}
	return ErrRestless
}

// equal notes that the live state is a commit of the replica.
func (c *comparing) equal() {
	c.res.Known, c.res.Equal, c.res.TXID, c.res.Time, c.res.Why = true, true, c.found.id, c.found.time, ""
}

// walk rebuilds the replica up to a commit, and compares the states from c.from on
// with the live one. errFound says that one of them is it.
func (c *comparing) walk(ctx context.Context, path string, to state.TXID) (err error) {
	r, ok := c.v.inv.recipe(min(c.from, to), c.v.bad)
	if !ok {
		return nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make a file to restore to: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	b := &rebuilt{v: c.v, file: file}
	diff := &bitmap{}
	was := uint32(0)
	b.each = func(p point, touched []pageNo) error {
		switch {
		case p.id < c.from:
			return nil
		case was == 0 || p.pages != was:
			diff = c.compare(b.table)
		default:
			for _, no := range touched {
				if b.table.At(no) != c.live.At(no) {
					diff.add(no)
				} else {
					diff.remove(no)
				}
			}
		}
		was = p.pages
		return c.visit(p, diff)
	}
	err = b.run(ctx, r)
	if err == nil && was == 0 { // it is a snapshot's state
		at := b.at
		at.time = r.chain[len(r.chain)-1].time
		err = c.visit(at, c.compare(b.table))
	}
	if err == nil {
		err = b.onward(ctx, to)
	}
	var bad *wrong
	if errors.As(err, &bad) {
		c.v.found(damage(c.v.inv, CheckAgainst, bad.class, bad.key, fmt.Sprintf("TXID %v can't be rebuilt from it: %s", to, bad.problem)))
		return nil
	}
	return err
}

// onward goes on from what was rebuilt, by the log.
func (b *rebuilt) onward(ctx context.Context, to state.TXID) error {
	for _, o := range b.v.inv.read() {
		if b.at.id < to && o.last > b.at.id && o.first <= b.at.id+1 && !b.v.bad[o.key] {
			if err := b.apply(ctx, o, to); err != nil {
				return err
			}
		}
	}
	return b.resize(b.at.pages)
}

// compare gives the pages that differ.
func (c *comparing) compare(t *state.Table) *bitmap {
	diff := &bitmap{}
	for no := pageNo(1); uint32(no) <= max(t.Len(), c.live.Len()); no++ {
		if t.At(no) != c.live.At(no) || (uint32(no) > t.Len()) != (uint32(no) > c.live.Len()) {
			diff.add(no)
		}
	}
	return diff
}

// visit looks at one state of the replica.
func (c *comparing) visit(p point, diff *bitmap) error {
	if diff.n < c.differ {
		c.found, c.differ = p, diff.n
	}
	if diff.n == 0 {
		return errFound
	}
	return nil
}

// differs names what differs from the nearest commit.
func (c *comparing) differs(ctx context.Context, path string) error {
	r, ok := c.v.inv.recipe(c.found.id, c.v.bad)
	if !ok {
		return nil
	}
	diff, err := c.rebuildFound(ctx, path, r)
	if err != nil {
		return err
	}
	c.res.TXID, c.res.Time, c.res.Differ, c.res.Pages = c.found.id, c.found.time, diff.n, diff.first(mostPages)
	c.res.Tables = c.tables(ctx, path, diff)
	if !c.res.Known {
		c.res.Why = "the database is not the newest commit of the replica, and whether that is due to commits that were not shipped can't be told: " + c.res.Why
		return nil
	}
	lost := c.v.inv.spans(intervals{{c.found.id, c.found.id}})
	problem := fmt.Sprintf("the live database is no commit of the replica; the nearest is TXID %v, of which %d pages differ: %s", c.found.id, diff.n, numbers(c.res.Pages, diff.n))
	if len(c.res.Tables) > 0 {
		problem += " (tables " + strings.Join(c.res.Tables, ", ") + ")"
	}
	c.v.found(Finding{
		Check: CheckAgainst, Class: Database, Key: c.res.Path, Severity: Error, Problem: problem, Lost: lost,
		Means: "a restore gives other content than the live database has; one of the two is not what was committed",
		Do: "check the live database with PRAGMA integrity_check, and see whether something has written to its file without SQLite; " +
			"a replicator that is started anew compares all pages and ships what differs",
	})
	return nil
}

// numbers lists pages, and how many there are more.
func numbers(pages []uint32, n int) string {
	const shown = 20
	var parts []string
	for _, p := range pages[:min(len(pages), shown)] {
		parts = append(parts, strconv.FormatUint(uint64(p), 10))
	}
	if n > shown {
		parts = append(parts, fmt.Sprintf("%d more", n-shown))
	}
	return strings.Join(parts, ", ")
}

// rebuildFound rebuilds the nearest commit, and compares it.
func (c *comparing) rebuildFound(ctx context.Context, path string, r recipe) (_ *bitmap, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file to restore to: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	b := &rebuilt{v: c.v, file: file}
	if err := b.run(ctx, r); err != nil {
		return nil, err
	}
	if c.found.time.IsZero() {
		c.found.time = r.chain[len(r.chain)-1].time
	}
	return c.compare(b.table), nil
}

// tables are those that pages belong to, in the restored database or in the live
// one.
func (c *comparing) tables(ctx context.Context, path string, diff *bitmap) []string {
	seen := map[string]bool{}
	var names []string
	add := func(more []string) {
		for _, n := range more {
			if !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	if db, err := openSQLite(path, "mode=ro&immutable=1"); err == nil {
		add(tablesOf(ctx, db, diff))
		_ = db.Close() // only read
	}
	if live, err := readLive(ctx, c.opts.Path); err == nil {
		add(tablesOf(ctx, live.tx, diff))
		_ = live.close() // only read
	}
	return names
}
