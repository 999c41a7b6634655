package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// Where SQLite puts its POSIX locks: in the database file at the first bytes of
// the lock-byte page (os.h), in the -shm file behind the two copies of the WAL
// index's header (walformat, section 2.3.1).
const (
	sharedFirst, sharedLast     = 0x40000002, 0x40000002 + 509
	shmWrite                    = 120
	readSlotFirst, readSlotLast = 123, 127
)

// lock is a lock on bytes of a file: one of the process (POSIX), as SQLite takes them, or
// one of the open file (OFDLCK), as tidemark does for a database that is parked.
type lock struct {
	write       bool
	first, last int64
}

// covers tells whether the lock is on any of these bytes.
func (l lock) covers(first, last int64) bool { return l.first <= last && first <= l.last }

// locksOf reads which locks a process holds on a file. It reads the lines of
// /proc/locks, but where they stand with the process's descriptors: the kernel
// writes /proc/locks itself page by page, and next to processes that take and
// release locks all the time a line can be missing there.
func locksOf(t *testing.T, pid int, path string) (locks []lock) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", pid)
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// It can be closed again by now.
		if name, err := os.Readlink(proc + "fd/" + fd.Name()); err != nil || name != path {
			continue
		}
		b, err := os.ReadFile(proc + "fdinfo/" + fd.Name())
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			if l, ok := parseLock(t, line); ok {
				locks = append(locks, l)
			}
		}
	}
	return locks
}

// parseLock reads a line such as
//
//	lock:	1: POSIX  ADVISORY  READ  4711 fe:00:131 123 123
func parseLock(t *testing.T, line []byte) (l lock, ok bool) {
	t.Helper()
	f := bytes.Fields(line)
	if len(f) != 9 || string(f[0]) != "lock:" || string(f[2]) != "POSIX" && string(f[2]) != "OFDLCK" {
		return lock{}, false
	}
	first, err := strconv.ParseInt(string(f[7]), 10, 64)
	last, err2 := strconv.ParseInt(string(f[8]), 10, 64)
	if err := errors.Join(err, err2); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return lock{write: string(f[4]) == "WRITE", first: first, last: last}, true
}

// shared tells whether a process has a database open as far as its lock tells.
func shared(t *testing.T, pid int, db string) bool {
	t.Helper()
	return slices.ContainsFunc(locksOf(t, pid, db), func(l lock) bool { return l.covers(sharedFirst, sharedLast) })
}

// reads tells whether a process holds a read transaction as far as its locks
// tell.
func reads(t *testing.T, pid int, db string) bool {
	t.Helper()
	return slices.ContainsFunc(locksOf(t, pid, db+"-shm"), func(l lock) bool {
		return !l.write && l.covers(readSlotFirst, readSlotLast)
	})
}

// holds tells whether a process that pins a database does so: it holds a read
// transaction or, in the moment when a hand-off exchanges it, the write lock.
func holds(t *testing.T, pid int, db string) bool {
	t.Helper()
	return shared(t, pid, db) && slices.ContainsFunc(locksOf(t, pid, db+"-shm"), func(l lock) bool {
		return !l.write && l.covers(readSlotFirst, readSlotLast) || l.write && l.covers(shmWrite, shmWrite)
	})
}

// canTell tells whether handingOff can.
const canTell = true

// handingOff tells whether a tidemark is in the part of a hand-off that is under
// the write lock.
func handingOff(t *testing.T, pid int, db string) bool {
	t.Helper()
	return slices.ContainsFunc(locksOf(t, pid, db+"-shm"), func(l lock) bool { return l.write && l.covers(shmWrite, shmWrite) })
}

// TestLocksSurvive watches the engine's locks while an application keeps it
// busy with hand-offs, and while it restores beside the database in the same
// process.
func TestLocksSurvive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at, db := folderPlace(t), filepath.Join(dir, "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	e := act(t, "engine", db, at.folder)
	pid := e.cmd.Process.Pid

	restore := func(name string) func() error {
		return func() error { return e.do("restore " + filepath.Join(dir, name)) }
	}
	app.do(t, "start 500") // The race detector slows the engine only.
	samples := watchLocks(t, pid, db, 10, restore("a.db"))
	samples += watchLocks(t, pid, db, 10, restore("a.db")) // which moves a.db aside
	if err := e.do("again"); err != nil {                  // which ends the pin for a moment
		t.Fatal(err)
	}
	samples += watchLocks(t, pid, db, 10, restore("b.db"))
	commits := app.do(t, "stop")
	samples += watchLocks(t, pid, db, 0, restore("c.db"))
	if err := e.do("again"); err != nil { // ships what is left
		t.Fatal(err)
	}
	if n := newest(t, at); n != commits {
		t.Errorf("the replica ends with transaction %d of %d", n, commits)
	}
	t.Logf("the locks were there in all of %d samples, over %d WAL resets", samples, walHeader(t, db).Sequence)
	app.close(t)
}

// watchLocks looks at the locks without a pause while a function runs, and until
// the WAL has restarted some times, each after a hand-off.
func watchLocks(t *testing.T, pid int, db string, resets uint32, during func() error) (samples int) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- during() }()
	running := true
	for end := walHeader(t, db).Sequence + resets; running || walHeader(t, db).Sequence < end; samples++ {
		if !holds(t, pid, db) {
			t.Fatalf("sample %d: no pin; locks of the database: %v, of its -shm: %v",
				samples, locksOf(t, pid, db), locksOf(t, pid, db+"-shm"))
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
	}
	return samples
}

// TestPinHoldsWAL stops tidemark's process dead, so that it can't read: nobody
// else can make the WAL lose the frames that come meanwhile, neither by a
// checkpoint nor by being the last to close the database.
func TestPinHoldsWAL(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 30} { // commits in the WAL at the start
		t.Run(fmt.Sprintf("%d commits before", before), func(t *testing.T) {
			t.Parallel()
			testPinHoldsWAL(t, before)
		})
	}
}

func testPinHoldsWAL(t *testing.T, before int) {
	t.Helper()
	at, db := folderPlace(t), filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	app.write(t, before)
	p := replicate(t, db, at, "--checkpoint-pages", "100000")
	p.attached(t, at)
	app.write(t, 30)
	settled(t, p, at, int64(before+30))
	p.signal(t, syscall.SIGSTOP)
	commits := app.write(t, 30)
	size := fileSize(t, db+"-wal")
	if truncateWAL(t, db) {
		t.Error("a checkpoint has emptied the WAL before tidemark has read it")
	}
	app.close(t)
	if got := fileSize(t, db+"-wal"); got != size {
		t.Errorf("the WAL has %d bytes after the last application closed it, %d before", got, size)
	}
	p.signal(t, syscall.SIGCONT)
	settled(t, p, at, commits)
	p.stop(t)
	if h := readHistory(t, at); h.last() != 61 || len(h.resyncs()) > 0 {
		t.Errorf("the history has %v TXIDs and repairs at %v; want 61 and none", h.last(), h.resyncs())
	}
}

// truncateWAL tries to empty the WAL as a process that knows nothing of
// tidemark, and tells whether it could.
func truncateWAL(t *testing.T, path string) bool {
	t.Helper()
	db, err := openLive(path)
	if err != nil {
		t.Fatal(err)
	}
	var busy, frames, done int
	err = db.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return busy == 0
}

// TestLocksAreLost states the danger that package source avoids: a process that
// opens and closes a database's files by hand loses the locks that SQLite holds
// for it, and others then destroy what it reads.
func TestLocksAreLost(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	app.write(t, 10)
	reader := act(t, "careless", db)
	pid := reader.cmd.Process.Pid
	app.write(t, 10)
	expect := func(when string, wantShared, wantReads, wantTruncated bool) {
		t.Helper()
		if got := shared(t, pid, db); got != wantShared {
			t.Errorf("%s: the lock on the database: %v, want %v", when, got, wantShared)
		}
		if got := reads(t, pid, db); got != wantReads {
			t.Errorf("%s: the lock on the read slot: %v, want %v", when, got, wantReads)
		}
		if got := truncateWAL(t, db); got != wantTruncated {
			t.Errorf("%s: the WAL could be emptied: %v, want %v", when, got, wantTruncated)
		}
	}
	touch := func(path string) {
		t.Helper()
		if err := reader.do(path); err != nil {
			t.Fatal(err)
		}
	}
	expect("in a read transaction", true, true, false)
	touch(db + "-wal")
	expect("after -wal was opened and closed", true, true, false)
	touch(db)
	expect("after the database was opened and closed", false, true, false)
	touch(db + "-shm")
	expect("after -shm was opened and closed", false, false, true)
	app.close(t)
}
