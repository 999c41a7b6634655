package replica_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/prune"
	"tidemark/replica/restore"
	"tidemark/replica/retain"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
)

const oneDay = 24 * time.Hour

// TestYear is a year in the life of one database: busy weeks, calm ones and holidays,
// restarts and kills, runs that end by themselves, storage that is away, deletions
// that are refused, a clock that goes wrong, marks that come and go. The engine is
// real, and so are the database and its WAL; the time is not, and storage is in
// memory. Every day, all that the policy keeps must be restorable; every week,
// restores at random points must give what the database held then, or be refused if
// they are outside of what is kept. In the end what nothing keeps must be gone, and
// the archive and the requests be in proportion to what is kept and written.
//
// Unless TIDEMARK_TEST_LONG is set it is a month, with a policy that is as much
// shorter.
func TestYear(t *testing.T) {
	t.Parallel()
	plan := month()
	if os.Getenv("TIDEMARK_TEST_LONG") != "" {
		plan = wholeYear()
	}
	y := newYear(t, plan)
	began := time.Now()
	todo := events()
	for day := range plan.days {
		for len(todo) > 0 && day >= todo[0].at*plan.days/100 {
			t.Logf("%s: %s", y.clock.Now().Format("2006-01-02"), todo[0].what)
			todo[0].do(y)
			todo = todo[1:]
		}
		y.day(plan.start.Add(time.Duration(day) * oneDay))
		if (day+1)%plan.every == 0 {
			y.week()
		}
	}
	y.finish()
	y.report(time.Since(began))
	y.checkBounds()
}

// wholeYear is a year with what is kept unless something else is set.
func wholeYear() yearPlan {
	return yearPlan{
		start: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), days: 365,
		interval: time.Hour, policy: retain.Default(),
		busy: 90, calm: 25, weekend: 8, bursts: 3, burst: 36, every: 7, tries: 16,
	}
}

// month is 28 days over the end of a year, in which everything is kept for a shorter
// time and packed sooner, but more often thinned.
func month() yearPlan {
	return yearPlan{
		start: time.Date(2026, 12, 16, 0, 0, 0, 0, time.UTC), days: 28, interval: 20 * time.Minute,
		policy: retain.Policy{
			History: 18 * time.Hour, Hourly: 30 * time.Hour, Daily: 5 * oneDay, Weekly: 15 * oneDay, Grace: time.Hour,
		},
		packing: upkeep.Packing{Newest: 3, Most: 8, Share: 8},
		busy:    70, calm: 10, weekend: 5, bursts: 3, burst: 8, every: 4, tries: 9,
	}
}

// event is something that happens in the year, after so many hundredths of it.
type event struct {
	at   int
	what string
	do   func(*year)
}

func events() []event {
	return []event{
		{8, "a mark that stays", (*year).markCurrent},
		{11, "the replicator is killed", (*year).killed},
		{14, "commits while no replicator runs", (*year).pause},
		{20, "VACUUM", (*year).vacuumed},
		{26, "a mark of an earlier commit that stays", (*year).markEarlier},
		{28, "from now on the replicator runs once in a while", func(y *year) { y.stop(); y.once = true }},
		{34, "it runs all the time again", func(y *year) { y.checkGone(); y.once = false; y.start() }},
		{38, "the WAL is lost while no replicator runs", (*year).loseWAL},
		{44, "a full snapshot is asked for", func(y *year) { y.stop(); y.runOnce(replica.FullSnapshot); y.start() }},
		{56, "the replicator is killed", (*year).killed},
		{58, "storage is away", (*year).outage},
		{62, "deletions are refused", func(y *year) { y.bucket.set(false, true) }},
		{65, "somebody else prunes, who may delete", (*year).pruneElsewhere},
		{68, "deletions are allowed again", func(y *year) { y.bucket.set(false, false) }},
		{72, "the clock goes back", func(y *year) { y.wrong = -y.plan.interval - 10*time.Minute }},
		{73, "the clock is right again", func(y *year) { y.wrong = 0 }},
		{78, "the clock is ahead for an hour", (*year).ahead},
		{81, "the replicator is killed", (*year).killed},
		{84, "two snapshots within an hour", (*year).twoSnapshots},
		{90, "VACUUM", (*year).vacuumed},
	}
}

// busyWeek tells whether a day is in a busy week.
func (y *year) busyWeek(day time.Time) bool { _, week := day.ISOWeek(); return week%3 == 0 }

// idle tells whether a day is in the holidays, in which nothing is committed. They
// are longer than what the policy keeps all commits of.
func (y *year) idle(day time.Time) bool {
	n := int(day.Sub(y.plan.start)/oneDay) * 100 / y.plan.days
	return n >= 48 && n < 54
}

// day lets a day pass.
func (y *year) day(day time.Time) {
	y.t.Helper()
	for hour := range 24 {
		if y.idle(day) || y.rng.IntN(100) >= y.demand(day, hour) {
			continue
		}
		y.hour(day.Add(time.Duration(hour) * time.Hour))
	}
	y.marks()
	y.checkKept()
	if y.engine != nil {
		y.restoreLive()
	}
	if size := y.size(); len(y.growth) == 0 || size.at.Sub(y.growth[len(y.growth)-1].at) >= oneDay*time.Duration(y.plan.days)/50 {
		y.growth = append(y.growth, size)
	}
}

// hour commits in some minutes of an hour.
func (y *year) hour(at time.Time) {
	y.t.Helper()
	most, bursts := y.plan.burst, 1+y.rng.IntN(y.plan.bursts)
	if y.busyWeek(at) {
		most *= 2
	}
	for n := range bursts {
		span := time.Hour / time.Duration(bursts)
		y.to(at.Add(time.Duration(n)*span + time.Duration(y.rng.Int64N(int64(span/time.Millisecond)))*time.Millisecond))
		y.work(1 + y.rng.IntN(most))
	}
}

// demand is how probable it is that something is committed in an hour, in percent.
func (y *year) demand(day time.Time, hour int) int {
	office := hour >= 8 && hour < 18
	switch {
	case day.Weekday() == time.Saturday || day.Weekday() == time.Sunday:
		return y.plan.weekend
	case office && y.busyWeek(day):
		return y.plan.busy
	case office:
		return (y.plan.busy + y.plan.calm) / 2
	default:
		return y.plan.calm / 4
	}
}

// marks makes one now and then, and deletes one when there are many. The first two
// stay.
func (y *year) marks() {
	y.t.Helper()
	if y.once || y.rng.IntN(y.plan.days) >= 12 {
		return
	}
	if y.rng.IntN(2) == 0 {
		y.markCurrent()
	} else {
		y.markEarlier()
	}
	names := slices.DeleteFunc(y.truth.names(), func(n string) bool { return n == "mark-1" || n == "mark-2" })
	if len(names) > 3 {
		y.unmark(names[y.rng.IntN(len(names))])
	}
}

// week checks by restores, between two runs.
func (y *year) week() {
	y.t.Helper()
	if y.once {
		y.runOnce(replica.NoSnapshot)
		y.checkRestores(y.plan.tries)
		return
	}
	y.stop()
	y.checkRestores(y.plan.tries)
	y.start()
}

// pause commits while no replicator runs, and expects each commit all the same: the
// WAL has them.
func (y *year) pause() {
	y.stop()
	for range 3 {
		y.clock.pass(time.Hour)
		y.commit()
		y.commit()
	}
	y.start()
}

// killed ends replication amidst packing, pruning and snapshots, a few times.
func (y *year) killed() {
	for range 3 {
		y.clock.pass(y.plan.interval)
		y.work(1 + y.rng.IntN(10))
		y.kill()
		y.start()
	}
}

// vacuumed shortens the database.
func (y *year) vacuumed() {
	before := y.bucket.newest()
	y.vacuum()
	y.settle(before)
}

// loseWAL lets the application checkpoint while no replicator runs, so that what was
// committed becomes one commit.
func (y *year) loseWAL() {
	y.stop()
	for range 10 {
		y.commit()
	}
	y.app.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	y.truth.join()
	y.start()
	at := y.truth.at(y.truth.last())
	err := y.open().Commits(y.t.Context(), archive.Query{Since: at, Limit: 1}, func(c archive.Commit) error {
		if c.TXID != y.truth.last() || !c.Resync {
			y.t.Errorf("%v: the newest commit is %+v, and should be a resync, TXID %v", at, c, y.truth.last())
		}
		return nil
	})
	if err != nil {
		y.t.Error(err)
	}
}

// outage commits while storage is away. When these commits were seen the archive
// tells; that must be between when they were made and the end.
func (y *year) outage() {
	y.bucket.set(true, false)
	for range 5 {
		y.clock.pass(y.plan.interval)
		for range 5 {
			y.commit()
		}
	}
	y.bucket.set(false, false)
	y.await("what was committed in an outage", func() bool { return last(y.t, y.bucket.Bucket) >= y.truth.last() })
	first, times := y.truth.shipped()+1, map[state.TXID]time.Time{}
	err := y.open().Commits(y.t.Context(), archive.Query{}, func(c archive.Commit) error {
		times[c.TXID] = c.Time
		if c.TXID < first {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		y.t.Fatal(err)
	}
	for id := first; id <= y.truth.last(); id++ {
		at, made := times[id], y.truth.at(id)
		if at.Before(made) || at.After(y.clock.Now()) || at.Before(y.truth.at(id-1)) {
			y.t.Errorf("TXID %v was committed at %v, or later, and was seen at %v", id, made, at)
		}
		y.truth.commits[id-1].at = at
	}
	y.truth.seen = int(y.truth.last())
	y.stop()
	y.start() // a snapshot that failed meanwhile would be tried again after a minute
}

var errEnough = errors.New("enough")

// pruneElsewhere does what tidemark prune does, beside the replicator.
func (y *year) pruneElsewhere() {
	v, err := prune.Look(y.t.Context(), y.open(), nil)
	if err != nil {
		y.t.Fatal(err)
	}
	res, err := v.Run(y.t.Context(), y.plan.policy.Plan(v.State, y.clock.Now()))
	if err != nil {
		y.t.Fatalf("%v: after %d deletions: %v", y.clock.Now(), len(res.Deleted), err)
	}
	y.stop()
	y.checkRestores(y.plan.tries)
	y.start()
}

// ahead lets the clock be ahead for an hour, in which something is committed. After
// it, times stand still until they are right again.
func (y *year) ahead() {
	y.clock.pass(6 * y.plan.interval)
	y.work(5)
	y.clock.pass(y.plan.interval)
	y.work(5)
}

// twoSnapshots makes one snapshot after another, of which the first stays.
func (y *year) twoSnapshots() {
	y.stop()
	for range 3 {
		y.commit()
		y.runOnce(replica.AnySnapshot)
		y.clock.pass(time.Minute)
	}
	y.start()
}

// finish checks more than before, and that what nothing keeps is gone.
func (y *year) finish() {
	y.t.Helper()
	// What a replicator finds when it starts counts as young for an hour.
	for range 4 {
		y.clock.pass(max(y.plan.interval, time.Hour) + time.Minute)
		y.work(1)
	}
	n := y.checkGone()
	y.t.Logf("%d of %d commits are kept by nothing, and gone", n, y.truth.shipped())
	if n < int(y.truth.shipped())/6 {
		y.t.Errorf("too few for a test of that: the window had up to %d commits", y.truth.widest)
	}
	y.checkKept()
	y.growth = append(y.growth, y.size())
	y.stop()
	y.checkRestores(5 * y.plan.tries)
	for _, id := range y.truth.thinned() {
		y.restore(restore.Target{TXID: id}, id)
		y.tally.byTXID++
	}
}

// report prints what the year came to.
func (y *year) report(took time.Duration) {
	y.t.Helper()
	b, n := y.bucket, y.tally
	y.t.Logf("%d days in %v: %d commits, %d snapshots, %d marks; %d runs, %d of them killed, and %d that end by themselves",
		y.plan.days, took.Round(time.Second), y.truth.last(), len(b.made()), y.names, n.starts, n.kills, n.onces)
	y.t.Logf("requests: %+v; objects put: %v, %v bytes; deleted: %v; refused to delete: %d", y.counter.Requests(), b.put, b.bytes, b.gone, b.refused)
	y.t.Logf("%d checks; restored by TXID %d, by time %d, by mark %d, beside the replicator %d; refused %d, of which nothing keeps %d, and %d marks",
		n.checks, n.byTXID, n.byTime, n.byMark, n.live, n.refused, n.gone, n.unmarked)
	for _, s := range y.growth {
		y.t.Log(s)
	}
}

// checkBounds checks that the archive and the requests are in proportion to what is
// kept and written. The bounds are loose.
func (y *year) checkBounds() {
	y.t.Helper()
	b, q, end, thinned := y.bucket, y.counter.Requests(), y.growth[len(y.growth)-1], len(y.truth.thinned())
	runs := y.tally.starts + y.tally.onces
	segments, snapshots := b.put["log"], b.put["snapshot"]
	for _, bound := range []struct {
		what      string
		got, most int64
	}{
		{"snapshots in the end", int64(end.objects["snapshot"]), int64(2*thinned + 30)},
		{"objects of the log in the end", int64(end.objects["log"] + end.objects["pack"]), 400},
		{"bytes in the end", end.bytes, int64(2*thinned+30)*b.largest + (b.bytes["log"]+b.bytes["pack"])/4},
		{"bytes of packs", b.bytes["pack"], 4 * b.bytes["log"]},
		{"PUTs", q.Put, int64(segments + b.put["pack"] + snapshots + 5*runs)},
		{"LISTs", q.List, int64(2*segments + 3*snapshots + 5*runs)},
		{"GETs", q.Get, int64(2*segments + 20*snapshots + 20*runs)},
		{"DELETEs", q.Delete, int64(5*(segments+b.put["pack"]+snapshots)/4 + b.refused)},
	} {
		y.t.Logf("%s: %d of %d at most", bound.what, bound.got, bound.most)
		if bound.got > bound.most {
			y.t.Errorf("too many %s: %d, and %d are the most", bound.what, bound.got, bound.most)
		}
	}
}
