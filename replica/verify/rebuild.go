package verify

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// wrong is what is wrong with an object that a database was to be rebuilt from.
type wrong struct {
	class   Class
	key     string
	problem string
}

// Error implements error.
func (w *wrong) Error() string { return w.key + ": " + w.problem }

func wrongf(class Class, key, format string, args ...any) error {
	return &wrong{class, key, fmt.Sprintf(format, args...)}
}

// recipe is what a commit is rebuilt from.
type recipe struct {
	target state.TXID
	// chain is the newest snapshot to begin with and what it adds to, the full one
	// first.
	chain []snapObject
	log   []logObject
}

// bytes is what it reads.
func (r recipe) bytes() (n int64) {
	for _, s := range r.chain {
		n += s.size
	}
	for _, o := range r.log {
		n += o.size
	}
	return n
}

// recipe finds out how to rebuild a commit without the objects that are bad. It
// takes the newest snapshot from which the log leads there.
func (inv *inventory) recipe(target state.TXID, bad map[string]bool) (recipe, bool) {
	ok := whole(inv.snaps, bad)
	for _, s := range slices.Backward(inv.snaps) {
		if s.txid > target || !ok[s.txid] || bad[s.key] || s.base != 0 && !ok[s.base] {
			continue
		}
		r := recipe{target: target, chain: inv.chain(s, bad)}
		at := s.txid
		for _, o := range inv.log {
			if at < target && o.over == "" && !bad[o.key] && o.first <= at+1 && o.last > at {
				r.log, at = append(r.log, o), o.last
			}
		}
		if at >= target {
			return r, true
		}
	}
	return recipe{}, false
}

// chain is a snapshot with what it adds to, the full one first. Of two snapshots of
// one commit that is taken which adds to less.
func (inv *inventory) chain(s snapObject, bad map[string]bool) []snapObject {
	ok := whole(inv.snaps, bad)
	chain := []snapObject{s}
	for s.base != 0 {
		for _, b := range inv.snaps {
			if b.txid == s.base && !bad[b.key] && (b.base == 0 || ok[b.base]) {
				s = b
				break
			}
		}
		chain = append([]snapObject{s}, chain...)
	}
	return chain
}

// rebuilt is a database that is being rebuilt in a file. It writes what comes as it
// comes, the oldest first; each page goes to the file at once.
type rebuilt struct {
	v    *verifier
	file *os.File
	// table are the page sums of what the file holds, at the commit that it is.
	table *state.Table
	at    point
	// commits is how many were applied.
	commits uint64
	page    []byte
	// each, if not nil, is called after each commit with the pages that it wrote.
	each    func(point, []pageNo) error
	touched []pageNo
}

// run rebuilds a commit. An error that is a *wrong says which object is to blame.
func (b *rebuilt) run(ctx context.Context, r recipe) error {
	b.table, b.page = state.NewTable(b.v.meta.size), make([]byte, b.v.meta.size)
	for _, s := range r.chain {
		if err := b.snapshot(ctx, s); err != nil {
			return err
		}
	}
	for _, o := range r.log {
		if err := b.apply(ctx, o, r.target); err != nil {
			return err
		}
	}
	if b.at.id != r.target {
		last := r.log[len(r.log)-1]
		return wrongf(last.class(), last.key, "it ends at TXID %v, before TXID %v", b.at.id, r.target)
	}
	return b.resize(b.at.pages)
}

// stream opens an object to be read once, from its beginning.
func (b *rebuilt) stream(ctx context.Context, key string) (io.ReadCloser, *bufio.Reader, error) {
	src, err := b.v.open(ctx, key, 0, -1)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", key, err)
	}
	return src, bufio.NewReaderSize(src, readAhead), nil
}

// blame makes a *wrong of an error that says that an object is damaged.
func blame(class Class, key string, err error) error {
	var w *wrong
	switch {
	case err == nil, errors.As(err, &w):
		return err
	case isDamage(err):
		return wrongf(class, key, "%v", err)
	default:
		return fmt.Errorf("read %s: %w", key, err)
	}
}

// snapshot writes the pages of a snapshot over what there is.
func (b *rebuilt) snapshot(ctx context.Context, s snapObject) error {
	r, err := snapshot.Open(source{ctx, b.v, s.key}, s.size)
	if err != nil {
		return blame(Snapshot, s.key, err)
	}
	h := r.Header()
	if problem := b.v.meta.ownsSnapshot(h, s); problem != "" {
		return wrongf(Snapshot, s.key, "%s", problem)
	}
	// Pages that were cut off and came back are zeros if they are not listed.
	if err := b.resize(h.Pages); err != nil {
		return err
	}
	if err := b.blocks(ctx, s, r); err != nil {
		return blame(Snapshot, s.key, err)
	}
	b.at = point{id: s.txid, checksum: b.table.Checksum(), pages: h.Pages}
	if b.at.checksum != r.Checksum() {
		return wrongf(Snapshot, s.key, "its pages, with those that it adds to, are state %v, and it is of state %v", b.at.checksum, r.Checksum())
	}
	return nil
}

// blocks reads a snapshot's page blocks one after the other.
func (b *rebuilt) blocks(ctx context.Context, s snapObject, r *snapshot.Reader) error {
	src, in, err := b.stream(ctx, s.key)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read
	if _, err := io.CopyN(io.Discard, in, snapshot.HeaderSize); err != nil {
		return fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	var data []byte
	for i, x := range r.Blocks() {
		data = append(data[:0], make([]byte, x.Stored)...)
		if _, err := io.ReadFull(in, data); err != nil {
			return err
		}
		if err := r.DecodeBlocks(i, data, b.write); err != nil {
			return err
		}
	}
	return nil
}

// write writes a page.
func (b *rebuilt) write(no pageNo, page []byte) error {
	size := b.table.PageSize()
	if _, err := b.file.WriteAt(page, size.Offset(no)); err != nil {
		return fmt.Errorf("write the restored database: %w", err)
	}
	b.table.Set(no, sumPage(no, page))
	return nil
}

// resize makes the database so many pages long.
func (b *rebuilt) resize(pages uint32) error {
	b.table.Resize(pages)
	if err := b.file.Truncate(int64(pages) * int64(b.table.PageSize())); err != nil {
		return fmt.Errorf("size the restored database: %w", err)
	}
	return nil
}

// apply applies the commits of an object that come after what the file holds, up to
// the target. After each one the file must be the state that it recorded.
func (b *rebuilt) apply(ctx context.Context, o logObject, target state.TXID) error {
	src, in, err := b.stream(ctx, o.key)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read
	r, err := segment.NewReader(in, o.size)
	if err != nil {
		return blame(o.class(), o.key, err)
	}
	h := r.Header()
	if problem := b.v.meta.owns(h.Replica, h.PageSize, h.First, o.first); problem != "" {
		return wrongf(o.class(), o.key, "%s", problem)
	}
	if before := r.Last(); before.TXID == b.at.id && (before.After != b.at.checksum || before.Pages != b.at.pages) {
		return wrongf(o.class(), o.key, "it continues state %v (%d pages), and TXID %v is state %v (%d pages)",
			before.After, before.Pages, b.at.id, b.at.checksum, b.at.pages)
	}
	for b.at.id < target {
		rec, err := r.Next()
		if err == io.EOF { //nolint:errorlint // bare by contract
			return nil
		}
		if err == nil {
			err = b.record(o, rec, r.Last().TXID)
		}
		if err != nil {
			return blame(o.class(), o.key, err)
		}
	}
	return nil
}

// record applies a record. last is the last commit, the record itself if it is one.
func (b *rebuilt) record(o logObject, rec segment.Record, last state.TXID) error {
	c := rec.Commit
	switch {
	case c.TXID == 0 && last < b.at.id, c.TXID != 0 && c.TXID < b.at.id:
		return nil // in the snapshot
	case c.TXID == 0:
		return b.frame(rec)
	case c.TXID > b.at.id:
		if err := b.commit(c); err != nil {
			return err
		}
	}
	if c.After != b.table.Checksum() || c.Pages != b.table.Len() {
		return wrongf(o.class(), o.key, "TXID %v has state %v (%d pages) by its pages, recorded is %v (%d pages)",
			c.TXID, b.table.Checksum(), b.table.Len(), c.After, c.Pages)
	}
	b.at = pointOf(c)
	touched := b.touched
	if b.touched = touched[:0]; b.each != nil {
		return b.each(b.at, touched)
	}
	return nil
}

// frame writes a page, which is an image or the difference to what is there.
func (b *rebuilt) frame(rec segment.Record) error {
	if b.each != nil {
		b.touched = append(b.touched, rec.Page)
	}
	if !rec.Delta {
		return b.write(rec.Page, rec.Data)
	}
	n, err := b.file.ReadAt(b.page, b.table.PageSize().Offset(rec.Page))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the restored database: %w", err)
	}
	clear(b.page[n:])
	subtle.XORBytes(b.page, b.page, rec.Data)
	return b.write(rec.Page, b.page)
}

// commit ends a transaction: the database has the length that it says.
func (b *rebuilt) commit(c segment.Commit) error {
	b.commits++
	if c.Pages == b.table.Len() {
		return nil
	}
	return b.resize(c.Pages)
}

// prove computes the state checksum of a database file from its bytes, and compares
// it with what was recorded.
func prove(ctx context.Context, file *os.File, size int, at point) (problem string, err error) {
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("look at the restored database: %w", err)
	}
	if want := int64(at.pages) * int64(size); info.Size() != want {
		return fmt.Sprintf("the file has %d bytes, it should have %d", info.Size(), want), nil
	}
	const lockByte = 1 << 30 // the page that holds it counts for nothing (fileformat2, section 1.1)
	lock := pageNo(lockByte/size + 1)
	in := bufio.NewReaderSize(io.NewSectionReader(file, 0, info.Size()), 1<<20)
	page, sum := make([]byte, size), uint64(0)
	for i := range at.pages {
		if _, err := io.ReadFull(in, page); err != nil {
			return "", fmt.Errorf("read the restored database: %w", err)
		}
		if no := pageNo(i) + 1; no != lock {
			sum += uint64(sumPage(no, page))
		}
		if i%1024 == 0 && ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
	}
	if sum != uint64(at.checksum) {
		return fmt.Sprintf("the file is state %016x, recorded is %v", sum, at.checksum), nil
	}
	return "", nil
}
