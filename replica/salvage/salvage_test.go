package salvage_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/replica/salvage"
)

func TestWhole(t *testing.T) {
	t.Parallel()
	w := newWriter(t, 1024)
	w.insert(10)
	s := set(t, w.files())
	rep, got := s.run()
	same(t, "contents", got, w.after(10))
	best := rep.Best()
	if rep.Verdict != salvage.Whole || best.Kind != salvage.KindProven || best.Proof != salvage.Proven || best.Commits != 10 || best.Through != 10 {
		t.Errorf("report: %+v", rep)
	}
	if l := rep.Log; l.Proven != 10 || l.Probable != 0 || l.Lost != 0 || len(l.Runs) != 1 {
		t.Errorf("log: %+v", l)
	}
	if x := table(t, best, "sessions"); x.Rows != 58 || x.InDatabase != 48 || x.Proof != salvage.Proven {
		t.Errorf("sessions: %+v", x)
	}
	if best.Pages.Lost+best.Pages.Probable+best.Pages.Missing != 0 || best.Pages.Proven != best.Pages.Total {
		t.Errorf("pages: %+v", best.Pages)
	}
}

func TestLostFrameInTheMidst(t *testing.T) {
	t.Parallel()
	w := newWriter(t, 1024)
	w.insert(10)
	f := w.files()
	f.zero(w.ends[3]+1, w.ends[3]+1)
	s := set(t, f)
	s.opts.All = s.opts.Output + "-all"
	rep, got := s.run()
	same(t, "contents", got, w.after(4))
	if rep.Verdict != salvage.Lost || rep.Best().Kind != salvage.KindProven || rep.Best().Commits != 4 {
		t.Errorf("report: %+v", rep)
	}
	// The commit of the lost frame wrote what the next ones wrote again.
	intact := rep.Find(salvage.KindIntact)
	if intact == nil || intact.Proof != salvage.Probable || intact.Commits != 9 || intact.Through != 10 {
		t.Fatalf("%v %+v", kinds(rep), intact)
	}
	same(t, "intact", content(t, intact.Output), w.after(10))
	if x := table(t, intact, "sessions"); x.Rows != 58 || x.Proof != salvage.Probable {
		t.Errorf("%+v", x)
	}
	want := []salvage.CommitRun{{First: 1, Last: 4, Proof: salvage.Proven}, {First: 5, Last: 5, Proof: salvage.Damaged}, {First: 6, Last: 10, Proof: salvage.Probable}}
	if diff := cmp.Diff(want, rep.Log.Runs, cmpopts.IgnoreFields(salvage.CommitRun{}, "FirstOffset", "LastOffset", "Reason")); diff != "" {
		t.Error(diff)
	}
}
