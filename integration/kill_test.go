//go:build unix

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/state"
)

// killVariable lengthens what is killed, paused and fenced: a duration, for
// TestKill. With it, a pause of TestFencePaused is a minute.
const killVariable = "TIDEMARK_TEST_KILL"

// killDuration is how long TestKill kills.
func killDuration(t *testing.T) time.Duration {
	t.Helper()
	v := os.Getenv(killVariable)
	if v == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("%s: %v", killVariable, err)
	}
	return d
}

// TestKill kills an application and tidemark, alone and together, at any moment
// and at the bad ones, pauses them, and starts them again, for half a minute or as
// long as TIDEMARK_TEST_KILL says. No commit may be lost, and every TXID must be
// a state that was committed. Where the WAL restarted and tidemark did not live
// to see it, commits become one, marked as a repair: at most one for each start,
// and of none that tidemark had made safe before.
func TestKill(t *testing.T) {
	t.Parallel()
	t.Run("folder", func(t *testing.T) { t.Parallel(); testKill(t, folderPlace(t)) })
	t.Run("minio", func(t *testing.T) { t.Parallel(); testKill(t, minioPlace(t)) })
}

// settleEvery is how often the loop waits until the replica has everything.
const settleEvery = 40 * time.Second

func testKill(t *testing.T, at place) {
	t.Helper()
	o := newOrdeal(t, at)
	d := killDuration(t)
	end, settle := time.Now().Add(d), time.Now().Add(settleEvery)
	for time.Now().Before(end) {
		name := rounds[rand.IntN(len(rounds))]
		o.count[name]++
		o.round(t, name)
		if time.Now().After(settle) {
			o.settle(t)
			o.write(t)
			settle = time.Now().Add(settleEvery)
		}
	}
	o.settle(t)
	o.p.stop(t)
	o.keepLog(t)
	o.app.checkpoint(t)
	o.app.close(t)
	o.wantHistory(t)
}

// ordeal is an application and tidemark that are killed.
type ordeal struct {
	at    place
	db    string
	app   *writer
	p     *process
	count map[string]int // of the rounds
	// safe and logs tell of each tidemark from which commit on it may have had
	// to repair, and what it logged.
	safe []state.TXID
	logs []string
	// acked is how many transactions were committed for sure when the
	// application was killed last.
	acked int64
}

func newOrdeal(t *testing.T, at place) *ordeal {
	t.Helper()
	o := &ordeal{at: at, db: filepath.Join(keptDir(t, at), "app.db"), count: map[string]int{}}
	makeLedger(t, o.db)
	for range 3 { // while it begins the replica
		o.startTidemark(t)
		o.p.pass(t, upTo(50*time.Millisecond))
		o.killTidemark(t)
	}
	o.startTidemark(t)
	o.p.attached(t, at)
	o.startApp(t)
	return o
}

// startApp has an application commit, as fast as it can or with pauses.
func (o *ordeal) startApp(t *testing.T) {
	t.Helper()
	o.app = goWriter(t, o.db)
	if n := o.app.opened; n < o.acked || n > o.acked+1 {
		t.Fatalf("the database has %d transactions, %d were acknowledged", n, o.acked)
	}
	o.write(t)
}

func (o *ordeal) write(t *testing.T) {
	t.Helper()
	o.app.do(t, []string{"start", "start 1000", "start 3000", "start 30000"}[rand.IntN(4)])
}

func (o *ordeal) killApp(t *testing.T) {
	t.Helper()
	o.acked = o.app.kill(t)
}

func (o *ordeal) startTidemark(t *testing.T) {
	t.Helper()
	o.safe = append(o.safe, o.remembered(t)) // before it adds to it
	o.p = replicate(t, o.db, o.at, "--sync-interval", "100ms", "--checkpoint-pages", "300")
}

func (o *ordeal) killTidemark(t *testing.T) {
	t.Helper()
	o.p.kill(t)
	o.keepLog(t)
}

// keepLog has the log of a tidemark that has ended stay as long as the database.
func (o *ordeal) keepLog(t *testing.T) {
	t.Helper()
	name := filepath.Join(filepath.Dir(o.db), fmt.Sprintf("tidemark-%04d.log", len(o.logs)+1))
	if err := os.Rename(o.p.log, name); err != nil {
		t.Fatal(err)
	}
	o.p.log = name
	o.logs = append(o.logs, name)
}

// remembered is the commit up to which tidemark has promised to lose none, even
// if it is killed.
func (o *ordeal) remembered(t *testing.T) state.TXID {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(stateDir(o.db), "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var s struct{ TXID state.TXID }
	if err = errors.Join(err, json.Unmarshal(b, &s)); err != nil {
		t.Fatal(err)
	}
	return s.TXID
}

// stateDir is where tidemark keeps its state of a database if it is not told.
func stateDir(db string) string {
	return filepath.Join(filepath.Dir(db), "."+filepath.Base(db)+"-tidemark")
}

// rounds are what is done to the two. After each both run again.
var rounds = []string{
	"tidemark", "application", "both", "both", "start", "hand-off", "upload", "paused tidemark", "paused application", "idle",
	"checkpoint",
}

func (o *ordeal) round(t *testing.T, name string) {
	t.Helper()
	o.p.pass(t, upTo(700*time.Millisecond))
	switch name {
	case "tidemark":
		o.killTidemark(t)
		o.startTidemark(t)
	case "application":
		o.killApp(t)
		o.startApp(t)
	case "both":
		o.both(t)
	case "start":
		o.killTidemark(t)
		for range 1 + rand.IntN(3) {
			o.startTidemark(t)
			o.p.pass(t, upTo(60*time.Millisecond))
			o.killTidemark(t)
		}
		o.startTidemark(t)
	case "hand-off":
		o.p.resumed(t)
		o.within(t, 2*time.Second, func() bool { return handingOff(t, o.p.cmd.Process.Pid, o.db) })
		o.killTidemark(t)
		o.startTidemark(t)
	case "upload":
		o.p.resumed(t)
		o.within(t, 2*time.Second, func() bool { return spooled(t, o.db) })
		o.killTidemark(t)
		o.startTidemark(t)
	case "paused tidemark":
		o.p.signal(t, syscall.SIGSTOP)
		pass(upTo(time.Second))
		if rand.IntN(2) == 0 {
			o.killTidemark(t)
			o.startTidemark(t)
			return
		}
		o.p.signal(t, syscall.SIGCONT)
	case "paused application":
		o.pauseApp(t)
	case "idle":
		o.idle(t)
	case "checkpoint":
		o.checkpoint(t)
	}
}

// both kills both, in either order, and starts them in either order.
func (o *ordeal) both(t *testing.T) {
	t.Helper()
	kills := []func(*testing.T){o.killTidemark, o.killApp}
	starts := []func(*testing.T){o.startTidemark, o.startApp}
	for _, steps := range [][]func(*testing.T){kills, starts} {
		i := rand.IntN(2)
		steps[i](t)
		if rand.IntN(2) == 0 {
			pass(upTo(200 * time.Millisecond))
		}
		steps[1-i](t)
	}
}

// pauseApp stops the application for a moment, perhaps in a transaction, and
// perhaps for ever; perhaps tidemark is killed next to it.
func (o *ordeal) pauseApp(t *testing.T) {
	t.Helper()
	o.app.signal(t, syscall.SIGSTOP)
	o.p.pass(t, upTo(400*time.Millisecond))
	if rand.IntN(3) == 0 {
		o.killTidemark(t)
		o.startTidemark(t)
		o.p.pass(t, upTo(100*time.Millisecond))
	}
	if rand.IntN(2) == 0 {
		o.killApp(t)
		o.startApp(t)
		return
	}
	o.app.signal(t, syscall.SIGCONT)
}

// idle kills tidemark again and again while the application waits: there is one
// repair at most, however often.
func (o *ordeal) idle(t *testing.T) {
	t.Helper()
	o.app.do(t, "stop")
	before := len(o.logs) + 1 // The tidemark that runs now may have repaired something, too.
	for range 1 + rand.IntN(4) {
		o.killTidemark(t)
		o.startTidemark(t)
		if rand.IntN(2) == 0 {
			o.p.resumed(t)
		} else {
			o.p.pass(t, upTo(50*time.Millisecond))
		}
	}
	o.settle(t)
	repairs := map[state.TXID]bool{} // One that was killed before it was safe is made again.
	for _, log := range append(slices.Clone(o.logs[before:]), o.p.log) {
		ids, _ := repairsLogged(t, log)
		for _, id := range ids {
			repairs[id] = true
		}
	}
	if len(repairs) > 1 {
		t.Errorf("repairs %v although the application waited", slices.Sorted(maps.Keys(repairs)))
	}
	o.write(t)
}

// checkpoint makes checkpoints, for which tidemark has to give way, and perhaps
// kills it meanwhile.
func (o *ordeal) checkpoint(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return checkpointUntil(ctx, o.db) })
	for range 1 + rand.IntN(3) {
		o.p.pass(t, upTo(500*time.Millisecond))
		if rand.IntN(2) == 0 {
			o.killTidemark(t)
			o.startTidemark(t)
		}
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// checkpointUntil makes checkpoints of every mode until ctx ends.
func checkpointUntil(ctx context.Context, path string) error {
	db, err := openLive(path)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it has nothing to lose
	query := "PRAGMA busy_timeout = 2000"
	for ctx.Err() == nil {
		if _, err := db.ExecContext(context.WithoutCancel(ctx), query); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[rand.IntN(4)]
		query = "PRAGMA wal_checkpoint(" + mode + ")"
	}
	return nil
}

// settle has the application wait until the replica has everything, and proves
// that it does.
func (o *ordeal) settle(t *testing.T) {
	t.Helper()
	commits := o.app.do(t, "stop")
	var (
		n    int64
		seen state.TXID
	)
	o.p.eventually(t, fmt.Sprintf("transaction %d", commits), func() bool {
		head := headOf(t, o.at)
		if head == seen {
			return false
		}
		path, err := programRestore(t.Context(), buildProgram(t), o.at, head, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if n, err = readLedger(t.Context(), path); err != nil {
			t.Fatalf("TXID %v: %v", head, err)
		}
		seen = head
		return n >= commits
	})
	if n > commits {
		t.Fatalf("the replica has transaction %d of %d", n, commits)
	}
}

// within waits for the moment to kill, but not for ever.
func (o *ordeal) within(t *testing.T, d time.Duration, moment func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !moment() && time.Now().Before(end); {
		o.p.pass(t, 100*time.Microsecond)
	}
}

// wantHistory proves that the history is what it may be. Neither of the two runs
// any more.
func (o *ordeal) wantHistory(t *testing.T) {
	t.Helper()
	h := wantTraceable(t, o.at, o.db)
	repairs := map[state.TXID]int{} // by which tidemark
	for i, log := range o.logs {
		ids, late := repairsLogged(t, log)
		if late > 0 || len(ids) > 1 {
			t.Errorf("start %d of tidemark repaired TXIDs %v, %d of them while it followed the database: %s", i+1, ids, late, log)
		}
		for _, id := range ids {
			repairs[id] = i
		}
	}
	for _, id := range h.resyncs() {
		if i, ok := repairs[id]; !ok || id <= o.safe[i] {
			t.Errorf("TXID %v is a repair by start %d of tidemark (logged: %t), when everything up to TXID %v was safe", id, i+1, ok, o.safe[i])
		}
	}
	if n := len(h.resyncs()); n > len(o.logs)-1 {
		t.Errorf("%d repairs by %d starts", n, len(o.logs))
	}
	t.Logf("tidemark was started %d times; rounds: %v", len(o.logs), o.count)
	out, err := programRestore(t.Context(), buildProgram(t), o.at, h.last(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wantSameFile(t, out, o.db)
}

// spooled tells whether a sealed segment waits to be uploaded, or is on its way.
func spooled(t *testing.T, db string) bool {
	t.Helper()
	names, err := os.ReadDir(filepath.Join(stateDir(db), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(names, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".seg") })
}

// upTo is any time up to d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }

// pass lets time pass: a part of the test's length, no wait for something.
func pass(d time.Duration) { <-time.After(d) }
