package replica_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/disk"
	"tidemark/replica/source"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// pair follows a database into two replicas, and waits until each has some commits.
func (s *several) pair(second func(replica.Options) replica.Options) (es [2]*engine, buckets [2]*mem.Bucket) {
	s.Helper()
	for i, name := range []string{"", "b"} {
		buckets[i] = mem.New()
		opts := s.options(name, buckets[i])
		if i == 1 && second != nil {
			opts = second(opts)
		}
		es[i] = launch(s.T, opts)
	}
	s.commit(45)
	for _, b := range buckets {
		shipped(s.T, b, state.TXID(len(s.states)))
	}
	return es, buckets
}

// whole checks that the newest state of a replica is one of the database's, and that
// the next run brings it up to date.
func (s *several) whole(name string, b *mem.Bucket) {
	s.Helper()
	at := s.at(b)
	launch(s.T, s.options(name, b)).stop()
	if now := s.at(b); now != len(s.states)-1 || now < at {
		s.Errorf("the replica is at commit %d of %d", now+1, len(s.states))
	}
}

// at is the commit that a replica's newest state is.
func (s *several) at(b storage.Bucket) int {
	s.Helper()
	got := restored(s.T, b, 0)
	for i, want := range s.states {
		if got == want {
			return i
		}
	}
	s.Fatal("what the replica has was never a state of the database")
	return 0
}

// One that others have gone on without, and that is stopped before it has heard of
// it, ships nothing of what came after.
func TestSeveralStopLost(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	es, buckets := s.pair(nil)
	s.proc.Locked(s.a.path, func(seats replica.Seats) {
		err := seats.Aside(0, func() {
			s.commit(20)
			s.a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
			s.commit(1)
		})
		if !errors.Is(err, source.ErrAside) {
			t.Fatal(err)
		}
		es[1].cancel()
	})
	if err := <-es[1].done; err == nil {
		t.Error("it says that it has stopped well")
	}
	s.whole("b", buckets[1])
	es[0].end() //nolint:errcheck // it may be stopped while it compares
	s.whole("", buckets[0])
}

// One for which a commit could not be read, and that is stopped before it has heard of
// it, does not read the next one.
func TestSeveralStopFailed(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	fs := &fullDisk{FS: disk.OS{}}
	es, buckets := s.pair(func(o replica.Options) replica.Options { return o.On(fs) })
	s.proc.Locked(s.a.path, func(seats replica.Seats) {
		fs.set(true)
		s.commit(20)
		if err := seats.Read(0); !errors.Is(err, source.ErrBusy) {
			t.Errorf("to read for both gives %v, want ErrBusy", err)
		}
		fs.set(false)
		es[1].cancel()
	})
	if err := <-es[1].done; err == nil {
		t.Error("it says that it has stopped well")
	}
	s.whole("b", buckets[1])
	es[0].stop()
	s.check(buckets[0], 0)
	s.check(buckets[1], 0)
}

// lockedFull has no room for new files under the write lock.
type lockedFull struct {
	disk.FS
	on     atomic.Bool
	failed atomic.Int64
}

func (f *lockedFull) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	if f.on.Load() && flag&os.O_CREATE != 0 {
		stack := make([]byte, 1<<16)
		if strings.Contains(string(stack[:runtime.Stack(stack, false)]), ".Secure(") {
			f.failed.Add(1)
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
		}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// One that fails under the write lock has the hand-off given up, and loses nothing.
func TestSeveralFailsLocked(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	fs := &lockedFull{FS: disk.OS{}}
	es, buckets := s.pair(func(o replica.Options) replica.Options { return o.On(fs) })
	other := &app{t: t, path: s.a.path}
	other.open()
	s.proc.Locked(s.a.path, func(seats replica.Seats) {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					other.exec("REPLACE INTO t VALUES(1000, randomblob(300))")
				}
			}
		}()
		fs.on.Store(true)
		for i := 0; i < 400 && fs.failed.Load() == 0; i++ {
			if res, err := seats.HandOff(0); fs.failed.Load() > 0 && res.Complete {
				t.Errorf("it was not given up: %+v, %v", res, err)
			}
		}
		fs.on.Store(false)
		close(stop)
		<-done
	})
	waitFor(t, func() bool { return restored(t, buckets[1], 0) == s.a.digest() })
	es[0].stop()
	es[1].stop()
	if n := resyncs(t, buckets[1]); n > 0 {
		t.Errorf("%d resyncs", n)
	}
}

// One that would attach while another reads pages can be stopped.
func TestSeveralStopWaiting(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	e := launch(t, s.options("", mem.New()))
	s.commit(5)
	s.proc.Locked(s.a.path, func(seats replica.Seats) { seats.Image(1) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	b := mem.New()
	go func() { _, err := replica.Run(ctx, s.options("b", b)); done <- err }()
	waitFor(t, func() bool { return len(objects(t, b)) > 0 }) // it goes on to attach
	cancel()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("it still waits long after it was told to stop")
	}
	s.proc.Locked(s.a.path, func(seats replica.Seats) { seats.Image(-1) })
	e.stop()
}

// One that has given up its spool does not keep the pin of others that have left.
func TestSeveralOverflowAlone(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	well, ill := mem.New(), &outOfReach{faulty: faulty{Bucket: mem.New()}}
	opts := s.options("b", ill)
	opts.SpoolLimit = 32 << 10
	e, f := launch(t, s.options("", well)), launch(t, opts)
	s.commit(5)
	shipped(t, ill.Bucket, 6)
	ill.set(true)
	waitFor(t, func() bool { s.commit(1); return !exists(filepath.Join(s.dir, "replicas", "b", "state.json")) })
	waitFor(t, func() bool { return folderSize(t, filepath.Join(s.dir, "replicas", "b", "spool")) == 0 })
	salt := header(t, s.a.path+"-wal").Salts.Salt1
	waitFor(t, func() bool { s.commit(1); return s.restarts(salt) >= 1 }) // it leaves the pin to the other
	e.stop()
	salt = header(t, s.a.path+"-wal").Salts.Salt1
	waitFor(t, func() bool { s.commit(5); return s.restarts(salt) >= 3 }) // nothing is pinned
	ill.set(false)
	waitFor(t, func() bool { return resyncs(t, ill.Bucket) == 1 })
	f.stop()
	s.whole("b", ill.Bucket)
}

// A file that something else writes to ends all replications of it.
func TestSeveralOverwritten(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	s.a.exec("INSERT INTO big VALUES(randomblob(4000000))")
	s.a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	s.states[0] = s.a.digest()
	parked := make(chan struct{}, 100)
	es, _ := s.pair(func(o replica.Options) replica.Options {
		return o.Parking(func() {
			select {
			case parked <- struct{}{}:
			default:
			}
		})
	})
	<-parked // all is handed off
	// As cp would write, one page. To close the file would drop SQLite's locks.
	w, err := os.OpenFile(s.a.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // when all have ended
	if _, err := w.WriteAt([]byte("this is not what SQLite has written"), 4096*500); err != nil {
		t.Fatal(err)
	}
	for i, e := range es {
		select {
		case err := <-e.done:
			if !errors.Is(err, replica.ErrOverwritten) {
				t.Errorf("replica %d ends with %v", i, err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("replica %d has not noticed", i)
		}
	}
}
