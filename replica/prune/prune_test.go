package prune_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/prune"
	"tidemark/replica/restore"
	"tidemark/replica/retain"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// aged is a replica of 720 commits, one an hour, of which something goes:
// everything but a few snapshots and what a mark needs, before the last week.
func aged(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.snapshots(1, 240, 540)
	f.adding(1, 24, 36)
	f.adding(24, 48, 60)
	f.adding(240, 260)
	f.adding(240, 480)
	f.adding(540, 550, 720)
	f.segments(2, 10, 11, 47, 48, 59, 60, 100, 101, 300, 301, 500)
	f.packs(2, 47, 501, 719)
	f.segments(720, 720)
	f.mark("m", 58)
	return f
}

func TestLook(t *testing.T) {
	t.Parallel()
	f := aged(t)
	f.put(archive.SnapshotKey(700, 0), []byte("torn"))
	f.put(archive.SegmentKey(550), f.segment(550, 560)) // covered
	if err := f.bucket.Delete(t.Context(), archive.SegmentKey(101)); err != nil {
		t.Fatal(err)
	}
	counted := storage.Count(f.bucket)
	var known prune.Known
	v := f.look(counted, &known)
	want := retain.State{
		Segments: []retain.Segment{
			{First: 2, Last: 47},
			{First: 48, Last: 59},
			{First: 60, Last: 100},
			{First: 301, Last: 500},
			{First: 501, Last: 719},
			{First: 720, Last: 720},
			{First: 11, Last: 47},
			{First: 550, Last: 719},
		},
		Marks: []retain.Mark{{Name: "m", TXID: 58}},
	}
	for _, x := range [][2]state.TXID{{1, 0}, {24, 1}, {36, 24}, {48, 24}, {60, 48}, {240, 0}, {260, 240}, {480, 240}, {540, 0}, {550, 540}} {
		want.Snapshots = append(want.Snapshots, retain.Snapshot{TXID: x[0], Base: x[1], Time: at(x[0])})
	}
	want.Snapshots = append(want.Snapshots, retain.Snapshot{TXID: 700, Bad: true}, retain.Snapshot{TXID: 720, Base: 550, Time: at(720)})
	if diff := cmp.Diff(want, v.State); diff != "" {
		t.Error(diff)
	}
	items := []retain.Item{{Segment: retain.Segment{First: 2, Last: 47}}, {Segment: retain.Segment{First: 11, Last: 47}}, {Snapshot: want.Snapshots[1]}}
	keys := []string{archive.SegmentKey(2), archive.PackKey(2, 47), archive.SegmentKey(11), archive.SnapshotKey(24, 1)}
	if diff := cmp.Diff(sorted(keys), sorted(keysOf(v, items))); diff != "" {
		t.Error(diff)
	}
	for _, i := range items {
		for _, o := range v.Objects(i) {
			if o.Size == 0 {
				t.Errorf("the size of %s is not known", o.Key)
			}
		}
	}
	before := counted.Requests()
	f.look(counted, &known)
	if got := counted.Requests().Sub(before); got.Get != 2 || got.List != 2 { // tidemark.json and the mark; all and the marks
		t.Errorf("a second look takes %+v", got)
	}
}

// unreadable is a bucket of which one object can't be read.
type unreadable struct {
	storage.Bucket
	key string
}

func (b unreadable) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if key == b.key {
		return nil, fmt.Errorf("get %s: %w", key, storage.ErrUnreachable)
	}
	return b.Bucket.Get(ctx, key, off, n)
}

// foreign is a snapshot of another replica.
func foreign(t *testing.T) []byte {
	t.Helper()
	f := newFixture(t)
	f.adding(24, 36)
	return f.get(archive.SnapshotKey(36, 24))
}

// What is not known to be useless must not go: what can't be read now, what a newer
// program or another replica wrote, the newest commits, marks.
func TestLookFails(t *testing.T) {
	t.Parallel()
	newer := append([]byte("TIDESNAP"), 0, 99)
	for name, tc := range map[string]struct {
		key     string
		content []byte // nil: it can't be read
		want    error
	}{
		"the newest segment":        {archive.SegmentKey(720), []byte("torn"), block.ErrCorrupt},
		"a mark":                    {"mark/m.json", []byte("torn"), block.ErrCorrupt},
		"a newer snapshot":          {archive.SnapshotKey(36, 24), newer, block.ErrVersion},
		"another replica's":         {archive.SnapshotKey(36, 24), foreign(t), archive.ErrBroken},
		"a mark, for now":           {"mark/m.json", nil, storage.ErrUnreachable},
		"a snapshot, for now":       {archive.SnapshotKey(36, 24), nil, storage.ErrUnreachable},
		"an older segment, for now": {archive.SegmentKey(101), nil, storage.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := aged(t)
			b := f.bucket
			if tc.content == nil {
				b = unreadable{b, tc.key}
			} else {
				f.put(tc.key, tc.content)
			}
			a, err := archive.Open(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := prune.Look(t.Context(), a, nil); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.key) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	f := aged(t)
	b := &faulty{Bucket: f.bucket}
	v := f.look(b, nil)
	plan := policy().Plan(v.State, at(720))
	before := f.keys()
	res, err := v.Run(t.Context(), plan)
	if err != nil || len(res.Refused) > 0 || res.Spared > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if diff := cmp.Diff(keysOf(v, plan.Goes), b.deleted) + cmp.Diff(deletedKeys(res), b.deleted); diff != "" {
		t.Error(diff)
	}
	want := []string{
		archive.SegmentKey(301), archive.SegmentKey(101), archive.SnapshotKey(260, 240),
		archive.SegmentKey(60), archive.SnapshotKey(60, 48), archive.SegmentKey(11), archive.SegmentKey(2), archive.PackKey(2, 47), archive.SnapshotKey(36, 24),
	}
	if diff := cmp.Diff(sorted(want), sorted(b.deleted)); diff != "" {
		t.Error(diff)
	}
	if len(f.keys()) != len(before)-len(want) || res.Bytes() == 0 {
		t.Errorf("%d objects are left of %d; %d bytes", len(f.keys()), len(before), res.Bytes())
	}
	v = f.look(b, nil)
	if again := policy().Plan(v.State, at(720)); len(again.Goes) > 0 {
		t.Errorf("there is more to be done: %+v", again.Goes)
	}
}

// Wherever it ends, what must stay can be restored, and the next run does the rest.
func TestRunCrashes(t *testing.T) {
	t.Parallel()
	errCrash := errors.New("the end")
	original := aged(t)
	for k := 0; ; k++ {
		f := original.clone()
		b := &faulty{Bucket: f.bucket, fail: func(n int, _ string) error {
			if n == k {
				return errCrash
			}
			return nil
		}}
		v := f.look(b, nil)
		res, err := v.Run(t.Context(), policy().Plan(v.State, at(720)))
		if err == nil {
			break
		}
		if !errors.Is(err, errCrash) || len(res.Deleted) != k || res.Spared == 0 {
			t.Fatalf("after %d deletions: %+v, %v", k, res, err)
		}
		v = f.look(b, nil)
		ranges := v.State.Restorable()
		for _, id := range []state.TXID{1, 24, 48, 58, 240, 480, 540, 541, 600, 720} {
			f.restores(id)
		}
		for _, r := range ranges {
			f.restores(r.First)
			f.restores(r.Last)
		}
		b.fail = nil
		if _, err := v.Run(t.Context(), policy().Plan(v.State, at(720))); err != nil {
			t.Fatal(err)
		}
		v = f.look(b, nil)
		if again := policy().Plan(v.State, at(720)); len(again.Goes) > 0 || len(b.tried) != 10 {
			t.Errorf("after %d deletions and a second run: %+v, %v", k, again.Goes, b.tried)
		}
	}
}

// restores restores a commit.
func (f *fixture) restores(id state.TXID) {
	f.t.Helper()
	out := filepath.Join(f.t.TempDir(), "restored.db")
	_, err := restore.Run(f.t.Context(), restore.Options{
		Bucket: f.bucket, Output: out, Target: restore.Target{TXID: id}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatalf("TXID %v: %v", id, err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		f.t.Fatal(err)
	}
	if diff := cmp.Diff(page(id), got); diff != "" {
		f.t.Fatalf("TXID %v: %s", id, diff)
	}
}

// A mark that is made after the plan, or while it is carried out, counts.
func TestRunHeedsMarks(t *testing.T) {
	t.Parallel()
	f := aged(t)
	v := f.look(f.bucket, nil)
	plan := policy().Plan(v.State, at(720))
	f.mark("late", 70)
	res, err := v.Run(t.Context(), plan)
	if err != nil || res.Spared != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	f.restores(70)

	f = newFixture(t)
	f.snapshots(1, 5, 900, 1000)
	for id := state.TXID(2); id < 400; id++ {
		f.segments(id, id)
	}
	b := &faulty{Bucket: f.bucket, fail: func(n int, _ string) error {
		if n == 150 {
			f.mark("in-between", 7)
		}
		return nil
	}}
	v = f.look(b, nil)
	short := retain.Policy{History: day, Weekly: 364 * day}
	if res, err = v.Run(t.Context(), short.Plan(v.State, at(2000))); err != nil || res.Spared == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	f.restores(7)
}

// What can't be deleted stays with what it needs, and the rest goes.
func TestRunRefused(t *testing.T) {
	t.Parallel()
	f := aged(t)
	b := &faulty{Bucket: f.bucket, fail: func(_ int, key string) error {
		if key == archive.SegmentKey(60) || key == archive.SegmentKey(11) {
			return storage.ErrDenied
		}
		return nil
	}}
	v := f.look(b, nil)
	res, err := v.Run(t.Context(), policy().Plan(v.State, at(720)))
	if err != nil {
		t.Fatal(err)
	}
	refused := []string{}
	for _, r := range res.Refused {
		refused = append(refused, r.Key)
		if !errors.Is(r.Err, storage.ErrDenied) {
			t.Errorf("%s: %v", r.Key, r.Err)
		}
	}
	if diff := cmp.Diff([]string{archive.SegmentKey(60), archive.SegmentKey(11)}, refused); diff != "" {
		t.Error(diff)
	}
	want := []string{archive.SegmentKey(301), archive.SegmentKey(101), archive.SnapshotKey(260, 240)}
	if diff := cmp.Diff(sorted(want), sorted(deletedKeys(res))); diff != "" {
		t.Error(diff)
	}
	for _, id := range []state.TXID{60, 61, 100, 47} {
		f.restores(id)
	}
}

// Credentials that may not delete are not tried on everything.
func TestRunAllRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for id := state.TXID(1); id <= 1000; id += 37 {
		f.snapshots(id)
	}
	f.segments(2, 100)
	b := &faulty{Bucket: f.bucket, fail: func(int, string) error { return storage.ErrDenied }}
	v := f.look(b, nil)
	plan := retain.Policy{History: day}.Plan(v.State, at(2000))
	res, err := v.Run(t.Context(), plan)
	if err != nil || len(res.Deleted) > 0 || len(res.Refused) != 5 || res.Spared != len(plan.Goes)-5 || len(plan.Goes) < 20 {
		t.Errorf("%d of %d tried: %+v, %v", len(b.tried), len(plan.Goes), res, err)
	}
}

// Some objects that are locked do not end it.
func TestRunManyRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for id := state.TXID(1); id <= 1000; id += 37 {
		f.snapshots(id)
	}
	b := &faulty{Bucket: f.bucket, fail: func(n int, _ string) error {
		if n%2 == 0 {
			return storage.ErrDenied
		}
		return nil
	}}
	v := f.look(b, nil)
	plan := retain.Policy{History: day}.Plan(v.State, at(2000))
	res, err := v.Run(t.Context(), plan)
	if n := len(plan.Goes); err != nil || len(res.Deleted) != n/2 || len(res.Refused) != (n+1)/2 || res.Spared != 0 || n < 20 {
		t.Errorf("%d of %d tried: %+v, %v", len(b.tried), n, res, err)
	}
}
