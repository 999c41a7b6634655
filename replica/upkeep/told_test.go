package upkeep_test

import (
	"testing"
	"time"
)

// TestTold tells of each pack, with its size, and of each object that retention
// deletes.
func TestTold(t *testing.T) {
	t.Parallel()
	var packs, pruned, bytes int64
	tell := func(w *world) {
		w.opts.Packed = func(size int64) { packs, bytes = packs+1, bytes+size }
		w.opts.Pruned = func(objects int) { pruned += int64(objects) }
	}
	w := newWorld(t, tell)
	for range 30 {
		w.pass(time.Second)
		w.write(1)
		w.work()
	}
	if got := w.counter.Requests(); packs == 0 || packs != got.Put || bytes < packs*pageSize/10 || pruned != 0 {
		t.Errorf("told of %d packs with %d bytes and %d pruned objects; there were %+v", packs, bytes, pruned, got)
	}
	packs = 0
	w = newWorld(t, func(w *world) { retaining(w); tell(w); w.opts.NoPacks = true })
	w.live(60)
	if got := w.counter.Requests(); pruned == 0 || pruned != got.Delete || packs != 0 {
		t.Errorf("told of %d packs and %d pruned objects; there were %+v", packs, pruned, got)
	}
}
