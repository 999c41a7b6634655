package btree

import (
	"github.com/cespare/xxhash/v2"

	"tidemark/wal"
)

// twins finds interior pages that are the same. No two can be so: they would have the
// same children. SQLite leaves such copies on free pages only.
type twins struct {
	first map[uint64]wal.PageNo
	pairs [][2]wal.PageNo
}

func newTwins() *twins { return &twins{first: map[uint64]wal.PageNo{}} }

func (t *twins) add(no wal.PageNo, page []byte) {
	sum := xxhash.Sum64(page)
	if other, ok := t.first[sum]; ok {
		t.pairs = append(t.pairs, [2]wal.PageNo{other, no})
		return
	}
	t.first[sum] = no
}

// both gives the pages that have a twin which is not free.
func (t *twins) both(free []bool) map[wal.PageNo]bool {
	out := map[wal.PageNo]bool{}
	for _, p := range t.pairs {
		if !free[p[0]] && !free[p[1]] {
			out[p[0]], out[p[1]] = true, true
		}
	}
	return out
}
