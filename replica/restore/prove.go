package restore

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// proofChunk is how much of the file is summed at a time.
const proofChunk = 256 << 10

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
				sums[w] += state.SumPages(want.PageSize, wal.PageNo(off/int64(want.PageSize))+1, part)
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
