package replica_test

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Random sequences of what applications, administrators, storage and crashes do,
// against a model of the history:
//
//   - The database went through versions, one a commit, in an order that is known.
//   - The archive's commits are versions, in that order. Each is the version after
//     the one before it, unless it is a resync, which may leave versions out.
//   - A resync needs a licence: something must have happened that took from
//     tidemark what it needs to tell commits apart. A licence is for one TXID, and
//     for the versions that the database had when tidemark attached to it.
//   - In the end the newest commit is the newest version.
//
// A licence is given by what the test sees of the WAL, not by what tidemark says:
// see gap.

// version is a state of the database.
type version struct {
	digest, made string
	// jump tells that no commit leads to it from the one before: somebody put
	// another file in the database's place.
	jump bool
}

// licence allows the commits from first to last to be resyncs, to the versions
// from lo to hi.
type licence struct {
	first, last state.TXID
	lo, hi      int
	why         string
}

const open = math.MaxInt

func (l *licence) String() string {
	if l.last == open {
		return fmt.Sprintf("TXID %v and later: %s", l.first, l.why)
	}
	return fmt.Sprintf("TXID %v to %v, versions %d to %d: %s", l.first, l.last, l.lo, l.hi, l.why)
}

func (l *licence) covers(id state.TXID, v int) bool {
	return l.first <= id && id <= l.last && l.lo <= v && v <= l.hi
}

// history is the model. There can be more than one way to see an archive, since
// VACUUM makes a version with the same content.
type history struct {
	versions []version
	licences []*licence
	// at are the versions that the newest commit that was looked at can be, which
	// is seen.
	at   []int
	seen state.TXID
}

func (h *history) newest() int { return len(h.versions) - 1 }

func (h *history) made(v version) { h.versions = append(h.versions, v) }

// step looks at the next commit, and tells whether it can be.
func (h *history) step(c archive.Commit, digest string) bool {
	var next []int
	for v := range h.versions {
		if h.versions[v].digest == digest && slices.ContainsFunc(h.at, func(was int) bool { return h.leads(was, v, c) }) {
			next = append(next, v)
		}
	}
	h.at, h.seen = next, c.TXID
	h.spread()
	return len(next) > 0
}

// spread takes in that a version that the archive has was put back: that takes no
// commit.
func (h *history) spread() {
	for v, version := range h.versions {
		again := func(was int) bool { return was < v && version.jump && h.versions[was].digest == version.digest }
		if !slices.Contains(h.at, v) && slices.ContainsFunc(h.at, again) {
			h.at = append(h.at, v)
		}
	}
}

// leads tells whether a commit can lead from one version to another.
func (h *history) leads(was, v int, c archive.Commit) bool {
	if !c.Resync {
		return v == was+1 && !h.versions[v].jump
	}
	return v > was && slices.ContainsFunc(h.licences, func(l *licence) bool { return l.covers(c.TXID, v) })
}

// gap is the time in which no tidemark follows the database. It knows what was
// remembered and watches the WAL, to find out whether the next run can tell the
// commits apart: that is so as long as the WAL goes on from what is remembered,
// or restarted there and has not been checkpointed since.
type gap struct {
	// known tells that there is local state; base is the commit that it ends at,
	// and at the place where the WAL goes on from it.
	known bool
	base  state.TXID
	at    wal.Position
	// moved tells that the WAL has restarted since.
	moved bool
	facts walFacts
	// lost is why commits can't be told apart.
	lost string
	// repeats tells that a page in the new WAL is as it was before.
	repeats bool
	// lo is the newest version when the next run began.
	lo int
}

func newGap(known bool, base state.TXID, at wal.Position, f walFacts) *gap {
	g := &gap{known: known, base: base, at: at, facts: f}
	if f.salts != at.Salts || f.frames < at.Frame {
		// It restarted while tidemark followed it, which takes a hand-off.
		g.at, g.moved = wal.Position{Salts: f.salts}, true
	}
	return g
}

func (g *gap) lose(why string) {
	if g.lost == "" {
		g.lost = why
	}
}

// observe takes in what the WAL is now.
func (g *gap) observe(f walFacts) {
	was := g.facts
	g.facts = f
	if f.salts == was.salts && f.frames >= was.frames {
		return
	}
	if was.beyond(g.at) {
		g.lose("the WAL restarted, was truncated or deleted after commits that were not read")
	}
	g.at, g.moved = wal.Position{Salts: f.salts}, true
}

// resumable is how many frames are read under the write lock at a start; see
// package source.
const resumable = 2000

// verdict tells why commits can't be told apart, or "".
func (g *gap) verdict() string {
	f := g.facts
	switch {
	case g.lost != "":
		return g.lost
	case !g.known:
		return "there is no local state"
	case g.moved && f.frames > 0 && f.copied > 0:
		return "a new WAL was checkpointed"
	case g.moved && g.repeats:
		return "a new WAL has a page as it was before: it could have been checkpointed"
	case !g.moved && f.frames > g.at.Frame+resumable && f.copied > 0:
		return "a long WAL was checkpointed"
	}
	return ""
}

// breach is a failure of the test. It is a panic until TestModel takes it, so that
// rapid sees the same failure wherever it came from.
type breach struct{ kind, what string }

// modelTime is how long TestModel looks for failures, without an environment
// variable that lets it go on for rapid's number of checks. It does so several
// times at once, since there is much to wait for.
const (
	modelTime  = 20 * time.Second
	modelTwins = 4
)

func TestModel(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for i := range modelTwins {
		wg.Go(func() { t.Run(strconv.Itoa(i), checkModel) })
	}
	wg.Wait()
}

func checkModel(t *testing.T) {
	began, failed := time.Now(), false
	rapid.Check(t, func(r *rapid.T) {
		if !failed && time.Since(began) > modelTime && os.Getenv("TIDEMARK_TEST_LONG") == "" {
			return
		}
		w := &world{t: r, shared: replica.NewProcess()}
		if b := w.play(); b != nil {
			story := w.story(b)
			r.Log(story)
			if !failed {
				t.Log(story) // in case that it can't be repeated
			}
			failed = true
			r.Fatal(b.kind)
		}
	})
}

// play is one sequence, from the beginning to the check at its end.
func (w *world) play() (b *breach) {
	defer w.cleanUp()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *breach:
			b = r
		default:
			panic(r)
		}
	}()
	w.setUp()
	w.t.Repeat(map[string]func(*rapid.T){"": func(*rapid.T) { w.notice() }, "turn": func(*rapid.T) { w.turn() }})
	w.finish()
	return nil
}

// action is something that can happen.
type action struct {
	name   string
	weight int
	can    func(w *world) bool
	do     func(w *world)
}

func actions() []action {
	always := func(*world) bool { return true }
	down := func(w *world) bool { return w.proc == nil }
	running := func(w *world) bool { return w.proc != nil }
	following := func(w *world) bool { return w.proc != nil && w.proc.attached }
	return []action{
		{"commit", 8, always, (*world).commit},
		{"big commit", 2, always, (*world).bigCommit},
		{"roll back", 2, always, (*world).rollBack},
		{"begin", 1, always, (*world).begin},
		{"checkpoint", 4, always, (*world).checkpoint},
		{"VACUUM", 1, always, (*world).vacuum},
		{"close", 1, always, (*world).closeApp},
		{"reopen", 1, always, (*world).reopen},
		{"read", 1, func(w *world) bool { return w.app.reader == nil }, (*world).read},
		{"unread", 2, func(w *world) bool { return w.app.reader != nil }, (*world).unread},
		{"start", 6, down, (*world).start},
		{"once", 2, down, (*world).ship},
		{"lose local state", 1, down, (*world).loseState},
		{"stop", 2, running, (*world).stop},
		{"kill", 4, running, (*world).kill},
		{"storage", 3, always, (*world).change},
		{"catch up", 3, following, (*world).catchUp},
		{"hand-off", 3, following, (*world).awaitHandOff},
		{"put back", 1, always, (*world).replace},
		{"clock", 1, always, (*world).turnClock},
	}
}

// turn lets something happen.
func (w *world) turn() {
	var names []string
	do := map[string]func(*world){}
	for _, a := range actions() {
		if a.can(w) {
			names = append(names, slices.Repeat([]string{a.name}, a.weight)...)
			do[a.name] = a.do
		}
	}
	do[rapid.SampledFrom(names).Draw(w.t, "action")](w)
}

// finish brings everything to an end, and checks all.
func (w *world) finish() {
	w.note("the end")
	w.weather(storageUp)
	w.endTransaction("COMMIT")
	const most = 10
	for range most {
		if w.proc == nil {
			w.start()
		}
		if w.stop(); w.stopped == nil {
			break
		}
	}
	if w.stopped != nil {
		w.fail("a stop does not ship what is left: %v", w.stopped)
	}
	w.verify()
	if !slices.Contains(w.model.at, w.model.newest()) {
		w.fail("the newest commit is not the newest version: TXID %v is version %v", w.model.seen, w.model.at)
	}
	w.openApp()
	w.same()
	if got := w.one("PRAGMA integrity_check"); got != "ok" {
		w.fail("integrity_check of the application's database: %s", got)
	}
}

// verify looks at the commits of the archive that are new.
func (w *world) verify() {
	ctx := w.t.Context()
	a, err := archive.Open(ctx, w.bucket.Bucket)
	w.must(err)
	var cs []archive.Commit
	w.must(a.Commits(ctx, archive.Query{}, func(c archive.Commit) error { cs = append(cs, c); return nil }))
	slices.Reverse(cs)
	w.model.spread()
	for i, c := range cs {
		if c.TXID != state.TXID(i+1) {
			w.fail("the %dth commit has TXID %v", i+1, c.TXID)
		}
		if i > 0 && c.Time.Before(cs[i-1].Time) {
			w.fail("TXID %v is older than the one before it", c.TXID)
		}
		if c.TXID <= w.model.seen {
			continue
		}
		digest, err := contentAt(ctx, w.bucket.Bucket, c.TXID, w.file("restored"))
		if err != nil {
			w.fail("restore TXID %v: %v", c.TXID, err)
		}
		was := w.model.at
		if c.TXID == 1 {
			w.model.at = []int{w.first - 1}
			c.Resync = false
		}
		if !w.model.step(c, digest) {
			w.fail("TXID %v (resync: %t, pages: %d) has content %s: not what can follow version %v", c.TXID, c.Resync, c.Pages, digest, was)
		}
	}
	if len(cs) < int(w.model.seen) {
		w.fail("there are %d commits, there were %v", len(cs), w.model.seen)
	}
}

// story tells what happened, for people.
func (w *world) story(b *breach) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\nWhat happened:\n", b.what)
	for i, line := range w.notes {
		fmt.Fprintf(&s, "%4d  %s\n", i+1, line)
	}
	s.WriteString("\nVersions:\n")
	for i, v := range w.model.versions {
		fmt.Fprintf(&s, "%4d  %s  %s\n", i, v.digest, v.made)
	}
	s.WriteString("\nLicences for resyncs:\n")
	for _, l := range w.model.licences {
		fmt.Fprintf(&s, "      %v\n", l)
	}
	fmt.Fprintf(&s, "\nTXID %v was version %v.\n\nThe log:\n%s", w.model.seen, w.model.at, w.log.String())
	return s.String()
}
