package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFull has the file system of the state directory fill up while storage
// is away. tidemark says so and goes on trying, and so does the application; when
// there is room again, and storage, everything is shipped, commit by commit.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	t.Run("room first", func(t *testing.T) { t.Parallel(); testDiskFull(t, true) })
	t.Run("storage first", func(t *testing.T) { t.Parallel(); testDiskFull(t, false) })
}

//nolint:revive // roomFirst is the test's name
func testDiskFull(t *testing.T, roomFirst bool) {
	t.Helper()
	stateDir := filepath.Join(t.TempDir(), "state")
	mountSmall(t, stateDir)
	at, way := gatedPlace(t)
	db := filepath.Join(keptDir(t, at), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	p := replicate(t, db, at, "--sync-interval", "100ms", "--state-dir", stateDir)
	p.attached(t, at)
	settled(t, p, at, app.write(t, 50))

	way.close()
	app.do(t, "start 500")
	p.reports(t, syscall.ENOSPC)
	acked := app.acked(t)
	p.eventually(t, "the application's going on", func() bool { return app.acked(t) > acked+200 })
	app.do(t, "stop")
	room := func() { resize(t, stateDir, "64m") }
	steps := []func(){room, way.open}
	if !roomFirst {
		steps = []func(){way.open, room}
	}
	steps[0]()
	app.write(t, 100)
	steps[1]()
	settled(t, p, at, app.write(t, 100))
	commits := app.write(t, 5)
	settled(t, p, at, commits)
	p.stop(t)
	app.close(t)
	wantEach(t, at, commits, 0)
}

// TestNoDescriptors has tidemark run out of file descriptors.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, at place) {
		t.Helper()
		db := filepath.Join(keptDir(t, at), "app.db")
		makeLedger(t, db)
		app := goWriter(t, db)
		p := replicate(t, db, at, "--sync-interval", "100ms")
		p.attached(t, at)
		settled(t, p, at, app.write(t, 50))

		var was unix.Rlimit
		pid := p.cmd.Process.Pid
		// The descriptors that it has stay good.
		limit := unix.Rlimit{Cur: 1, Max: 1 << 20}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
			t.Fatal(err)
		}
		limit.Max = was.Max
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			t.Fatal(err)
		}
		app.do(t, "start 500")
		p.reports(t, syscall.EMFILE)
		acked := app.acked(t)
		p.eventually(t, "the application's going on", func() bool { return app.acked(t) > acked+200 })
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Fatal(err)
		}
		commits := app.do(t, "stop")
		settled(t, p, at, commits)
		commits = app.write(t, 50)
		settled(t, p, at, commits)
		p.stop(t)
		app.close(t)
		wantEach(t, at, commits, 0)
	})
}

// reports waits until the process tells of an error as one that a person should
// see.
func (p *process) reports(t *testing.T, err error) {
	t.Helper()
	p.eventually(t, fmt.Sprintf("a report of %q", err), func() bool {
		return p.logged(t, func(line map[string]any) bool {
			return (line["level"] == "WARN" || line["level"] == "ERROR") && strings.Contains(fmt.Sprint(line), err.Error())
		}) > 0
	})
}

// mountSmall makes a file system of 1 MiB, or skips the test.
func mountSmall(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a file system of its own can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

func resize(t *testing.T, dir, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}
