package snapshot

import (
	"fmt"

	"tidemark/snapshot/block"
	"tidemark/wal"
)

// DecodeRuns is [Reader.DecodeBlocks] for who wants pages that follow one another
// at once: it calls fn for each run of consecutive pages, in ascending order, with
// the number of its first page and the images of all of it, one after the other.
// They are valid until fn returns. Errors are the same.
func (r *Reader) DecodeRuns(first int, data []byte, fn func(first wal.PageNo, images []byte) error) error {
	s, _ := r.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{}
	}
	defer r.scratch.Put(s)
	for n := first; len(data) > 0; n++ {
		if n < 0 || n >= len(r.blocks) {
			return fmt.Errorf("decode snapshot block %d of %d", n, len(r.blocks))
		}
		images, rest, err := r.decode(s, n, data)
		if err != nil {
			return fmt.Errorf("decode snapshot block %d: %w", n, &block.Error{Offset: r.blocks[n].Offset, Err: err})
		}
		for _, run := range s.runs {
			size := int(run.Pages) * int(r.header.PageSize)
			if err := fn(run.First, images[:size:size]); err != nil {
				return err
			}
			images = images[size:]
		}
		data = rest
	}
	return nil
}
