package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

const (
	// rangeSize is the aim for one ranged read of a snapshot, workers the
	// number of them at once. Their product bounds memory.
	rangeSize = 4 << 20
	workers   = 6
)

// point is a commit and the state after it.
type point struct {
	TXID     state.TXID
	Time     time.Time
	Pages    uint32
	Checksum state.Checksum
	PageSize wal.PageSize
}

// writeSnapshot downloads the snapshot's pages into the file, which gets the
// database's length: what no block holds is zeros.
func (j *job) writeSnapshot(ctx context.Context, f *os.File) (point, error) {
	s := j.plan.Snapshot
	r, err := j.archive.Snapshot(ctx, s)
	if err != nil {
		return point{}, err
	}
	h := r.Header()
	if err := f.Truncate(int64(h.Pages) * int64(h.PageSize)); err != nil {
		return point{}, fmt.Errorf("size the output: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	blocks, around := r.Blocks(), s.Size
	for first := 0; first < len(blocks) && gctx.Err() == nil; {
		end := first + 1
		for end < len(blocks) && blocks[end].Offset+blocks[end].Stored-blocks[first].Offset <= rangeSize {
			end++
		}
		from, last := first, blocks[end-1]
		around -= last.Offset + last.Stored - blocks[first].Offset
		g.Go(func() error {
			return j.writeBlocks(gctx, f, r, from, last.Offset+last.Stored-blocks[from].Offset)
		})
		first = end
	}
	if err := g.Wait(); err != nil {
		return point{}, fmt.Errorf("restore %s: %w", s.Key(), err)
	}
	j.downloaded(int(around)) // the index, and page sums that are not needed
	return point{
		TXID: h.TXID, Time: time.UnixMilli(h.Time).UTC(), Pages: h.Pages,
		Checksum: r.Checksum(), PageSize: h.PageSize,
	}, nil
}

// writeBlocks downloads n bytes of consecutive blocks and writes their pages,
// joining neighbours to one write.
func (j *job) writeBlocks(ctx context.Context, f io.WriterAt, r *snapshot.Reader, first int, n int64) error {
	data := make([]byte, n)
	obj := archive.NewObject(ctx, j.archive.Bucket(), j.plan.Snapshot.Key(), j.plan.Snapshot.Size)
	if _, err := obj.ReadAt(data, r.Blocks()[first].Offset); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	j.downloaded(len(data))
	size := r.Header().PageSize
	w := run{f: f, size: size}
	err := r.DecodeBlocks(first, data, w.add)
	return errors.Join(err, w.flush())
}

// run gathers pages that follow one another into one write.
type run struct {
	f     io.WriterAt
	size  wal.PageSize
	first wal.PageNo
	next  wal.PageNo
	buf   []byte
}

func (w *run) add(no wal.PageNo, page []byte) error {
	if no != w.next || len(w.buf) >= 256<<10 {
		if err := w.flush(); err != nil {
			return err
		}
		w.first = no
	}
	w.buf = append(w.buf, page...)
	w.next = no + 1
	return nil
}

func (w *run) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(w.buf, w.size.Offset(w.first))
	w.buf = w.buf[:0]
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// proofChunk is how much of the file is summed at a time.
const proofChunk = 1 << 20

// prove reads the whole file back and compares the sum over its pages with the
// recorded state checksum.
func prove(ctx context.Context, f *os.File, want point) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the output: %w", err)
	}
	length := int64(want.Pages) * int64(want.PageSize)
	if info.Size() != length {
		return fmt.Errorf("%w: TXID %v: %d bytes, want %d", ErrChecksum, want.TXID, info.Size(), length)
	}
	n := runtime.GOMAXPROCS(0)
	sums := make([]state.Checksum, n)
	g, ctx := errgroup.WithContext(ctx)
	for w := range n {
		g.Go(func() error {
			buf := make([]byte, proofChunk)
			for off := int64(w) * proofChunk; off < length; off += int64(n) * proofChunk {
				part := buf[:min(proofChunk, length-off)]
				if _, err := f.ReadAt(part, off); err != nil {
					return fmt.Errorf("read the output back: %w", err)
				}
				sums[w] += sumPages(want.PageSize, off, part)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var got state.Checksum
	for _, s := range sums {
		got += s
	}
	if got != want.Checksum {
		return fmt.Errorf("%w: TXID %v has state %v, recorded is %v", ErrChecksum, want.TXID, got, want.Checksum)
	}
	return nil
}

func sumPages(size wal.PageSize, off int64, b []byte) state.Checksum {
	var sum state.Checksum
	lock := size.LockPage()
	no := wal.PageNo(off/int64(size)) + 1
	for ; len(b) > 0; b = b[size:] {
		if no != lock {
			sum += state.Checksum(state.SumPage(no, b[:size]))
		}
		no++
	}
	return sum
}
