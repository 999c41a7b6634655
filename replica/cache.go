package replica

import (
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// cacheBytes bounds the page images that are kept to make deltas from.
const cacheBytes = 32 << 20

// pageCache keeps the newest images of pages that were written lately, so that
// the next image of one can be shipped as its difference. It evicts by the clock
// algorithm. The zero value is ready.
type pageCache struct {
	index map[wal.PageNo]int
	slots []slot
	hand  int
}

type slot struct {
	no    wal.PageNo
	sum   state.Sum
	used  bool
	image []byte
}

// swap calls use with the page's image in the cache if its sum is old, and with
// nil if there is none, and then keeps the new image in its place.
func (c *pageCache) swap(no wal.PageNo, image []byte, old, now state.Sum, use func(prev []byte) error) error {
	i, ok := c.index[no]
	var prev []byte
	if ok && c.slots[i].sum == old {
		prev = c.slots[i].image
	}
	if err := use(prev); err != nil {
		return err
	}
	if !ok {
		i = c.slot(len(image))
		c.index[no] = i
	}
	s := &c.slots[i]
	s.no, s.sum, s.used = no, now, true
	copy(s.image, image)
	return nil
}

// slot gives a free slot, or that of a page that has not been written for long.
func (c *pageCache) slot(size int) int {
	if c.index == nil {
		c.index = map[wal.PageNo]int{}
	}
	if len(c.slots) < cacheBytes/size {
		c.slots = append(c.slots, slot{image: make([]byte, size)})
		return len(c.slots) - 1
	}
	for {
		c.hand = (c.hand + 1) % len(c.slots)
		if s := &c.slots[c.hand]; s.used {
			s.used = false
			continue
		}
		delete(c.index, c.slots[c.hand].no)
		return c.hand
	}
}

// truncate forgets the pages past the database's end: a page that comes back is
// not what it was.
func (c *pageCache) truncate(last wal.PageNo) {
	for no, i := range c.index {
		if no > last {
			delete(c.index, no)
			c.slots[i].no, c.slots[i].used = 0, false
		}
	}
}
