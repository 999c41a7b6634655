package upkeep_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/disk/disktest"
	"tidemark/replica/retain"
	"tidemark/replica/upkeep"
	"tidemark/storage"
)

// trial is a story of packing, deleting and pruning, on a bucket and a disk of
// which one operation fails or is the last.
type trial struct {
	*world
	disk *disktest.Disk
	// hit tells that the operation has come.
	hit bool
	// ops are the operations.
	ops []string
	// snapped tells that the newest commit has a snapshot.
	snapped bool
	// restarts tells that the process ends with it, and another one goes on.
	restarts bool
	// checked are the archives of which every commit was restored.
	checked map[string]bool
}

func newTrial(t *testing.T, verdict disktest.Verdict, k int, restarts bool, checked map[string]bool) *trial {
	t.Helper()
	tr := &trial{restarts: restarts, checked: checked}
	tr.disk = disktest.New(func(n int, op string) disktest.Verdict {
		if tr.ops = append(tr.ops, op); n != k {
			return disktest.Verdict{}
		}
		tr.hit = true
		return verdict
	})
	tr.world = newWorld(t, func(w *world) {
		w.seen = faulty{w.bucket, tr.disk}
		w.opts.Retain, w.opts.Packing = true, upkeep.Packing{Newest: 2, Most: 4, Share: 3}
		w.opts.Policy = retain.Policy{History: 3*time.Hour + 10*time.Minute, Hourly: 5*time.Hour + 10*time.Minute, Grace: 70 * time.Minute}
		w.opts.Cache = upkeep.NewCache(tr.disk, w.dir+"/cache", 2000)
	})
	return tr
}

// tell tells the story.
func (tr *trial) tell() {
	tr.t.Helper()
	for hour := range 9 {
		for range 2 {
			tr.pass(30 * time.Minute)
			tr.write(1)
			tr.snapped = false
			tr.step()
		}
		if hour%2 == 1 {
			tr.snapshot()
			tr.snapped = true
			tr.step()
		}
	}
	tr.pass(2 * upkeep.Hold)
	tr.step()
}

// step lets the Keeper do what is due, whatever happens.
func (tr *trial) step() {
	tr.t.Helper()
	before := tr.hit
	tr.keeper.Work(tr.t.Context())
	if tr.hit != before {
		tr.check()
		if tr.restarts {
			tr.opts.Cache = upkeep.NewCache(tr.disk, tr.dir+"/cache", 2000)
			tr.start()
			if tr.snapped { // a restart has nothing to prune before the next snapshot
				l := tr.open().Listing()
				tr.keeper.PutSnapshot(l.Snapshots[len(l.Snapshots)-1], tr.now)
			}
		}
		tr.pass(30 * time.Second)
		tr.keeper.Work(tr.t.Context())
	}
	tr.knows()
}

// check restores every commit that the policy keeps; of the others none may come
// out wrong.
func (tr *trial) check() {
	tr.t.Helper()
	state := strings.Join(tr.keys(""), " ")
	if tr.checked[state] {
		return
	}
	tr.checked[state] = true
	kept := max(1, int(tr.last())-2*3)
	for _, id := range tr.all(1) {
		err := tr.restore(id)
		if int(id) >= kept && err != nil {
			tr.t.Errorf("TXID %v of %v: %v", id, tr.last(), err)
		}
		if errors.Is(err, errWrong) {
			tr.t.Errorf("TXID %v is restored wrong", id)
		}
	}
}

// TestEachOperation lets each operation fail, or be the last, before or after it is
// done. Every commit can be restored then, and what goes on comes to the same end.
func TestEachOperation(t *testing.T) {
	t.Parallel()
	whole := newTrial(t, disktest.Verdict{}, 0, false, map[string]bool{})
	whole.tell()
	t.Logf("%d operations, in the end %q", whole.disk.Ops(), whole.keys(""))
	for name, tt := range map[string]struct {
		late, restarts bool
	}{"fails": {}, "fails late": {late: true}, "ends": {restarts: true}, "ends late": {late: true, restarts: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checked := map[string]bool{}
			for i, op := range whole.ops {
				k := i + 1
				if tt.late && !strings.HasPrefix(op, "put ") && !strings.HasPrefix(op, "delete ") {
					continue // the disk has no such failures, and who reads does not care
				}
				tr := newTrial(t, disktest.Verdict{Err: storage.ErrUnreachable, Late: tt.late}, k, tt.restarts, checked)
				tr.tell()
				tr.check()
				tr.ends(whole, k)
				if t.Failed() {
					return
				}
			}
			t.Logf("%d archives checked", len(checked))
		})
	}
}

// ends compares the end with that of a trial in which nothing happens.
func (tr *trial) ends(whole *trial, k int) {
	tr.t.Helper()
	prefix := ""
	if tr.restarts { // it prunes later, and that can change what is joined
		prefix = "snapshot/"
		if l := tr.open().Listing(); len(l.Covered) > 0 || len(l.Segments) > 8 {
			tr.t.Errorf("operation %d: the log is %v and covers %v", k, l.Segments, l.Covered)
		}
	}
	if diff := cmp.Diff(whole.keys(prefix), tr.keys(prefix)); diff != "" {
		tr.t.Errorf("operation %d: in the end (-without +with):\n%s\n%s", k, diff, &tr.log)
	}
}
