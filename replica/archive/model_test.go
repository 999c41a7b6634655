package archive_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// world is a replica of which anything may have been deleted, and what a model
// that looks at single commits only says of it.
type world struct {
	*history
	log   map[state.TXID]bool // commits that the log holds
	ends  []state.TXID        // of the log's objects
	known []state.TXID        // commits of which the time is known
	whole map[state.TXID]bool // commits that have a snapshot with all that it adds to
	can   []state.TXID        // commits that can be restored
}

// drawWorld draws a history and what is left of it.
func drawWorld(t *testing.T, rt *rapid.T) *world {
	t.Helper()
	h := bare(t, 512, rapid.IntRange(1, 5).Draw(rt, "pages"))
	for range rapid.IntRange(1, 24).Draw(rt, "commits") {
		when := h.times[len(h.times)-1].Add(time.Duration(rapid.SampledFrom([]int{10, 10, 10, 0}).Draw(rt, "seconds")) * time.Second)
		h.commitAt(rapid.IntRange(1, 7).Draw(rt, "pages after"), when)
	}
	segments := []bounds{}
	for h.stored < h.last() {
		last := min(h.last(), h.stored+state.TXID(rapid.IntRange(1, 5).Draw(rt, "in a segment")))
		segments = append(segments, bounds{h.stored + 1, last, false})
		h.segmentUpTo(last)
	}
	objects := slices.Clone(segments)
	for range rapid.IntRange(0, 3).Draw(rt, "packs") {
		from := rapid.IntRange(0, len(segments)-1).Draw(rt, "from")
		to := rapid.IntRange(from, len(segments)-1).Draw(rt, "to")
		b := bounds{segments[from].first, segments[to].last, true}
		if slices.Contains(objects, b) {
			continue
		}
		put(t, h.bucket, b.key(), h.encode(b.first, b.last)) // as joining the segments gives it: see TestPack
		objects = append(objects, b)
	}
	left := objects[:0]
	for _, b := range objects {
		if held := slices.ContainsFunc(objects, b.in); rapid.IntRange(0, 9).Draw(rt, "deleted") < 1 || held && rapid.Bool().Draw(rt, "swept") {
			h.drop(b.key())
			continue
		}
		left = append(left, b)
	}
	w := &world{history: h, log: map[state.TXID]bool{}, whole: map[state.TXID]bool{}}
	w.drawSnapshots(rt)
	w.look(left)
	return w
}

// drawSnapshots puts snapshots and deletes some.
func (w *world) drawSnapshots(rt *rapid.T) {
	l := archive.Listing{}
	for range rapid.IntRange(0, 6).Draw(rt, "snapshots") {
		s := archive.Snapshot{TXID: state.TXID(rapid.IntRange(1, int(w.last())).Draw(rt, "snapshot"))}
		if n := len(l.Snapshots); n > 0 && rapid.IntRange(0, 3).Draw(rt, "incremental") > 0 {
			if base := l.Snapshots[rapid.IntRange(0, n-1).Draw(rt, "base")].TXID; base < s.TXID {
				s.Base = base
			}
		}
		if slices.Contains(l.Snapshots, s) {
			continue
		}
		l.Snapshots = append(l.Snapshots, s)
		if s.Base == 0 {
			w.snapshot(s.TXID)
		} else {
			w.incremental(s.TXID, s.Base)
		}
	}
	kept := l.Snapshots[:0]
	for _, s := range l.Snapshots {
		if rapid.IntRange(0, 5).Draw(rt, "deleted") == 0 {
			w.drop(s.Key())
			continue
		}
		kept = append(kept, s)
	}
	l.Snapshots = kept
	for id := state.TXID(1); id <= w.last(); id++ {
		w.whole[id] = whole(l, id)
		if slices.ContainsFunc(kept, func(s archive.Snapshot) bool { return s.TXID == id }) {
			w.known = append(w.known, id)
		}
	}
}

// look works out what there is.
func (w *world) look(left []bounds) {
	for _, b := range left {
		w.ends = append(w.ends, b.last)
		for id := b.first; id <= b.last; id++ {
			w.log[id] = true
			w.known = append(w.known, id)
		}
	}
	slices.Sort(w.known)
	w.known = slices.Compact(w.known)
	led := false
	for id := state.TXID(1); id <= w.last(); id++ {
		if led = w.whole[id] || led && w.log[id]; led {
			w.can = append(w.can, id)
		}
	}
}

// ranges are the model's.
func (w *world) ranges() (r archive.Ranges) {
	for _, id := range w.can {
		if n := len(r); n > 0 && r[n-1].LastTXID+1 == id {
			r[n-1].LastTXID, r[n-1].LastTime = id, w.times[id-1]
			continue
		}
		r = append(r, archive.Range{FirstTXID: id, LastTXID: id, FirstTime: w.times[id-1], LastTime: w.times[id-1]})
	}
	return r
}

// Whatever is left of a replica: what is said of it, and what can be had of it,
// is what the model says.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(t, rt)
		a := w.open()
		if len(w.can) == 0 {
			assertNoWhole(rt, a)
			return
		}
		got, err := a.Ranges(t.Context())
		if diff := gocmp.Diff(w.ranges(), got); diff != "" || err != nil {
			rt.Fatalf("ranges (-want +got):\n%s%v", diff, err)
		}
		w.checkCommits(rt, a)
		w.checkPlans(rt, a)
		w.checkTimes(rt, a)
		w.checkTables(rt, a)
	})
}

func assertNoWhole(t *rapid.T, a *archive.Archive) {
	for _, err := range []error{
		second(a.Ranges(t.Context())), second(a.Range(t.Context())), a.Check(t.Context(), 1),
		a.Commits(t.Context(), archive.Query{}, nil), third(a.Plan(t.Context(), 0)), third(a.At(t.Context(), at(100))),
	} {
		want := archive.ErrBroken
		if len(a.Listing().Snapshots) == 0 {
			want = archive.ErrNoReplica
		}
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func (w *world) checkCommits(t *rapid.T, a *archive.Archive) {
	q := archive.Query{Limit: rapid.IntRange(0, 8).Draw(t, "limit")}
	moment := func(what string) time.Time {
		if rapid.Bool().Draw(t, what) {
			return at(rapid.IntRange(-1, 10*len(w.states)).Draw(t, "time"))
		}
		return time.Time{}
	}
	q.Since, q.Until = moment("since"), moment("until")
	var want, got []state.TXID
	for _, id := range slices.Backward(w.can) {
		when := w.times[id-1]
		if (q.Limit == 0 || len(want) < q.Limit) && !when.Before(q.Since) && (q.Until.IsZero() || !when.After(q.Until)) {
			want = append(want, id)
		}
	}
	err := a.Commits(t.Context(), q, func(c archive.Commit) error {
		got = append(got, c.TXID)
		alone := !slices.Contains(w.can, c.TXID-1) && !slices.Contains(w.can, c.TXID+1)
		if !c.Time.Equal(w.times[c.TXID-1]) || c.Single != alone || c.Single && !c.Snapshot || c.Snapshot && !w.whole[c.TXID] {
			t.Errorf("commit %+v", c)
		}
		return nil
	})
	if diff := gocmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%+v: commits (-want +got):\n%s%v", q, diff, err)
	}
}

func (w *world) checkPlans(t *rapid.T, a *archive.Archive) {
	newest := slices.Max(w.can)
	if n := len(w.ends); n > 0 {
		newest = max(newest, slices.Max(w.ends))
	}
	for id := state.TXID(0); id <= w.last()+1; id++ {
		target := id
		if id == 0 || id > newest {
			target = newest
		}
		can := slices.Contains(w.can, target)
		p, after, err := a.Plan(t.Context(), id)
		if err == nil && (p.Target != target || after != (id > newest) || !w.whole[p.Snapshots[0].TXID]) {
			t.Fatalf("TXID %v: plan %+v, after %v", id, p, after)
		}
		if err == nil {
			err = a.Check(t.Context(), target)
		}
		if can != (err == nil) {
			t.Fatalf("TXID %v can be restored: %v; %v", id, can, err)
		}
		if err != nil {
			w.checkError(t, err, target)
		}
	}
}

// checkError checks what an error names.
func (w *world) checkError(t *rapid.T, err error, id state.TXID) {
	var r *archive.RangeError
	if !errors.As(err, &r) || !errors.Is(err, archive.ErrOutOfRange) {
		t.Fatal(err)
	}
	var before, after *archive.Point
	for _, x := range w.can {
		p := archive.Point{TXID: x, Time: w.times[x-1]}
		if x <= id {
			before = &p
		} else if after == nil {
			after = &p
		}
	}
	want := &archive.RangeError{Asked: r.Asked, Before: before, After: after, Ranges: w.ranges()}
	if diff := gocmp.Diff(want, r); diff != "" {
		t.Fatalf("error for TXID %v (-want +got):\n%s", id, diff)
	}
}

// checkTimes compares with the whole history: a time gives the commit that was
// current then, or an error if nobody can know, or nobody restore it.
func (w *world) checkTimes(t *rapid.T, a *archive.Archive) {
	for second := -5; second <= 10*len(w.states)+5; second += 5 {
		when := at(second)
		was := state.TXID(0) // the last known one
		current := state.TXID(0)
		for id := state.TXID(1); id <= w.last() && !w.times[id-1].After(when); id++ {
			current = id
			if slices.Contains(w.known, id) {
				was = id
			}
		}
		sure := current == was && (slices.Contains(w.known, was+1) || was == slices.Max(w.known))
		exact := was > 0 && w.times[was-1].Equal(when)
		end := was == slices.Max(w.known) // what came after it nobody knows
		want := (sure || exact || end) && slices.Contains(w.can, was)
		got, after, err := a.At(t.Context(), when)
		if err == nil {
			err = a.Check(t.Context(), got)
		}
		if want != (err == nil) || want && (got != was || after != (end && !exact)) {
			t.Fatalf("at %d s: TXID %v, after %v, %v; want %v, known is %v", second, got, after, err, want, was)
		}
		if err == nil && got != current && !exact && !end {
			t.Fatalf("at %d s: TXID %v was current, not %v", second, current, got)
		}
		if err != nil {
			w.checkError(t, err, was)
		}
	}
}

// checkTables rolls page sums forward from any state, in the midst of a pack
// too, to any other.
func (w *world) checkTables(t *rapid.T, a *archive.Archive) {
	from := state.TXID(rapid.IntRange(0, int(w.last())).Draw(t, "page sums of"))
	for to := state.TXID(1); to <= w.last(); to++ {
		var base *state.Table
		if from > 0 {
			base = w.states[from-1].table(w.size)
		}
		snap := to // the newest snapshot, whole or not
		for snap > 0 && !slices.ContainsFunc(a.Listing().Snapshots, func(s archive.Snapshot) bool { return s.TXID == snap }) {
			snap--
		}
		ends, over := w.endsAt(a, to)
		led := from > 0 && from <= to && w.leads(from, to) || snap > 0 && w.leads(snap, to)
		must := led && !over || from == to || snap == to
		can := led && ends || from == to || snap == to
		got, err := a.Table(t.Context(), from, base, to)
		switch want := w.states[to-1].table(w.size); {
		case err == nil && (got.Checksum() != want.Checksum() || got.Len() != want.Len()):
			t.Fatalf("from TXID %v to %v: other page sums", from, to)
		case err != nil && !errors.Is(err, archive.ErrInside) && !errors.Is(err, archive.ErrBroken):
			t.Fatalf("from TXID %v to %v: %v", from, to, err)
		case err != nil && must, err == nil && !can:
			t.Fatalf("from TXID %v to %v, a snapshot is of %v: %v", from, to, snap, err)
		case led && !can && !errors.Is(err, archive.ErrInside):
			t.Fatalf("from TXID %v to %v: not told from a broken log: %v", from, to, err)
		}
	}
}

// leads tells whether the log leads from one commit to another.
func (w *world) leads(from, to state.TXID) bool {
	for id := from + 1; id <= to; id++ {
		if !w.log[id] {
			return false
		}
	}
	return true
}

// endsAt tells whether an object of the log as it is read ends at a commit, and
// whether one goes on over it, as no other does unless packs overlap.
func (w *world) endsAt(a *archive.Archive, id state.TXID) (ends, over bool) {
	for _, s := range a.Listing().Segments {
		last := s.Last
		for _, end := range w.ends {
			if !s.IsPack() && end >= s.First && (last == 0 || end < last) {
				last = end
			}
		}
		ends = ends || last == id
		over = over || s.First <= id && last > id
	}
	return ends, over
}
