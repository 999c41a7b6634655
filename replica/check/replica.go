package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

const (
	mendOther = "give it the URL of its own replica; a restored or copied database goes on with a history by tidemark replicate --takeover"
	mendBegin = "start tidemark replicate"
	mendArch  = "tidemark verify says what is wrong with the replica; keep it as it is"
)

// memory is what a replicator remembers of this replica.
type memory struct {
	ok      bool
	running bool
	state   local.State
	shipped local.Shipped
}

// remembered looks for it in the state directory, and in those of several replicas.
func (c *checker) remembered(id [16]byte) (memory, error) {
	dir := c.opts.StateDir
	if dir == "" {
		dir = local.DefaultPath(c.files.path)
	}
	names, err := local.Replicas(dir)
	if err != nil {
		return memory{}, fmt.Errorf("look at local state: %w", err)
	}
	for _, name := range append([]string{""}, names...) {
		at := local.ReplicaPath(dir, name)
		running, err := local.Held(at)
		if err != nil {
			return memory{}, err
		}
		st, sh, err := local.Peek(disk.OS{}, at)
		if errors.Is(err, local.ErrLost) {
			continue
		}
		if err != nil {
			return memory{}, err
		}
		if st.Replica == id {
			return memory{ok: true, running: running, state: st, shipped: sh}, nil
		}
	}
	return memory{}, nil
}

// replica looks whether the replica is this database's, and how far behind it is.
func (c *checker) replica(ctx context.Context) error {
	a, err := archive.Open(ctx, c.opts.Bucket)
	if errors.Is(err, archive.ErrNoReplica) {
		c.warn(Replica, mendBegin, "there is no replica at the URL yet")
		return nil
	}
	var head archive.Head
	if err == nil {
		head, err = a.Head(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		c.badReplica(err)
		return nil
	case head.Last == 0:
		c.warn(Replica, mendBegin, "the replica at the URL holds nothing yet")
		return nil
	case c.head.size.Valid() && a.Meta().PageSize != c.head.size:
		c.fail(Replica, mendOther, "the replica is another database's: its pages have %d bytes, this one's %d", a.Meta().PageSize, c.head.size)
		return nil
	}
	was, err := c.remembered(a.Meta().Replica)
	if err != nil {
		return err
	}
	if !c.belongs(ctx, a, head, was) {
		return nil
	}
	return c.behind(ctx, a, head, was)
}

// badReplica tells that the replica can't be read.
func (c *checker) badReplica(err error) {
	advice := mendArch
	if errors.Is(err, storage.ErrUnreachable) {
		advice = mendStorage
	}
	if errors.Is(err, block.ErrVersion) {
		advice = "a newer tidemark wrote this: upgrade tidemark on this machine"
	}
	c.fail(Replica, advice, "%v", err)
}

// belongs looks whether the replica is this database's: local state says so, or its
// newest state is the database's.
func (c *checker) belongs(ctx context.Context, a *archive.Archive, head archive.Head, was memory) bool {
	ours := max(was.shipped.Newest.Last, was.shipped.Next.Last)
	switch {
	case was.ok && !was.running && head.Last > ours:
		c.fail(Replica, "two replicators ship to this URL: start the one that should own the replica, with --takeover",
			"another writer has advanced the replica: it ends at TXID %v, what was shipped from here at %v", head.Last, ours)
		return false
	case was.ok:
		c.ok(Replica, "it is this database's, %s", a.Meta().Replica)
	case !c.state.ok:
		c.warn(Replica, "mend the database first", "whether it is this database's can't be told")
		return false
	case c.state.sum == head.Checksum:
		c.ok(Replica, "its newest state is the database's, page by page")
	default:
		c.fail(Replica, mendOther, "nothing shows that it is this database's%s", c.likeness(ctx, a, head))
		return false
	}
	return true
}

// likeness says how many pages are those of the newest state, "" if that can't be told.
func (c *checker) likeness(ctx context.Context, a *archive.Archive, head archive.Head) string {
	t, err := a.Table(ctx, 0, nil, 0)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(": %d of %d pages are as in its newest state, TXID %v", c.state.pages-differing(c.state.table, t), c.state.pages, head.Last)
}

// differing counts the pages of a that b has not.
func differing(a, b *state.Table) (n uint32) {
	for no := wal.PageNo(1); uint32(no) <= a.Len(); no++ {
		if uint32(no) > b.Len() || a.At(no) != b.At(no) {
			n++
		}
	}
	return n
}

// behind looks what of the database is not in the replica.
func (c *checker) behind(ctx context.Context, a *archive.Archive, head archive.Head, was memory) error {
	at := fmt.Sprintf("TXID %v of %s", head.Last, head.Commit.Time.UTC().Format(time.RFC3339))
	switch {
	case c.state.ok && c.state.sum == head.Checksum:
		c.ok(Behind, "nothing is missing: the newest commit is %s", at)
	case was.running && was.state.TXID <= head.Last:
		c.ok(Behind, "it is being replicated, up to %s and what was committed just now", at)
	case was.running:
		c.ok(Behind, "it is being replicated, up to %s; commits that wait to be uploaded: %d", at, was.state.TXID-head.Last)
	case !c.state.ok:
		c.warn(Behind, mendBegin, "nobody replicates it; the newest commit in the replica is %s", at)
	default:
		t, err := a.Table(ctx, 0, nil, 0)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			c.warn(Behind, mendArch, "the database has changed since %s; which pages can't be told: %v", at, err)
			return nil
		}
		c.warn(Behind, mendBegin+": it ships what is missing", "nobody replicates it, and %d of %d pages differ from the newest commit, %s",
			max(differing(c.state.table, t), differing(t, c.state.table)), c.state.pages, at)
	}
	return nil
}
