package integration_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const (
	// bigTransaction is the size of one transaction, in bytes.
	bigTransaction = 300 << 20
	// memoryLimit is what tidemark may take for it.
	memoryLimit = 150 << 20
)

// TestMemory replicates and restores one transaction of 300 MB and watches what
// memory that takes.
//
//nolint:paralleltest // It takes the whole disk.
func TestMemory(t *testing.T) {
	t.Run("folder", func(t *testing.T) { testMemory(t, folderPlace(t)) })
	t.Run("minio", func(t *testing.T) { testMemory(t, minioPlace(t)) })
}

func testMemory(t *testing.T, at place) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	app := openFeature(t, path, feature{setup: []string{plainTable}})
	p := replicate(t, path, at)
	p.attached(t, at)
	execOutside(t, app, path, rows(1, bigTransaction/100_000, 100_000))
	p.reached(t, at, 2)
	peak := peakMemory(t, p)
	p.stop(t)
	execOutside(t, app, path, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() < bigTransaction {
		t.Errorf("the database has only %d bytes", info.Size())
	}

	out := filepath.Join(t.TempDir(), "out.db")
	r := startProgram(t, at, "restore", at.url, "-o", out)
	restorePeak := int64(0)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		restorePeak = max(restorePeak, peakMemory(t, r))
		select {
		case <-r.Exited():
			running = false
		case <-tick.C:
		}
	}
	if r.Err() != nil {
		t.Fatalf("restore: %v", r.Err())
	}
	t.Logf("one transaction of %d MiB: replicate took at most %d MiB, restore %d MiB", info.Size()>>20, peak>>20, restorePeak>>20)
	if peak > memoryLimit || restorePeak > memoryLimit || peak == 0 || restorePeak == 0 {
		t.Errorf("replicate took %d bytes, restore %d; the limit is %d", peak, restorePeak, memoryLimit)
	}
	wantSameFile(t, out, path)
}

// execOutside has the sqlite3 command carry out a statement, if there is one: the
// race detector makes SQLite in this process too slow for so many bytes.
func execOutside(t *testing.T, app *sql.DB, path, query string) {
	t.Helper()
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		execSQL(t, app, query)
		return
	}
	cmd := exec.CommandContext(t.Context(), shell, "-batch", "-cmd", ".timeout 20000", path, query)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", query, err, out)
	}
}

// peakMemory is the greatest resident size that a process has had, in bytes; 0
// if it has ended. The number that wait gives will not do: it counts the parent
// before the exec, too.
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(b, []byte("VmHWM:"))
	if !ok {
		return 0 // a zombie has none
	}
	value, _, _ := bytes.Cut(rest, []byte("kB"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
