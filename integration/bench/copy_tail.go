package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// tail is a replica whose log is long: a snapshot, and a segment for each of many
// seconds.
type tail struct {
	// size is the database's at the beginning, in bytes, segments how many there are,
	// and commits how many each of them holds.
	size, segments, commits int
	// packed joins the segments as a replicator does by default, and deletes what it
	// deletes an hour later.
	packed bool
}

// tailBegin is when a tail's first commit was made.
func tailBegin() time.Time { return time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC) }

// make makes the replica in memory. It has tidemark follow a real database while that
// is written to, and then cuts what tidemark has written into one segment a second:
// commits, pages and checksums are those of the database, only the times are made up.
func (t tail) make(ctx context.Context, b *bench) (_ *mem.Bucket, err error) {
	dir, err := b.scratch("tail")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "app.db")
	if err := makeDatabase(ctx, path, records, int64(t.size)); err != nil {
		return nil, err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	at, err := b.folder(dir)
	if err != nil {
		return nil, err
	}
	if err := t.replicate(ctx, b, path, filepath.Join(dir, "state"), at); err != nil {
		return nil, err
	}
	made, err := t.cut(ctx, at.store, image)
	if err == nil && t.packed {
		err = pack(ctx, made)
	}
	return made, err
}

// replicate makes a first copy, commits, and ships the commits.
func (t tail) replicate(ctx context.Context, b *bench, path, stateDir string, at place) (err error) {
	once := func() error {
		_, err := b.measured(ctx, b.tidemark, replicateCommand, "--once", "--state-dir", stateDir, path, at.url)
		return err
	}
	if err := once(); err != nil || t.segments == 0 {
		return err
	}
	// The connection stays open, so that the WAL does.
	db, err := sql.Open("sqlite", path+"?_pragma=synchronous(OFF)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	random := rand.New(rand.NewPCG(7, 2026))
	for range t.segments * t.commits {
		if err := appCommit(ctx, db, random); err != nil {
			return err
		}
	}
	return once()
}

// appCommit commits a new order and a change to an older one.
func appCommit(ctx context.Context, db *sql.DB, random *rand.Rand) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it fails if all went well
	var last int64
	if err := tx.QueryRowContext(ctx, "SELECT max(id) FROM orders").Scan(&last); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE orders SET account=? WHERE id=?", random.IntN(5000), 1+random.Int64N(last)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO orders(account, body) VALUES(?, ?)", random.IntN(5000), string(appendOrder(nil, random)[:120])); err != nil {
		return err
	}
	return tx.Commit()
}

// cut copies a replica, its log cut into segments of so many commits each, a second
// apart. image is the database as it was at the beginning.
func (t tail) cut(ctx context.Context, from storage.Bucket, image []byte) (*mem.Bucket, error) {
	a, err := archive.Open(ctx, from)
	if err != nil {
		return nil, err
	}
	to := mem.New()
	c := &cutter{pages: image, commits: t.commits, emit: func(first state.TXID, data []byte) error {
		return to.Put(ctx, archive.SegmentKey(first), bytes.NewReader(data), storage.PutOptions{Size: int64(len(data)), IfAbsent: true})
	}}
	segments := map[string]bool{}
	for _, s := range a.Listing().Segments {
		segments[s.Key()] = true
		if err := c.segment(ctx, from, s); err != nil {
			return nil, fmt.Errorf("cut %s: %w", s.Key(), err)
		}
	}
	if err := c.close(); err != nil {
		return nil, err
	}
	if c.made != t.segments {
		return nil, fmt.Errorf("%d segments, want %d", c.made, t.segments)
	}
	return to, from.List(ctx, "", "", func(o storage.Info) error {
		if segments[o.Key] {
			return nil
		}
		return putCopy(ctx, from, to, o)
	})
}

// cutter writes segments of few commits from segments of many.
type cutter struct {
	// pages is the database as of the last frame.
	pages []byte
	// commits is how many a segment gets.
	commits int
	emit    func(first state.TXID, data []byte) error

	// w is the open segment, nil if there is none, and out its bytes.
	w   *segment.Writer
	out bytes.Buffer
	// made is how many were written.
	made int
}

// segment adds the commits of a segment.
func (c *cutter) segment(ctx context.Context, from storage.Bucket, s archive.Segment) (err error) {
	src, err := from.Get(ctx, s.Key(), 0, -1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	r, err := segment.NewReader(src, s.Size)
	if err != nil {
		return err
	}
	for {
		last := r.Last()
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if c.w == nil {
			h := r.Header()
			h.First, h.Before, h.PagesBefore = last.TXID+1, last.After, last.Pages
			h.Time = c.now()
			c.out.Reset()
			c.w = segment.NewWriter(&c.out, h)
		}
		if err := c.record(rec); err != nil {
			return err
		}
	}
}

// now is the time of the open segment's commits.
func (c *cutter) now() time.Time { return tailBegin().Add(time.Duration(c.made) * time.Second) }

// record adds one record, and ends the segment if it is full.
func (c *cutter) record(rec segment.Record) error {
	if rec.Commit.TXID == 0 {
		return c.frame(rec)
	}
	commit := rec.Commit
	commit.Time = c.now()
	if _, err := c.w.Commit(commit); err != nil {
		return err
	}
	if c.w.Commits() < uint64(c.commits) {
		return nil
	}
	return c.close()
}

func (c *cutter) frame(rec segment.Record) error {
	size := len(rec.Data)
	if short := int(rec.Page)*size - len(c.pages); short > 0 {
		c.pages = append(c.pages, make([]byte, short)...)
	}
	page := c.page(rec.Page, size)
	if !rec.Delta {
		copy(page, rec.Data)
		return c.w.Full(rec.Page, page)
	}
	was := bytes.Clone(page)
	subtle.XORBytes(page, page, rec.Data)
	return c.w.Delta(rec.Page, page, was)
}

func (c *cutter) page(no wal.PageNo, size int) []byte {
	return c.pages[(int(no)-1)*size : int(no)*size]
}

// close ends the open segment, if there is one.
func (c *cutter) close() error {
	if c.w == nil {
		return nil
	}
	h := c.w.Header()
	_, err := c.w.Close(func(no wal.PageNo) state.Sum { return state.SumPage(no, c.page(no, int(h.PageSize))) })
	if err != nil {
		return err
	}
	c.w = nil
	c.made++
	return c.emit(h.First, c.out.Bytes())
}

// pack has the segments joined as a replicator does it, until nothing more is due.
func pack(ctx context.Context, b storage.Bucket) error {
	a, err := archive.Open(ctx, b)
	if err != nil {
		return err
	}
	now := tailBegin().Add(time.Hour)
	k := upkeep.New(a, upkeep.Options{Now: func() time.Time { return now }})
	for next := k.Next(); !next.IsZero(); next = k.Next() {
		if next.After(now) {
			now = next
		}
		k.Work(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// putCopy copies one object.
func putCopy(ctx context.Context, from, to storage.Bucket, o storage.Info) (err error) {
	r, err := from.Get(ctx, o.Key, 0, -1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return to.Put(ctx, o.Key, bytes.NewReader(data), storage.PutOptions{Size: o.Size, IfAbsent: true})
}

// putAll copies all objects of a bucket, several at a time.
func putAll(ctx context.Context, from, to storage.Bucket) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * plainParallel)
	err := from.List(ctx, "", "", func(o storage.Info) error {
		g.Go(func() error { return putCopy(gctx, from, to, o) })
		return gctx.Err()
	})
	return errors.Join(err, g.Wait())
}

// tailed is the work of restoring a tail.
type tailed struct {
	packed bool
	dir    string // of the replica in a folder
	at     map[side]place
}

func tailOf(p profile) tail {
	return tail{size: pick(p, 100<<10, 8<<20, 8<<20), segments: pick(p, 5, 600, 3600), commits: 3}
}

func tailWorks() []work {
	return []work{
		(&tailed{}).work("restore-tail", "restore of a long tail, a segment a second"),
		(&tailed{packed: true}).work("restore-tail-packed", "the same tail as a replicator leaves it: packed"),
	}
}

func (t *tailed) work(name, title string) work {
	return work{
		Name: name, Title: title, Short: true, Full: true,
		Sizes: func(p profile) string {
			t := tailOf(p)
			return fmt.Sprintf("%d segments of %d commits over %d MiB", t.segments, t.commits, t.size>>20)
		},
		Rounds: func(p profile) int { return pick(p, 1, 3, 3) },
		Sides:  []side{tidemark, plain, folder},
		Targets: []target{
			{Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
			{Side: folder, Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
		},
		Prepare: t.prepare, Run: t.run, Clean: t.clean,
	}
}

// prepare makes the replica, and puts it into a bucket and a folder.
func (t *tailed) prepare(ctx context.Context, b *bench, p profile) (err error) {
	what := tailOf(p)
	what.packed = t.packed
	made, err := what.make(ctx, b)
	if err != nil {
		return err
	}
	if t.dir, err = b.scratch("tail"); err != nil {
		return err
	}
	t.at = map[side]place{}
	for _, s := range []side{tidemark, folder} {
		at, err := b.place(ctx, s, t.dir)
		if errors.Is(err, errUnmeasured) {
			continue
		}
		if err != nil {
			return err
		}
		t.at[s] = at
		if err := putAll(ctx, made, at.store); err != nil {
			return err
		}
	}
	return nil
}

func (t *tailed) run(ctx context.Context, b *bench, s side, _ int) (figures []figure, err error) {
	at, ok := t.at[s]
	if s == plain {
		at, ok = t.at[tidemark]
	}
	if !ok {
		return nil, fmt.Errorf("%w: there is no MinIO", errUnmeasured)
	}
	if s == plain {
		spent, err := plainDownload(ctx, b.minio, at)
		return []figure{seconds(timeFigure, spent)}, err
	}
	dir, err := b.scratch(restoreCommand)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	figures, err = b.restored(ctx, at, filepath.Join(dir, "out.db"))
	if err != nil {
		return nil, err
	}
	objects, stored, err := listed(ctx, at)
	return append(figures, figure{storedFigure, "B", float64(stored)}, figure{objectsFigure, "count", float64(len(objects))}), err
}

func (t *tailed) clean(b *bench) error {
	err := os.RemoveAll(t.dir)
	if at, ok := t.at[tidemark]; ok {
		err = errors.Join(err, b.empty(context.Background(), at))
	}
	return err
}
