package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// copied is a database of some size, and the replicas of it that a first copy has made
// and a restore reads. The works of one kind of content share it, so that it is made
// once, and whichever of them is asked for alone makes what it needs.
type copied struct {
	what content
	// db is the database, other a copy that Litestream has for itself, since it
	// writes tables of its own. Empty: not made yet.
	db, other string
	// at is where each side has put its newest replica.
	at map[side]place
}

// Names of figures that several works have.
const (
	timeFigure     = "time"
	cpuFigure      = "CPU"
	memoryFigure   = "peak RSS"
	storedFigure   = "stored"
	objectsFigure  = "objects"
	requestsFigure = "requests"
	downloadFigure = "download"
	copyFigure     = "cp and fsync"
)

const (
	copyTarget    = 1 / 2.5 // of Litestream's time
	copyCPUTarget = 0.5     // of Litestream's
	// restoreTarget is of the slower one of a plain download and cp.
	restoreTarget    = 1.3
	restoreRivaled   = 1 / 3.0 // of Litestream's time
	memoryLimit      = 128e6   // bytes, whatever the size
	memoryText       = "peak RSS at most 128 MB"
	replicateCommand = "replicate"
	restoreCommand   = "restore"
)

func copySize(p profile) int64 { return pick(p, 2<<20, 128<<20, int64(1<<30)) }

func copySizes(p profile) string {
	return fmt.Sprintf("%d MiB, files in the page cache", copySize(p)>>20)
}

// copyWorks are first copies and restores.
func copyWorks() []work {
	titles := map[content]string{records: "semi-compressible rows", blobs: "incompressible blobs"}
	var works []work
	for _, what := range []content{records, blobs} {
		c := &copied{what: what, at: map[side]place{}}
		works = append(works, c.firstCopy(titles[what]), c.restore(titles[what]))
	}
	return append(works, tailWorks()...)
}

// rounds are fewer for blobs, of which less is to be learnt.
func (c *copied) rounds(forShort int) func(p profile) int {
	return func(p profile) int {
		if c.what == blobs {
			return pick(p, 1, 1, 2)
		}
		return pick(p, 1, forShort, 3)
	}
}

func (c *copied) firstCopy(title string) work {
	return work{
		Name: "first-copy-" + string(c.what), Title: "first copy, " + title, Sizes: copySizes,
		Short: true, Full: true, Rounds: c.rounds(2),
		Sides: []side{tidemark, litestream, plain, folder},
		Targets: []target{
			{Figure: timeFigure, Against: litestream, Relation: atMost, Factor: copyTarget, Text: "at least 2.5 × faster than Litestream"},
			{Figure: cpuFigure, Against: litestream, Relation: atMost, Factor: copyCPUTarget, Text: "at most half of Litestream's CPU"},
			{Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
			{Side: folder, Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
		},
		Prepare: c.prepare,
		Run:     c.copyBy,
	}
}

func (c *copied) restore(title string) work {
	return work{
		Name: "restore-" + string(c.what), Title: "restore, " + title, Sizes: copySizes,
		Short: true, Full: true, Rounds: c.rounds(3),
		Sides: []side{tidemark, litestream, plain, folder},
		Targets: []target{
			{
				Figure: timeFigure, Against: plain, Relation: atMost, Factor: restoreTarget,
				Text: "at most 1.3 × the slower one of a plain download and cp + fsync",
			},
			{
				Side: folder, Figure: timeFigure, Against: plain, Of: copyFigure, Relation: atMost, Factor: restoreTarget,
				Text: "from a folder at most 1.3 × cp + fsync",
			},
			{Figure: timeFigure, Against: litestream, Relation: atMost, Factor: restoreRivaled, Text: "at least 3 × faster than Litestream"},
			{Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
			{Side: folder, Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
		},
		Prepare: c.prepareRestore,
		Run:     c.restoreBy,
		Clean:   c.clean,
	}
}

// prepare makes the database.
func (c *copied) prepare(ctx context.Context, b *bench, p profile) error {
	if c.db != "" {
		return nil
	}
	dir, err := b.scratch(string(c.what))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "app.db")
	if err := makeDatabase(ctx, path, c.what, copySize(p)); err != nil {
		return err
	}
	if b.litestream != "" {
		c.other = filepath.Join(dir, "other.db")
		if _, err := plainCopy(path, c.other); err != nil {
			return err
		}
	}
	c.db = path
	return nil
}

// prepareRestore makes the replicas that no first copy has left.
func (c *copied) prepareRestore(ctx context.Context, b *bench, p profile) error {
	if err := c.prepare(ctx, b, p); err != nil {
		return err
	}
	for _, s := range []side{tidemark, litestream, folder} {
		if _, ok := c.at[s]; ok || s == litestream && b.litestream == "" {
			continue
		}
		if _, err := c.copyBy(ctx, b, s, 0); err != nil && !errors.Is(err, errUnmeasured) {
			return fmt.Errorf("make the replica of %s: %w", s, err)
		}
	}
	return nil
}

// clean removes the database and its replicas.
func (c *copied) clean(b *bench) error {
	var err error
	for s, at := range c.at {
		err = errors.Join(err, b.empty(context.Background(), at))
		delete(c.at, s)
	}
	if c.db != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Dir(c.db)))
	}
	c.db, c.other = "", ""
	return err
}

// copyBy has one side make a first copy, which takes the place of its last one.
func (c *copied) copyBy(ctx context.Context, b *bench, s side, round int) (figures []figure, err error) {
	if was, ok := c.at[s]; ok {
		delete(c.at, s)
		if err := b.empty(ctx, was); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(c.db), "copy-")
	if err != nil {
		return nil, err
	}
	at, err := b.place(ctx, s, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if s == folder && err == nil {
			return // its replica is there
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if s == plain {
		return c.copyPlainly(ctx, b, at, dir)
	}
	figures, err = b.counted(ctx, at, func() ([]figure, error) {
		if s == litestream {
			return b.litestreamCopy(ctx, c.other, at, dir)
		}
		return b.measured(ctx, b.tidemark, replicateCommand, "--once", "--state-dir", filepath.Join(dir, "state"), c.db, at.url)
	})
	if err != nil {
		return nil, err
	}
	objects, stored, err := listed(ctx, at)
	c.at[s] = at
	return append(figures,
		figure{storedFigure, "B", float64(stored)},
		figure{objectsFigure, "count", float64(len(objects))}), err
}

// copyPlainly uploads the database's file as it is, and copies it.
func (c *copied) copyPlainly(ctx context.Context, b *bench, at place, dir string) ([]figure, error) {
	upload, err := plainUpload(ctx, b.minio, c.db, at)
	if err != nil {
		return nil, err
	}
	_, stored, err := listed(ctx, at)
	if err != nil {
		return nil, err
	}
	if err := b.empty(ctx, at); err != nil {
		return nil, err
	}
	spent, err := plainCopy(c.db, filepath.Join(dir, "copy.db"))
	return []figure{seconds(timeFigure, upload), {storedFigure, "B", float64(stored)}, seconds(copyFigure, spent)}, err
}

// restoreBy has one side restore its replica.
func (c *copied) restoreBy(ctx context.Context, b *bench, s side, round int) (figures []figure, err error) {
	dir, err := b.scratch(restoreCommand)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "out.db")
	if s == plain {
		return c.restorePlainly(ctx, b, out)
	}
	at, ok := c.at[s]
	if !ok {
		return nil, fmt.Errorf("%w: there is no replica", errUnmeasured)
	}
	source := c.db
	if s == litestream {
		source = c.other
		figures, err = b.counted(ctx, at, func() ([]figure, error) {
			return b.litestreamRestore(ctx, b.minio.Endpoint, source, at, dir, out)
		})
	} else {
		figures, err = b.restored(ctx, at, out)
	}
	if err == nil {
		err = sameSize(source, out)
	}
	if err != nil || s == litestream || round > 0 {
		return figures, err
	}
	checked, err := b.restoredChecked(ctx, at, filepath.Join(dir, "checked.db"))
	return append(figures, checked), err
}

// restorePlainly downloads the replica of tidemark's as bytes, and copies the
// database. The slower one of the two is what a restore could at best take.
func (c *copied) restorePlainly(ctx context.Context, b *bench, out string) ([]figure, error) {
	spent, err := plainCopy(c.db, out)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(out); err != nil {
		return nil, err
	}
	at, ok := c.at[tidemark]
	if !ok { // without MinIO
		return []figure{seconds(timeFigure, spent), seconds(copyFigure, spent)}, nil
	}
	download, err := plainDownload(ctx, b.minio, at)
	return []figure{
		seconds(timeFigure, max(download, spent)), seconds(downloadFigure, download), seconds(copyFigure, spent),
	}, err
}

// restored has tidemark restore, which proves the result by its state checksum.
func (b *bench) restored(ctx context.Context, at place, out string) ([]figure, error) {
	return b.counted(ctx, at, func() ([]figure, error) {
		return b.measured(ctx, b.tidemark, restoreCommand, at.url, "-o", out, "--integrity", "none")
	})
}

// restoredChecked is how long it takes if SQLite checks the result, too, which is what
// tidemark does if it is not told otherwise.
func (b *bench) restoredChecked(ctx context.Context, at place, out string) (figure, error) {
	figures, err := b.measured(ctx, b.tidemark, restoreCommand, at.url, "-o", out)
	if err != nil {
		return figure{}, err
	}
	checked := figures[0] // the time
	checked.Name = "time with quick_check"
	return checked, nil
}

// counted adds the requests that MinIO has had meanwhile, if the replica is there.
func (b *bench) counted(ctx context.Context, at place, do func() ([]figure, error)) ([]figure, error) {
	if at.bucket == "" {
		return do()
	}
	before, err := b.minioTraffic(ctx)
	if err != nil {
		return nil, err
	}
	figures, err := do()
	if err != nil {
		return nil, err
	}
	after, err := b.minioTraffic(ctx)
	made := after.since(before)
	return append(figures, figure{requestsFigure, "count", made.puts + made.others}), err
}

// measured runs a program to its end and tells what that took: the time first.
func (b *bench) measured(ctx context.Context, name string, args ...string) ([]figure, error) {
	began := time.Now()
	p, err := b.start(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	if err := p.wait(); err != nil {
		return nil, err
	}
	figures := []figure{seconds(timeFigure, time.Since(began))}
	if spent, ok := p.cpu(); ok {
		figures = append(figures, figure{cpuFigure, "CPU-s", spent.Seconds()})
	}
	if size, ok := p.memory(); ok {
		figures = append(figures, figure{memoryFigure, "B", float64(size)})
	}
	return figures, nil
}

func seconds(name string, d time.Duration) figure { return figure{name, "s", d.Seconds()} }

// sameSize is an error if a restored file has another length than the database: one
// that was cut short is fast.
func sameSize(want, got string) error {
	n, err := fileSize(want)
	if err != nil {
		return err
	}
	m, err := fileSize(got)
	if err == nil && n != m {
		err = fmt.Errorf("%s has %d bytes, %s has %d", got, m, want, n)
	}
	return err
}
