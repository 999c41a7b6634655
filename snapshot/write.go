package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// PageSource is where [Write] gets pages from: the database as of the
// snapshot's TXID.
type PageSource interface {
	// ReadPages fills buf with len(buf)/page size consecutive pages from
	// first on. Calls come one at a time, in ascending page order, never for
	// the lock-byte page and never past the header's Pages; each is for at
	// most 256 KiB. buf is not to be kept.
	ReadPages(first wal.PageNo, buf []byte) error
}

// Changes is what makes a snapshot incremental.
type Changes struct {
	// Base is the page sums of the database as of the header's Base. It is
	// only read.
	Base *state.Table
	// Runs is every page that differs from then, in ascending order, without
	// the lock-byte page. Pages that the database has grown by and that are
	// not listed are zeros.
	Runs []Run
}

// WriteOptions are the choices of [Write]; the zero value is a good one.
type WriteOptions struct {
	// Changes is for an incremental snapshot; nil makes a full one.
	Changes *Changes
	// Workers is how many goroutines hash and compress; 0 means one for each
	// processor. The bytes written don't depend on it. Memory is about 1.2 MiB
	// for each, and 8 bytes for each page of the database.
	Workers int
	// Progress, if not nil, is called now and then, one call at a time, with
	// the number of bytes of page images that have been written so far.
	Progress func(bytes int64)
}

// Summary is what [Write] wrote.
type Summary struct {
	// Checksum is that of the state, as it stands in the trailer.
	Checksum state.Checksum
	// Table is the page sums of the whole database; it is the caller's.
	Table *state.Table
	// Pages is how many page images were stored.
	Pages int
	// Stored is the length of the object in bytes.
	Stored int64
}

// Write writes a snapshot of the pages that src gives to w, in order and in
// bounded memory. It uses src and w from one goroutine at a time each, at once,
// and not after it returns. It returns ctx's error when that ends, but does not
// interrupt a call of src or w. After any error what was written is
// worthless.
func Write(ctx context.Context, w io.Writer, h Header, src PageSource, opts WriteOptions) (Summary, error) {
	runs, table, err := opts.scope(h)
	if err != nil {
		return Summary{}, fmt.Errorf("write snapshot: %w", err)
	}
	o := &output{w: w, header: h, table: table, progress: opts.Progress}
	o.sum.Reset()
	if err = o.write(ctx, src, runs, opts.Workers); err != nil {
		return Summary{}, fmt.Errorf("write snapshot: %w", err)
	}
	return Summary{Checksum: table.Checksum(), Table: table, Pages: o.pages, Stored: o.off}, nil
}

// scope gives the pages to store and the table to enter their sums in.
func (opts WriteOptions) scope(h Header) ([]Run, *state.Table, error) {
	if err := h.check(); err != nil {
		return nil, nil, err
	}
	if (h.Base == 0) != (opts.Changes == nil) {
		return nil, nil, fmt.Errorf("base TXID %v and changes given or not don't agree", h.Base)
	}
	if opts.Changes == nil {
		return h.wholeDatabase(), state.TableOf(h.PageSize, make([]state.Sum, h.Pages)), nil
	}
	if opts.Changes.Base == nil || opts.Changes.Base.PageSize() != h.PageSize {
		return nil, nil, errors.New("changes without page sums of the base in the same page size")
	}
	if err := h.checkRuns(opts.Changes.Runs); err != nil {
		return nil, nil, err
	}
	table := opts.Changes.Base.Clone()
	table.Resize(h.Pages)
	return opts.Changes.Runs, table, nil
}

// output is the object being written. One goroutine at a time uses it.
type output struct {
	w        io.Writer
	header   Header
	table    *state.Table
	progress func(int64)

	off    int64
	sum    xxhash.Digest
	pages  int
	blocks []BlockInfo
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	o.off += int64(n)
	_, _ = o.sum.Write(b[:n]) // never fails
	return n, err
}

func (o *output) write(ctx context.Context, src PageSource, runs []Run, workers int) error {
	if _, err := o.Write(o.header.append(nil)); err != nil {
		return err
	}
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g, gctx := errgroup.WithContext(ctx)
	work, order, free := produce(gctx, g, o.header, src, runs, 2*workers)
	for range workers {
		g.Go(func() error {
			consume(work, o.header)
			return nil
		})
	}
	g.Go(func() error { return o.collect(gctx, order, free) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.finish()
}

// job is one page block on its way from source to output.
type job struct {
	runs    []Run
	payload []byte // list of runs and page images
	images  []byte // the latter
	sums    []state.Sum
	block   []byte        // encoded
	done    chan struct{} // gets one value when sums and block are there
}

// produce starts to read src into jobs, of which there are n. Each goes into
// work, for whoever takes it, and into order, which keeps the order of pages;
// who is done with it sends it to free. Both end when there are no more pages,
// or early when ctx ends. All channels have room for all jobs, so that nobody
// ever waits to send.
func produce(ctx context.Context, g *errgroup.Group, h Header, src PageSource, runs []Run, n int,
) (work, order <-chan *job, free chan<- *job) {
	workc, orderc, freec := make(chan *job, n), make(chan *job, n), make(chan *job, n)
	for range n {
		freec <- &job{done: make(chan struct{}, 1)}
	}
	g.Go(func() error {
		defer close(workc)
		defer close(orderc)
		for p := h.plan(runs); ; {
			var j *job
			select {
			case j = <-freec:
			case <-ctx.Done():
				return ctx.Err()
			}
			if j.runs = p.next(j.runs); len(j.runs) == 0 {
				return nil
			}
			if err := j.read(src, h.PageSize); err != nil {
				return err
			}
			workc <- j
			orderc <- j
		}
	})
	return workc, orderc, freec
}

// read fills the payload.
func (j *job) read(src PageSource, size wal.PageSize) error {
	j.payload = appendRuns(j.payload[:0], j.runs)
	list, length := len(j.payload), pageCount(j.runs)*int(size)
	if cap(j.payload) < list+length {
		j.payload = append(make([]byte, 0, list+length), j.payload...)
	}
	j.payload = j.payload[:list+length]
	j.images = j.payload[list:]
	buf := j.images
	for _, r := range j.runs {
		n := int(r.Pages) * int(size)
		if err := src.ReadPages(r.First, buf[:n:n]); err != nil {
			return fmt.Errorf("read %d pages from %v: %w", r.Pages, r.First, err)
		}
		buf = buf[n:]
	}
	return nil
}

// consume hashes and compresses until work ends.
func consume(work <-chan *job, h Header) {
	for j := range work {
		j.sums = j.sums[:0]
		_ = h.eachPage(j.runs, j.images, func(no wal.PageNo, page []byte) error {
			j.sums = append(j.sums, state.SumPage(no, page))
			return nil
		})
		j.block = block.Append(j.block[:0], kindPages, j.payload)
		j.done <- struct{}{}
	}
}

// collect writes the blocks in order.
func (o *output) collect(ctx context.Context, order <-chan *job, free chan<- *job) error {
	for j := range order {
		select {
		case <-j.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		at := o.off
		if _, err := o.Write(j.block); err != nil {
			return err
		}
		o.blocks = append(o.blocks, BlockInfo{
			Offset: at, Stored: int64(len(j.block)), First: j.runs[0].First, Pages: len(j.sums),
		})
		sums := j.sums
		for _, r := range j.runs {
			for no := r.First; no < r.end(); no++ {
				o.table.Set(no, sums[0])
				sums = sums[1:]
			}
		}
		o.pages += len(j.sums)
		free <- j
		if o.progress != nil {
			o.progress(int64(o.pages) * int64(o.header.PageSize))
		}
	}
	return nil
}

// finish writes what follows the page blocks.
func (o *output) finish() error {
	t := trailer{sums: o.off, blocks: uint32(len(o.blocks)), checksum: o.table.Checksum()}
	var raw, buf []byte
	for from, n := uint32(0), o.table.Len(); from < n; from += sumsPerBlock {
		raw = o.table.AppendBinary(raw[:0], from, min(n, from+sumsPerBlock))
		buf = block.Append(buf[:0], kindSums, raw)
		if _, err := o.Write(buf); err != nil {
			return err
		}
	}
	t.index = o.off
	for rest := o.blocks; len(rest) > 0; {
		n := min(len(rest), entriesABlock)
		raw = appendEntries(raw[:0], rest[:n])
		buf = block.Append(buf[:0], kindIndex, raw)
		if _, err := o.Write(buf); err != nil {
			return err
		}
		rest = rest[n:]
	}
	_, _ = o.sum.Write(t.appendFields(nil))
	t.object = o.sum.Sum64()
	_, err := o.Write(t.append(nil))
	return err
}
