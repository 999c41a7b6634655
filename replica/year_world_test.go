package replica_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/current"
	"tidemark/replica/disk"
	"tidemark/replica/retain"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// The year's world: an application whose content is modelled row by row, storage in
// memory, and a replicator whose clock is the test's. Time stands still while
// anything happens, so that each commit's time is known.

// yearPlan says how long a year is and what is kept of it.
type yearPlan struct {
	start time.Time
	days  int
	// interval is between snapshots, policy what is kept, packing how the log is
	// joined.
	interval time.Duration
	policy   retain.Policy
	packing  upkeep.Packing
	// busy, calm and weekend are of how many hours in a hundred something is
	// committed in, in office hours of a busy week, at other times of work days, and
	// at weekends; bursts is how often in such an hour, and burst how many commits
	// that are at a time, at most.
	busy, calm, weekend, bursts, burst int
	// every is how many days lie between two checks by restores, tries how many
	// restores there are in each, and as many are to be refused.
	every, tries int
}

// year is what the test plays with.
type year struct {
	t    *testing.T
	plan yearPlan
	// rng decides what happens, pick what is checked: that depends on what was packed
	// when, and the story must not.
	rng, pick *rand.Rand

	clock   *clock
	wrong   time.Duration // what the clock is off by
	app     *app
	bucket  *yearBucket
	counter *storage.Counter
	opts    replica.Options
	engine  *engine // nil: none runs
	hands   *hands  // its
	// once has the replicator run once every few bursts instead of all the time.
	once  bool
	truth *truth
	// rows are the database's, with the sum of each; all is that over all of them.
	rows map[int]yearRow
	all  uint64
	// out is a folder for restored files.
	out string
	// names is how many marks were made.
	names  int
	tally  yearTally
	growth []yearSize
	// log is what the replicator warns of.
	log bytes.Buffer
}

func newYear(t *testing.T, plan yearPlan) *year {
	t.Helper()
	y := &year{
		t: t, plan: plan, rng: rand.New(rand.NewPCG(2026, 7)), pick: rand.New(rand.NewPCG(7, 2026)), clock: &clock{now: plan.start},
		app:  newApp(t, "PRAGMA page_size=1024", "PRAGMA wal_autocheckpoint=0", "PRAGMA synchronous=OFF"),
		rows: map[int]yearRow{}, out: t.TempDir(),
	}
	y.bucket = newYearBucket(y.clock.Now)
	t.Cleanup(func() { // after all runs have ended
		if t.Failed() {
			t.Logf("what the replicator warned of:\n%s", y.log.String())
		}
	})
	y.truth = newTruth(plan.policy, y.bucket.made)
	y.counter = storage.Count(y.bucket)
	y.opts = replica.Options{
		Path: y.app.path, Bucket: y.counter, StateDir: filepath.Join(t.TempDir(), "state"), Now: y.clock.Now,
		SnapshotInterval: plan.interval, CheckpointPages: 200, Retain: true, Retention: plan.policy,
		Logger: slog.New(slog.NewTextHandler(&y.log, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: brief})),
	}.On(disk.OS{}).Packed(plan.packing)
	var q strings.Builder
	q.WriteString("BEGIN;")
	for id := range allRows {
		q.WriteString(y.insert(id + 1))
	}
	y.app.exec(q.String() + "COMMIT")
	y.committed() // the replica begins with it
	y.start()
	return y
}

// commit makes one transaction, and now and then another one that is rolled back.
// While no replicator runs it changes one page only: a new WAL of which a page is as
// it was before proves nothing, and would have to be compared.
func (y *year) commit() {
	y.t.Helper()
	if y.engine == nil {
		y.update()
		return
	}
	if y.rng.IntN(10) == 0 {
		y.app.exec("BEGIN IMMEDIATE; DELETE FROM t WHERE id%2=0; INSERT INTO t(v) VALUES('never'); ROLLBACK")
	}
	var q strings.Builder
	q.WriteString("BEGIN IMMEDIATE;")
	if y.rng.IntN(3) == 0 {
		id := y.id()
		_, _ = fmt.Fprintf(&q, "DELETE FROM t WHERE id=%d;", id)
		y.forget(id)
	}
	for range 1 + y.rng.IntN(2) {
		q.WriteString(y.insert(y.id()))
	}
	y.app.exec(q.String() + "COMMIT")
	y.committed()
}

// update puts something else of the same length into a row.
func (y *year) update() {
	y.t.Helper()
	id := hotRows
	for y.rows[id].size == 0 {
		id++
	}
	v := y.blob(y.rows[id].size)
	y.app.exec(fmt.Sprintf("UPDATE t SET v=x'%x' WHERE id=%d", v, id))
	y.keep(id, v)
	y.committed()
}

// insert is the statement for a row, which is there from now on.
func (y *year) insert(id int) string {
	v := y.blob(16 + y.rng.IntN(500))
	y.keep(id, v)
	return fmt.Sprintf("INSERT OR REPLACE INTO t VALUES(%d, x'%x');", id, v)
}

func (y *year) blob(n int) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(y.rng.Uint32())
	}
	return v
}

// keep and forget model the rows.
func (y *year) keep(id int, v []byte) {
	y.forget(id)
	y.rows[id] = yearRow{sumRow(int64(id), v), len(v)}
	y.all += y.rows[id].sum
}

func (y *year) forget(id int) {
	y.all -= y.rows[id].sum
	delete(y.rows, id)
}

// Most of what is written goes to the first rows.
const (
	hotRows = 20
	allRows = 400
)

func (y *year) id() int {
	if y.rng.IntN(4) > 0 {
		return 1 + y.rng.IntN(hotRows)
	}
	return 1 + y.rng.IntN(allRows)
}

// yearRow is a row as the model knows it.
type yearRow struct {
	sum  uint64
	size int
}

// sumRow is a row's part of a content's sum.
func sumRow(id int64, v []byte) uint64 {
	return xxhash.Sum64(append(binary.BigEndian.AppendUint64(nil, uint64(id)), v...))
}

// committed takes note of a commit.
func (y *year) committed() { y.truth.add(y.clock.Now(), content{y.all, len(y.rows)}) }

// vacuum deletes half of the rows, and gives their pages back.
func (y *year) vacuum() {
	y.t.Helper()
	y.app.exec("DELETE FROM t WHERE id%2=0")
	for id := range y.rows {
		if id%2 == 0 {
			y.forget(id)
		}
	}
	y.committed()
	y.app.exec("VACUUM")
	y.committed()
}

// to sets the clock, as wrong as it is. It can go back a little after something that
// took hours.
func (y *year) to(at time.Time) { y.clock.pass(at.Add(y.wrong).Sub(y.clock.Now())) }

// work commits, and waits until all that follows from it is done.
func (y *year) work(commits int) {
	y.t.Helper()
	before := y.bucket.newest()
	for range commits {
		y.commit()
	}
	switch {
	case !y.once:
		y.settle(before)
	case y.rng.IntN(3) == 0:
		y.runOnce(replica.NoSnapshot)
	}
}

// settle waits until all commits are shipped, and, if one is due, for a snapshot
// that is newer than before.
func (y *year) settle(before state.TXID) {
	y.t.Helper()
	id, now := y.truth.last(), y.clock.Now()
	y.await(fmt.Sprintf("TXID %v to be shipped", id), func() bool { return last(y.t, y.bucket.Bucket) >= id })
	y.truth.see(now)
	if now.Sub(y.truth.at(before)) >= y.plan.interval && id > before {
		y.await(fmt.Sprintf("a snapshot after TXID %v", before), func() bool { return y.bucket.newest() > before })
	}
}

// await waits for what something that is put brings about.
func (y *year) await(what string, cond func() bool) {
	y.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-y.bucket.changed:
		case err := <-y.engine.done:
			y.t.Fatalf("%v: replication ended while it was to wait for %s: %v", y.clock.Now(), what, err)
		case <-deadline.C:
			y.t.Fatalf("%v: waited too long for %s", y.clock.Now(), what)
		}
	}
}

// start begins to replicate, and waits until all is shipped.
func (y *year) start() {
	y.t.Helper()
	before := y.bucket.newest()
	opts := y.opts
	y.hands = &hands{Bucket: opts.Bucket}
	opts.Bucket = y.hands
	if y.rng.IntN(2) == 0 {
		opts = opts.Parking(nil)
	}
	y.engine = launch(y.t, opts)
	if before == 0 {
		before = y.bucket.newest() // the first snapshot
	}
	y.settle(before)
	y.tally.starts++
}

// stop ends replication.
func (y *year) stop() {
	y.t.Helper()
	if y.engine != nil {
		y.engine.stop()
		y.engine = nil
	}
}

// kill ends replication at one moment. Whatever it does after it is forgotten, to
// storage and to local state.
func (y *year) kill() {
	y.t.Helper()
	y.hands.still.Lock()
	files, err := snap(y.opts.StateDir)
	y.hands.dead = true
	y.hands.still.Unlock()
	y.opts.StateDir = filepath.Join(y.t.TempDir(), "state")
	if err = errors.Join(err, writeTree(y.opts.StateDir, files)); err != nil {
		y.t.Fatal(err)
	}
	_ = y.engine.end() // whatever it says
	y.engine = nil
	y.tally.kills++
}

// runOnce ships everything in a run that ends.
func (y *year) runOnce(snapshot replica.SnapshotKind) {
	y.t.Helper()
	opts := y.opts
	opts.Snapshot = snapshot
	before := y.bucket.newest()
	rep, err := replica.Once(y.t.Context(), opts)
	if err != nil {
		y.t.Fatalf("%v: run once: %v", y.clock.Now(), err)
	}
	if rep.TXID != y.truth.last() {
		y.t.Fatalf("%v: a run has shipped up to TXID %v, not %v", y.clock.Now(), rep.TXID, y.truth.last())
	}
	y.truth.see(y.clock.Now())
	if got := y.bucket.newest(); snapshot != replica.NoSnapshot && got != rep.TXID || got < before {
		y.t.Errorf("%v: the newest snapshot is of TXID %v, not %v", y.clock.Now(), got, rep.TXID)
	}
	y.tally.onces++
}

// markCurrent names the commit that the database is at, as tidemark mark does.
func (y *year) markCurrent() {
	y.t.Helper()
	c, err := current.Find(y.t.Context(), current.Options{Path: y.opts.Path, StateDir: y.opts.StateDir, Bucket: y.bucket, Logger: discard()})
	if err != nil {
		y.t.Fatal(err)
	}
	if c.TXID != y.truth.last() {
		y.t.Errorf("the current commit is said to be TXID %v, and is %v", c.TXID, y.truth.last())
	}
	y.mark(c.Archive, c.TXID, c.Time)
}

// markEarlier names a commit that is still kept: one of all those of late, or an
// older one of which there is a snapshot.
func (y *year) markEarlier() {
	y.t.Helper()
	a := y.open()
	first := y.truth.window()
	id := first + state.TXID(y.rng.IntN(int(y.truth.last()-first)+1))
	if kept := y.truth.thinned(); y.rng.IntN(2) == 0 {
		id = kept[y.rng.IntN(len(kept))]
	}
	at, err := a.CommitTime(y.t.Context(), id)
	if err != nil {
		y.t.Fatal(err)
	}
	y.mark(a, id, at)
}

func (y *year) mark(a *archive.Archive, id state.TXID, at time.Time) {
	y.t.Helper()
	y.names++
	name := fmt.Sprintf("mark-%d", y.names)
	if err := a.PutMark(y.t.Context(), archive.Mark{Name: name, TXID: id, Time: at, Created: y.clock.Now()}); err != nil {
		y.t.Fatal(err)
	}
	y.truth.marks[name] = id
}

// unmark deletes a mark.
func (y *year) unmark(name string) {
	y.t.Helper()
	if err := y.open().DeleteMark(y.t.Context(), name); err != nil {
		y.t.Fatal(err)
	}
	y.truth.unmark(name)
}

// open reads the archive as others do, beside the replicator.
func (y *year) open() *archive.Archive {
	y.t.Helper()
	a, err := archive.Open(y.t.Context(), y.bucket.Bucket)
	if err != nil {
		y.t.Fatal(err)
	}
	return a
}
