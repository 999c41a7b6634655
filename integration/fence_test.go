//go:build unix

package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/snapshot/state"
)

// TestFenceSameDatabase has two tidemarks follow one database into one replica,
// which the second takes for its own because nothing differs: with the next
// commits one of the two stops, and the history has each commit once.
func TestFenceSameDatabase(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, at place) {
		t.Helper()
		db := filepath.Join(keptDir(t, at), "app.db")
		makeLedger(t, db)
		app := goWriter(t, db)
		a := follower(t, db, at)
		a.attached(t, at)
		app.write(t, 20)
		a.reached(t, at, 21)
		b := follower(t, db, at)
		b.resumed(t)
		app.do(t, "start 1000")
		winner := wantOneFenced(t, a, b)
		commits := app.do(t, "stop")
		settled(t, winner, at, commits)
		winner.stop(t)
		app.close(t)
		wantEach(t, at, commits, 0)
	})
}

// TestFenceCopy copies a database and tidemark's state of it to another folder,
// as a cloned machine has them, and lets both go on.
func TestFenceCopy(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, at place) {
		t.Helper()
		db := filepath.Join(keptDir(t, at), "app.db")
		makeLedger(t, db)
		app := goWriter(t, db)
		a := replicate(t, db, at, "--sync-interval", "100ms")
		a.attached(t, at)
		settled(t, a, at, app.write(t, 50))
		a.stop(t)
		app.close(t)
		clone := filepath.Join(t.TempDir(), "app.db")
		if err := errors.Join(copyFile(clone, db), os.CopyFS(stateDir(clone), os.DirFS(stateDir(db)))); err != nil {
			t.Fatal(err)
		}

		dbs, apps := map[*process]string{}, map[*process]*writer{}
		for _, path := range []string{db, clone} {
			app := goWriter(t, path)
			p := replicate(t, path, at, "--sync-interval", "100ms")
			p.resumed(t)
			dbs[p], apps[p] = path, app
		}
		var both []*process
		for p := range dbs { // in any order
			both = append(both, p)
			apps[p].do(t, "start 1000")
		}
		winner := wantOneFenced(t, both[0], both[1])
		for _, p := range both {
			commits := apps[p].do(t, "stop")
			if p != winner { // a supervisor starts it again
				if f := replicate(t, dbs[p], at).failed(t); f.Code != 1 {
					t.Errorf("started again it failed with %+v", f)
				}
			}
			if p == winner {
				settled(t, p, at, commits)
				p.stop(t)
			}
			apps[p].checkpoint(t)
			apps[p].close(t)
		}
		wantRuns(t, at, dbs[winner])
	})
}

// TestFenceOtherDatabase ships another database to a replica: that is refused. If
// it is to take the replica over, one of the two stops.
func TestFenceOtherDatabase(t *testing.T) {
	t.Parallel()
	for _, load := range []string{"start 1000", "stop"} { // of the first one
		t.Run(strings.Fields(load)[0], func(t *testing.T) {
			t.Parallel()
			eachPlace(t, func(t *testing.T, at place) { t.Helper(); testFenceOther(t, at, load) })
		})
	}
}

func testFenceOther(t *testing.T, at place, load string) {
	t.Helper()
	db, other := filepath.Join(keptDir(t, at), "app.db"), filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	makeLedger(t, other)
	app, app2 := goWriter(t, db), goWriter(t, other)
	app.write(t, 5)
	app2.write(t, 70)
	app2.kill(t) // and so has a ledger of its own from here on
	app2 = goWriter(t, other)
	a := follower(t, db, at)
	a.attached(t, at)
	app.do(t, load)

	refused := follower(t, other, at)
	if f := refused.failed(t); f.Code != 1 || !strings.Contains(f.Message+f.Hint, "--takeover") {
		t.Errorf("another database was refused with %+v", f)
	}
	b := follower(t, other, at, "--takeover")
	if load == "stop" {
		b.resumed(t)
		b.eventually(t, "the takeover", func() bool { return len(readHistory(t, at).resyncs()) > 0 })
		app.do(t, "start 1000") // now the first one learns of it
	}
	app2.do(t, "start 1000")
	winner := wantOneFenced(t, a, b)
	if load == "stop" && winner != b {
		t.Error("the one that took over stopped")
	}
	commits, commits2 := app.do(t, "stop"), app2.do(t, "stop")
	if winner == b {
		commits = commits2
	}
	settled(t, winner, at, commits)
	winner.stop(t)
	for _, w := range []*writer{app, app2} {
		w.checkpoint(t)
		w.close(t)
	}
	if winner == a {
		wantRuns(t, at, db)
	} else {
		wantRuns(t, at, db, other)
	}
}

// TestFencePaused pauses a tidemark, as a machine does that is suspended, while
// another one takes its replica over: the first stops as soon as it wakes up.
func TestFencePaused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"same database", "copy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPlace(t, func(t *testing.T, at place) {
				t.Helper()
				pause := 3 * time.Second
				if os.Getenv(killVariable) != "" && name == "same database" && at.folder == "" {
					pause = time.Minute
				}
				testFencePaused(t, at, pause, name == "copy")
			})
		})
	}
}

//nolint:revive // isCopy is the test's name
func testFencePaused(t *testing.T, at place, pause time.Duration, isCopy bool) {
	t.Helper()
	db := filepath.Join(keptDir(t, at), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	a := follower(t, db, at)
	a.attached(t, at)
	app.do(t, "start 1000")
	a.reached(t, at, 100)
	if isCopy {
		settled(t, a, at, app.do(t, "stop"))
	}
	a.suspend(t, db)
	dbs := []string{db}
	apps := []*writer{app}
	if isCopy {
		clone := filepath.Join(t.TempDir(), "app.db")
		if err := errors.Join(copyFile(clone, db), copyFile(clone+"-wal", db+"-wal")); err != nil {
			t.Fatal(err)
		}
		dbs, apps = append(dbs, clone), append(apps, goWriter(t, clone))
		app.do(t, "start 1000")
	}
	last := len(dbs) - 1
	b := follower(t, dbs[last], at, "--takeover")
	apps[last].do(t, "start 1000")
	b.resumed(t)
	was := headOf(t, at)
	b.pass(t, pause)
	b.reached(t, at, was+20)
	a.signal(t, syscall.SIGCONT)
	if winner := wantOneFenced(t, a, b); winner != b {
		t.Error("the one that took over stopped")
	}
	for i, app := range apps {
		commits := app.do(t, "stop")
		if i == last {
			settled(t, b, at, commits)
			b.stop(t)
		}
		app.checkpoint(t)
		app.close(t)
	}
	if n := len(readHistory(t, at).resyncs()); n > 1 {
		t.Errorf("%d repairs for one takeover", n)
	}
	if isCopy {
		wantRuns(t, at, dbs...)
	} else {
		wantTraceable(t, at, db)
	}
}

// eachPlace runs a test with a folder and with MinIO.
func eachPlace(t *testing.T, test func(*testing.T, place)) {
	t.Helper()
	t.Run("folder", func(t *testing.T) { t.Parallel(); test(t, folderPlace(t)) })
	t.Run("minio", func(t *testing.T) { t.Parallel(); test(t, minioPlace(t)) })
}

// follower starts a tidemark with a state directory of its own.
func follower(t *testing.T, db string, at place, flags ...string) *process {
	t.Helper()
	return replicate(t, db, at, append(flags, "--sync-interval", "100ms", "--state-dir", filepath.Join(t.TempDir(), "state"))...)
}

// suspend stops the process as it is, but not while it has the write lock: then
// nobody else could write.
func (p *process) suspend(t *testing.T, db string) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	for canTell && handingOff(t, p.cmd.Process.Pid, db) {
		p.signal(t, syscall.SIGCONT)
		p.pass(t, time.Millisecond)
		p.signal(t, syscall.SIGSTOP)
	}
}

// failure is how a tidemark ends that fails, as it says with --json.
type failure struct {
	Message string
	Hint    string
	Code    int
}

// failed waits until the process fails, and gives how.
func (p *process) failed(t *testing.T) (f failure) {
	t.Helper()
	select {
	case <-p.Exited():
	case <-time.After(2 * time.Minute):
		t.Fatal("tidemark goes on")
	}
	p.killed = true // it was to end
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	var said struct{ Error failure }
	if err := json.Unmarshal(lines[len(lines)-1], &said); err != nil {
		t.Fatalf("tidemark ended with %v, and at last it said %q: %v", p.Err(), lines[len(lines)-1], err)
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != said.Error.Code {
		t.Errorf("tidemark ended with %v and says %+v", p.Err(), said.Error)
	}
	return said.Error
}

// wantOneFenced waits until one of two tidemarks stops, which must say that the
// other one has advanced the replica, and gives the one that goes on.
func wantOneFenced(t *testing.T, a, b *process) (winner *process) {
	t.Helper()
	loser := a
	winner = b
	select {
	case <-a.Exited():
	case <-b.Exited():
		winner, loser = a, b
	case <-time.After(2 * time.Minute):
		t.Fatal("both go on")
	}
	f := loser.failed(t)
	t.Logf("fenced: %s", f.Message)
	if f.Code != 1 || !strings.Contains(f.Message, "another writer has advanced this replica") {
		t.Errorf("it stopped with exit code %d: %s", f.Code, f.Message)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{host, strconv.Itoa(winner.cmd.Process.Pid)} {
		if !strings.Contains(f.Message, who) {
			t.Errorf("it does not say who has, %s: %s", who, f.Message)
		}
	}
	if t.Failed() {
		t.Logf("the end of its log:\n%s", loser.tail(t))
	}
	winner.pass(t, 0)
	return winner
}

// wantRuns proves that each TXID is a state of one of some databases, which are
// closed: first those of the first, then those of the second, never the other way
// round.
func wantRuns(t *testing.T, at place, dbs ...string) {
	t.Helper()
	oracles := make([][]string, len(dbs))
	for i, db := range dbs {
		oracles[i] = readOracle(t, db)
	}
	h := readHistory(t, at)
	ids := sample(h.last(), 40)
	states := make([]shown, h.last()+1)
	eachRestored(t, at, ids, func(id state.TXID, path string) (err error) {
		states[id], err = readShown(t.Context(), path)
		return err
	})
	run, from := 0, make([]int, len(dbs))
	for _, id := range ids {
		s := states[id]
		for run < len(dbs) && (s.n >= int64(len(oracles[run])) || oracles[run][s.n] != s.digest) {
			run++
		}
		if run == len(dbs) {
			t.Fatalf("TXID %v is no state of the databases, or one of an earlier one: transaction %d, %s; before: %v", id, s.n, s.digest, from)
		}
		from[run]++
	}
	if last := states[h.last()]; run != len(dbs)-1 || last.n != int64(len(oracles[run])-1) {
		t.Errorf("the history ends with transaction %d of database %d", last.n, run+1)
	}
	t.Logf("%d TXIDs, repairs at %v; of those restored, this many are of each database: %v", h.last(), h.resyncs(), from)
}
