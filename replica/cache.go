package replica

import (
	"sync/atomic"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// DefaultCacheMemory bounds the page images that the databases of a process keep
// together to make deltas from, and cacheBytes those of one.
const (
	DefaultCacheMemory = 64 << 20
	cacheBytes         = 16 << 20
)

// memory is what several may take of. Who is refused does with what it has.
type memory struct {
	size int64
	used atomic.Int64
}

func (m *memory) take(n int) bool {
	if m.used.Add(int64(n)) > m.size {
		m.used.Add(-int64(n))
		return false
	}
	return true
}

func (m *memory) give(n int) { m.used.Add(-int64(n)) }

// scarce tells that those who need none now should give back what they have.
func (m *memory) scarce() bool { return m.used.Load() > m.size/2 }

// pageCache keeps the newest images of pages that were written lately, so that
// the next image of one can be shipped as its difference without a read: see
// previous. It evicts by the clock algorithm.
type pageCache struct {
	from  *memory
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
		if i, ok = c.slot(len(image)); !ok {
			return nil
		}
		c.index[no] = i
	}
	s := &c.slots[i]
	s.no, s.sum, s.used = no, now, true
	copy(s.image, image)
	return nil
}

// slot gives a free slot, or that of a page that has not been written for long;
// none if there is no memory for the first.
func (c *pageCache) slot(size int) (i int, ok bool) {
	if c.index == nil {
		c.index = map[wal.PageNo]int{}
	}
	if len(c.slots) < cacheBytes/size && c.from.take(size) {
		c.slots = append(c.slots, slot{image: make([]byte, size)})
		return len(c.slots) - 1, true
	}
	if len(c.slots) == 0 {
		return 0, false
	}
	for {
		c.hand = (c.hand + 1) % len(c.slots)
		if s := &c.slots[c.hand]; s.used {
			s.used = false
			continue
		}
		delete(c.index, c.slots[c.hand].no)
		return c.hand, true
	}
}

// drop forgets everything and gives the memory back.
func (c *pageCache) drop() {
	for _, s := range c.slots {
		c.from.give(len(s.image))
	}
	*c = pageCache{from: c.from}
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
