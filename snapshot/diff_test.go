package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// What Diff leaves out is the same in both states, or zeros that the database grew
// by; what it holds differs, in as few runs as there can be.
func TestDiff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(0, 40)
		base, now := state.NewTable(512), state.NewTable(512)
		base.Resize(uint32(length.Draw(t, "before")))
		now.Resize(uint32(length.Draw(t, "after")))
		want := map[wal.PageNo]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			no := wal.PageNo(length.Draw(t, "page")) + 1
			sum := state.Sum(rapid.IntRange(1, 3).Draw(t, "sum"))
			if uint32(no) <= base.Len() && rapid.Bool().Draw(t, "in base") {
				base.Set(no, sum)
			} else if uint32(no) <= now.Len() {
				now.Set(no, sum)
			}
		}
		grown := base.Clone()
		grown.Resize(now.Len())
		for i := range now.Len() {
			if no := wal.PageNo(i + 1); grown.At(no) != now.At(no) {
				want[no] = true
			}
		}
		got := map[wal.PageNo]bool{}
		end := wal.PageNo(0)
		for _, r := range snapshot.Diff(base, now) {
			if r.First <= end {
				t.Fatalf("a run from %v after one to %v", r.First, end)
			}
			for n := range r.Pages {
				got[r.First+wal.PageNo(n)] = true
			}
			end = r.First + wal.PageNo(r.Pages)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("differing pages:\n%s", d)
		}
	})
}

func TestDiffLeavesLockPageOut(t *testing.T) {
	t.Parallel()
	const size = 65536
	lock := wal.PageSize(size).LockPage()
	sums := make([]state.Sum, lock+1)
	base := state.TableOf(size, sums)
	now := base.Clone()
	for no := lock - 1; no <= lock+1; no++ {
		now.Set(no, 1)
	}
	want := []snapshot.Run{{First: lock - 1, Pages: 1}, {First: lock + 1, Pages: 1}}
	if d := cmp.Diff(want, snapshot.Diff(base, now)); d != "" {
		t.Error(d)
	}
}
