package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/disk"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// several is a database with replicas of its own in one process.
type several struct {
	*testing.T
	a    *app
	proc *replica.Process
	dir  string
	// states are the digests after each commit, the first before any.
	states []string
}

func newSeveral(t *testing.T) *several {
	t.Helper()
	a := newApp(t, "PRAGMA wal_autocheckpoint=0", "PRAGMA synchronous=OFF")
	a.exec("CREATE TABLE big(v)")
	s := &several{T: t, a: a, proc: replica.NewProcess(), dir: filepath.Join(t.TempDir(), "state")}
	t.Cleanup(func() {
		if err := s.proc.Close(); err != nil {
			t.Error(err)
		}
	})
	s.states = []string{a.digest()}
	return s
}

func (s *several) options(name string, b storage.Bucket) replica.Options {
	return replica.Options{
		Path: s.a.path, Bucket: b, StateDir: s.dir, Replica: name, Name: name, Process: s.proc,
		SyncInterval: time.Millisecond, CheckpointPages: 10, Logger: discard(),
	}.On(nil)
}

// of tells how many there are.
func (*several) of(n int, opts replica.Options) replica.Options {
	opts.Replicas = n
	return opts
}

// commit makes n commits.
func (s *several) commit(n int) {
	s.Helper()
	for range n {
		s.a.exec(fmt.Sprintf("REPLACE INTO t VALUES(%d, randomblob(500))", len(s.states)%40))
		s.states = append(s.states, s.a.digest())
	}
}

// check compares a replica that began at a commit, 0 the first, with what was
// committed since: each commit is there, and no other.
func (s *several) check(b storage.Bucket, began int) {
	s.Helper()
	cs := commitsOf(s.T, b)
	if want := len(s.states) - began; len(cs) != want {
		s.Errorf("%d commits, want %d", len(cs), want)
	}
	for i, c := range cs {
		if c.Resync {
			s.Errorf("TXID %d is a resync of %d pages", i+1, c.Pages)
		}
		if began+i < len(s.states) && (i%5 == 0 || i == len(cs)-1) {
			if got := restored(s.T, b, c.TXID); got != s.states[began+i] {
				s.Errorf("TXID %d: digest %s, want %s", i+1, got, s.states[began+i])
			}
		}
	}
}

// restarts tells how often the WAL has restarted since it had a salt.
func (s *several) restarts(since uint32) uint32 {
	s.Helper()
	return header(s.T, s.a.path+"-wal").Salts.Salt1 - since
}

// Each replica of a database has every commit, whatever the application does, and
// the WAL restarts as with one.
func TestSeveral(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	buckets := []*mem.Bucket{mem.New(), mem.New(), mem.New()}
	start := func() (es []*engine) {
		var wg sync.WaitGroup
		es = make([]*engine, len(buckets))
		for i, b := range buckets {
			wg.Go(func() { es[i] = launch(t, s.of(3, s.options([]string{"", "b", "c"}[i], b))) })
		}
		wg.Wait()
		return es
	}
	for round := range 3 {
		es := start()
		s.commit(1)
		salt := header(t, s.a.path+"-wal").Salts.Salt1
		for i := range 12 {
			s.commit(1 + rand.IntN(12))
			switch i % 4 {
			case 1:
				s.a.exec("PRAGMA wal_checkpoint(" + []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[rand.IntN(4)] + ")")
			case 3:
				s.a.exec("VACUUM")
				s.states = append(s.states, s.a.digest())
			}
		}
		waitFor(t, func() bool { s.commit(1); return s.restarts(salt) >= 3 })
		for i := range es { // in turn, with commits in between
			if round == 1 {
				s.commit(2)
			}
			es[(i+round)%len(es)].stop()
		}
		s.commit(3)
	}
	for i, e := range start() {
		e.stop()
		t.Run(strconv.Itoa(i), func(t *testing.T) { s := *s; s.T = t; s.check(buckets[i], 0) })
	}
}

// One that is added beside a writer begins where it finds the database, and takes
// nothing from the others.
func TestSeveralAdded(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	first, second := mem.New(), mem.New()
	e := launch(t, s.options("", first))
	s.commit(20)
	written := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	opts := s.options("new", second)
	opts.Ready = func() { close(written) }
	go func() {
		_, err := replica.Run(ctx, opts)
		done <- err
	}()
	for ready := false; !ready; {
		s.commit(3)
		select {
		case <-written:
			ready = true
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	s.commit(30)
	e.stop()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.check(first, 0)
	began := slices.Index(s.states, restored(t, second, 1))
	if began < 0 {
		t.Fatal("TXID 1 of the second replica was never a state of the database")
	}
	s.check(second, began)
}

// What happens to one replica is nothing to the others.
func TestSeveralFailures(t *testing.T) {
	t.Parallel()
	t.Run("storage away", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		well, ill := mem.New(), &outOfReach{faulty: faulty{Bucket: mem.New()}}
		e, f := launch(t, s.options("", well)), launch(t, s.options("b", ill))
		s.commit(5)
		shipped(t, ill.Bucket, 6)
		ill.set(true)
		salt := header(t, s.a.path+"-wal").Salts.Salt1
		waitFor(t, func() bool { s.commit(5); return s.restarts(salt) >= 3 })
		shipped(t, well, state.TXID(len(s.states)))
		ill.set(false)
		shipped(t, ill.Bucket, state.TXID(len(s.states)))
		e.stop()
		f.stop()
		s.check(well, 0)
		s.check(ill.Bucket, 0)
	})
	t.Run("fenced", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		well, ill := mem.New(), mem.New()
		e, f := launch(t, s.options("", well)), launch(t, s.options("b", ill))
		s.commit(5)
		shipped(t, ill, 6)
		advance(t, ill, 7)
		s.commit(1)
		if err := <-f.done; !errors.Is(err, replica.ErrFenced) {
			t.Fatal("it ended with ", err)
		}
		s.commit(1)
		salt := header(t, s.a.path+"-wal").Salts.Salt1
		waitFor(t, func() bool { s.commit(5); return s.restarts(salt) >= 3 })
		e.stop()
		s.check(well, 0)
	})
	t.Run("spool full", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		well, ill := mem.New(), &outOfReach{faulty: faulty{Bucket: mem.New()}}
		opts := s.options("b", ill)
		opts.SpoolLimit = 32 << 10
		e, f := launch(t, s.options("", well)), launch(t, opts)
		s.commit(5)
		shipped(t, ill.Bucket, 6)
		ill.set(true)
		here := filepath.Join(s.dir, "replicas", "b")
		waitFor(t, func() bool { s.commit(1); return !exists(filepath.Join(here, "state.json")) })
		s.commit(30)
		ill.set(false)
		waitFor(t, func() bool { return resyncs(t, ill.Bucket) == 1 })
		s.commit(10)
		e.stop()
		f.stop()
		s.check(well, 0)
		if restored(t, ill.Bucket, 0) != s.states[len(s.states)-1] || resyncs(t, ill.Bucket) != 1 {
			t.Errorf("the other has %d resyncs, or not the last state", resyncs(t, ill.Bucket))
		}
	})
	t.Run("disk full", func(t *testing.T) {
		t.Parallel()
		s := newSeveral(t)
		well, ill := mem.New(), mem.New()
		fs := &fullDisk{FS: disk.OS{}}
		e, f := launch(t, s.options("", well)), launch(t, s.options("b", ill).On(fs))
		s.commit(5)
		shipped(t, ill, 6)
		fs.set(true)
		s.commit(40)
		shipped(t, well, state.TXID(len(s.states)))
		fs.set(false)
		shipped(t, ill, state.TXID(len(s.states)))
		s.commit(10)
		e.stop()
		f.stop()
		s.check(well, 0)
		s.check(ill, 0)
	})
}

// All replicas of a database that nothing happens to are parked together, and wake
// up together.
func TestSeveralParked(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	buckets := []*mem.Bucket{mem.New(), mem.New()}
	var es []*engine
	var parked [2]atomic.Int64
	for i, b := range buckets {
		es = append(es, launch(t, s.options([]string{"", "b"}[i], b).Parking(func() { parked[i].Add(1) })))
	}
	for range 5 {
		was := [2]int64{parked[0].Load(), parked[1].Load()}
		s.commit(1 + rand.IntN(20))
		for _, b := range buckets {
			shipped(t, b, state.TXID(len(s.states)))
		}
		waitFor(t, func() bool { return parked[0].Load() > was[0] && parked[1].Load() > was[1] })
	}
	for i, e := range es {
		e.stop()
		s.check(buckets[i], 0)
	}
}

func resyncs(t *testing.T, b storage.Bucket) (n int) {
	t.Helper()
	for _, c := range commitsOf(t, b) {
		if c.Resync {
			n++
		}
	}
	return n
}

// fullDisk has no room for new files while it is full.
type fullDisk struct {
	disk.FS
	mu   sync.Mutex
	full bool
}

func (f *fullDisk) set(full bool) { f.mu.Lock(); defer f.mu.Unlock(); f.full = full }

func (f *fullDisk) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full && flag&os.O_CREATE != 0 {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// advance has somebody else, with a copy of the database, go on in a replica whose
// newest commit is the one before at.
func advance(t *testing.T, b *mem.Bucket, at state.TXID) {
	t.Helper()
	other := &app{t: t, path: filepath.Join(t.TempDir(), "copy.db")}
	_, file := restoredFile(t, b, at-1)
	write(t, other.path, file)
	other.open()
	e := launch(t, replica.Options{Path: other.path, Bucket: b, StateDir: filepath.Join(t.TempDir(), "other"), SyncInterval: time.Millisecond})
	other.insert(1)
	shipped(t, b, at)
	e.stop()
}

// What a kill leaves of several replicas is gone on from, by each on its own: no state
// is wrong, and what had been promised is there.
func TestSeveralKilled(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	names := []string{"", "b"}
	buckets := []*mem.Bucket{mem.New(), mem.New()}
	for round := range 6 {
		var es []*engine
		for i, b := range buckets {
			opts := s.of(2, s.options(names[i], b))
			if round%2 == 1 {
				opts.SyncInterval = time.Hour // all is in the spool
			}
			es = append(es, launch(t, opts))
		}
		s.commit(1 + rand.IntN(40))
		if round%2 == 0 { // nothing is under way
			for i, b := range buckets {
				spool := filepath.Join(s.stateDir(s.dir, names[i]), "spool")
				waitFor(t, func() bool { return restored(t, b, 0) == s.states[len(s.states)-1] && folderSize(t, spool) == 0 })
			}
		}
		dir := filepath.Join(t.TempDir(), "killed")
		frozen := make([]*mem.Bucket, len(buckets))
		s.proc.Locked(s.a.path, func(replica.Seats) { // nobody reads
			for i := range buckets {
				copyState(t, s.stateDir(s.dir, names[i]), s.stateDir(dir, names[i]))
				frozen[i] = clone(t, buckets[i], func(string) bool { return true })
			}
		})
		s.commit(rand.IntN(4))
		for _, e := range es {
			e.end() //nolint:errcheck // it ships to a bucket that is forgotten
		}
		s.dir, buckets = dir, frozen
		s.commit(round % 3)
	}
	for i, b := range buckets {
		launch(t, s.options(names[i], b)).stop()
		s.inOrder(i, b)
	}
}

// inOrder checks that a replica has the states of the database in their order, and
// leaves none out but where it says so.
func (s *several) inOrder(i int, b storage.Bucket) {
	s.Helper()
	at, cs := -1, commitsOf(s.T, b)
	for _, c := range cs {
		got := restored(s.T, b, c.TXID)
		next := slices.Index(s.states[at+1:], got)
		if next < 0 || !c.Resync && next > 0 {
			s.Fatalf("replica %d, TXID %v (resync: %t): the state is %d commits after the one before it", i, c.TXID, c.Resync, next+1)
		}
		at += next + 1
	}
	if at != len(s.states)-1 {
		s.Errorf("replica %d ends with commit %d of %d", i, at+1, len(s.states))
	}
	s.Logf("replica %d: %d commits of %d", i, len(cs), len(s.states))
}

func (*several) stateDir(dir, name string) string {
	if name == "" {
		return dir
	}
	return filepath.Join(dir, "replicas", name)
}
