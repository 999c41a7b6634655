package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
)

// ErrRestless says that the replica was packed or pruned faster than it could be
// read, again and again.
var ErrRestless = errors.New("the replica changes faster than it can be verified")

const (
	// tries is how many times a replica is listed whose objects vanish.
	tries = 10
	// DefaultParallel is how many objects are read at a time by default.
	DefaultParallel = 4
	// memory bounds what the objects take that are read at a time.
	memory = 256 << 20
)

// Options are what Run is to do.
type Options struct {
	// Bucket holds the replica.
	Bucket storage.Bucket
	// Level is how far to go, Sample what of the objects is read at the level
	// Objects. Other levels read all.
	Level  Level
	Sample Sample
	// Points is how many commits are restored beside the newest, at the level
	// Restore. Seed draws them, and a Sample's share.
	Points int
	Seed   uint64
	// Parallel is how many objects are read, or commits restored, at a time; 0 is
	// DefaultParallel.
	Parallel int
	// TempDir is where databases are restored; "" is the system's folder.
	TempDir string
	// Against is the live database to compare with, nil for none; MaxLag holds it
	// to a lag, nil for none.
	Against *Live
	MaxLag  *Limit
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Logger is told of the steps. It must not be nil.
	Logger *slog.Logger
	// Progress, if not nil, is told the bytes read and their total. It is called
	// from several goroutines.
	Progress func(done, total int64)
}

// Run verifies a replica. The report is true as far as it goes also if there is an
// error; then something kept Run from looking: storage, the disk, or ctx. Of a
// bucket without a replica the error is archive.ErrNoReplica. What is wrong with a
// replica is no error but a Finding.
func Run(ctx context.Context, opts Options) (*Report, error) {
	began := time.Now()
	if opts.Parallel < 1 {
		opts.Parallel = DefaultParallel
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	counter := storage.Count(opts.Bucket)
	v := &verifier{
		opts: opts, bucket: counter, report: &Report{Level: opts.Level, Seed: opts.Seed, Counts: map[Class]Count{}},
		bad: map[string]bool{}, seen: map[string]bool{}, read: map[string]bool{},
	}
	err := v.run(ctx)
	r := v.report
	r.Requests, r.Bytes, r.Took = counter.Requests(), v.bytes.Load(), time.Since(began)
	r.Findings = append(r.Findings, v.listed...)
	r.sort()
	return r, err
}

// verifier is one run. Its goroutines share bytes and total only.
type verifier struct {
	opts   Options
	bucket storage.Bucket
	report *Report

	// meta is what tidemark.json says, nil if that can't be read. inv is what was
	// listed last; looked is what that was when the objects had been read, nil before:
	// what has come since was not verified.
	meta        *meta
	inv, looked *inventory
	// bad are the keys of objects that can't be relied on, seen the findings that
	// there are, by what they say: a second look finds the same again.
	bad, seen map[string]bool
	// listed are the findings of the last listing.
	listed []Finding
	// read are the objects that were read to their end, by key.
	read map[string]bool

	// bytes have come from storage; done and total are what Progress is told.
	bytes, done, total atomic.Int64
}

// meta is what all objects of the replica repeat.
type meta struct {
	replica [16]byte
	size    wal.PageSize
}

func (v *verifier) run(ctx context.Context) error {
	if err := v.list(ctx); err != nil {
		return err
	}
	defer v.conclude()
	var live *comparing
	if v.meta != nil && (v.opts.Against != nil || v.opts.MaxLag != nil) {
		// First: then all that they have waited for is verified, too.
		var err error
		if live, err = v.beside(ctx); err != nil {
			return err
		}
	}
	if v.opts.Level >= Objects {
		if err := v.content(ctx); err != nil {
			return err
		}
	}
	v.looked = v.inv
	if v.opts.Level >= Restore && v.meta != nil {
		if err := v.restores(ctx); err != nil {
			return err
		}
	}
	if live != nil {
		return live.conclude(ctx)
	}
	return nil
}

// beside reads the live database, waits for what it holds to be shipped, looks how
// far behind that was, and lists the replica as it is then.
func (v *verifier) beside(ctx context.Context) (live *comparing, err error) {
	if v.opts.Against != nil {
		if live, err = v.against(ctx); err != nil {
			return nil, err
		}
	}
	if v.opts.MaxLag != nil {
		return live, v.lag(ctx)
	}
	return live, v.list(ctx)
}

// list lists the replica and looks at what the listing shows, until nothing of it
// vanishes on the way.
func (v *verifier) list(ctx context.Context) error {
	found, err := v.settled(ctx)
	if err != nil {
		return err
	}
	v.inv, v.meta = found.inv, found.meta
	for key := range found.bad {
		v.bad[key] = true
	}
	if v.looked != nil {
		return nil // what has come since is not what is verified
	}
	v.listed, v.report.Waiting, v.report.Gaps = found.findings, found.waiting, found.gaps
	if found.meta != nil {
		v.report.Replica = fmt.Sprintf("%x", found.meta.replica)
	}
	return nil
}

// settled surveys the replica. What hangs loose can be so since it is just being
// pruned: then it is surveyed again, as long as it changes.
func (v *verifier) settled(ctx context.Context) (last *survey, err error) {
	for range tries {
		found, err := v.survey(ctx)
		if errors.Is(err, storage.ErrNotExist) {
			v.opts.Logger.Info("an object is gone that was to be read; listing the replica again", slog.Any("err", err))
			continue
		}
		if err != nil {
			return nil, err
		}
		if !found.loose || last != nil && last.inv.same(found.inv) {
			return found, nil
		}
		last = found
	}
	if last == nil {
		return nil, ErrRestless
	}
	return last, nil
}

// found notes a finding, once.
func (v *verifier) found(f Finding) {
	id := string(f.Check) + f.Key + f.Problem
	if v.seen[id] {
		return
	}
	v.seen[id] = true
	v.report.Findings = append(v.report.Findings, f)
}

// damaged notes that an object can't be relied on, and what that costs; once, since
// what comes after is most likely of the same cause.
func (v *verifier) damaged(check Check, class Class, key, problem string) {
	if v.bad[key] {
		return
	}
	v.found(damage(v.inv, check, class, key, problem))
	v.bad[key] = true
}

// conclude says what was read, and what can be restored, as far as is known now.
func (v *verifier) conclude() {
	inv := v.looked
	if inv == nil {
		inv = v.inv
	}
	v.report.Counts = inv.counts(v.read)
	if v.meta != nil {
		v.report.Ranges = inv.spans(reachable(inv.read(), inv.snaps, v.bad))
	}
}

// isDamage tells an object that is not what it should be from one that could not be
// read.
func isDamage(err error) bool {
	return errors.Is(err, block.ErrCorrupt) || errors.Is(err, block.ErrVersion) || errors.Is(err, archive.ErrBroken)
}

// open begins to read an object from an offset on. What comes is counted.
func (v *verifier) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := v.bucket.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	return &counted{r, v}, nil
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	v *verifier
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.v.bytes.Add(int64(n))
	if total := c.v.total.Load(); total > 0 && c.v.opts.Progress != nil {
		c.v.opts.Progress(min(c.v.done.Add(int64(n)), total), total)
	}
	return n, err
}

// source reads ranges of an object.
type source struct {
	ctx context.Context //nolint:containedctx // io.ReaderAt takes none
	v   *verifier
	key string
}

// ReadAt reads a range with one Get.
func (s source) ReadAt(p []byte, off int64) (int, error) {
	r, err := s.v.open(s.ctx, s.key, off, int64(len(p)))
	if errors.Is(err, storage.ErrRange) {
		return 0, io.EOF // it is shorter than it was listed
	}
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if err == io.ErrUnexpectedEOF { //nolint:errorlint // wrapped, it is a connection that broke
		err = io.EOF
	}
	return n, errors.Join(err, r.Close())
}

// point is a commit and the state after it.
type point struct {
	id       state.TXID
	checksum state.Checksum
	pages    uint32
	time     time.Time
}
