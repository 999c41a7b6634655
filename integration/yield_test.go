package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	// checkpointTimeout is the busy timeout of an application's checkpoints.
	checkpointTimeout = 5 * time.Second
	// checkpointPause is the time between two of them.
	checkpointPause = 20 * time.Millisecond
	// yieldTime is how long they are measured, of each kind.
	yieldTime = 3 * time.Second
)

// checkpointed is a checkpoint of the application's.
type checkpointed struct {
	Took time.Duration
	// Busy is what the pragma answers: the checkpoint is not complete.
	Busy bool
}

// checkpointerRole makes checkpoints: args are the database, the mode, and for
// how long. It prints a list of checkpointed.
func checkpointerRole(args []string) (err error) {
	ctx := context.Background()
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	db, err := openLive(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", checkpointTimeout.Milliseconds())); err != nil {
		return err
	}
	var all []checkpointed
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(checkpointPause) {
		var busy, frames, done int
		start := time.Now()
		if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+args[1]+")").Scan(&busy, &frames, &done); err != nil {
			return err
		}
		all = append(all, checkpointed{Took: time.Since(start), Busy: busy != 0})
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// TestYield measures what an application's own checkpoints cost it next to a
// writer, with tidemark and without. tidemark must let them pass, none may wait
// until its busy timeout is over, and no commit may be lost for it.
func TestYield(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"FULL", "RESTART", "TRUNCATE"} {
		//nolint:paralleltest // They are measured.
		for _, load := range []struct{ name, command string }{{"busy", "start"}, {"idle", "start 50000"}} {
			t.Run(mode+" "+load.name, func(t *testing.T) {
				alone := measureCheckpoints(t, mode, load.command, nil)
				at := folderPlace(t)
				with := measureCheckpoints(t, mode, load.command, &at)
				t.Logf("\nalone:         %v\nwith tidemark: %v", alone, with)
				// Next to a busy writer a checkpoint can also starve before it
				// has the write lock: then the writer does not notice it.
				if with.usedUp > 0 && with.longest > checkpointTimeout/2 {
					t.Errorf("%d checkpoints waited for the pin until their busy timeout was used up", with.usedUp)
				}
			})
		}
	}
}

// yieldFigures are what checkpoints cost.
type yieldFigures struct {
	n, busy, usedUp int
	p50, p99, max   time.Duration
	commits         int64
	longest         time.Duration // commit
}

func (f yieldFigures) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
	return fmt.Sprintf("%d checkpoints, %d busy, %d used up their timeout; p50 %s, p99 %s, max %s; %d commits, the longest %s",
		f.n, f.busy, f.usedUp, ms(f.p50), ms(f.p99), ms(f.max), f.commits, ms(f.longest))
}

// measureCheckpoints has one process write and another one checkpoint, next to a
// tidemark that replicates to a place if one is given.
func measureCheckpoints(t *testing.T, mode, load string, at *place) (f yieldFigures) {
	t.Helper()
	db := filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	var p *process
	if at != nil {
		p = replicate(t, db, *at)
		p.attached(t, *at)
	}
	app.do(t, load)
	all := checkpoints(t, db, mode, yieldTime)
	f.commits = app.do(t, "stop")
	f.longest = time.Duration(app.do(t, "longest")) * time.Microsecond
	if at != nil {
		p.stop(t)
		wantEach(t, *at, f.commits, 1)
	}
	app.close(t)

	slices.SortFunc(all, func(a, b checkpointed) int { return int(a.Took - b.Took) })
	f.n, f.p50, f.p99, f.max = len(all), all[len(all)/2].Took, all[len(all)*99/100].Took, all[len(all)-1].Took
	for _, c := range all {
		if c.Busy {
			f.busy++
		}
		if c.Busy && c.Took >= checkpointTimeout {
			f.usedUp++
		}
	}
	return f
}

// checkpoints has a process checkpoint for some time.
func checkpoints(t *testing.T, db, mode string, d time.Duration) (all []checkpointed) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, db, mode, d.String())
	cmd.Env = append(os.Environ(), roleVariable+"=checkpointer")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("checkpointer: %v: %s%s", err, out, &stderr)
	}
	return all
}

// wantEach proves that a replica that began with an empty ledger has each commit,
// and nothing else. At so many repairs a few commits may share a TXID: where a
// checkpoint can have had to pass without a pin.
func wantEach(t *testing.T, at place, commits int64, repairs int) {
	t.Helper()
	h := readHistory(t, at)
	ids, shared := h.resyncs(), commits+1-int64(h.last())
	if len(ids) > repairs || len(ids) == 0 && shared != 0 || shared > mostShared(commits) {
		t.Errorf("after %d commits the last TXID is %v, and there are repairs at %v", commits, h.last(), ids)
		return
	}
	wantShared(t, at, sample(h.last(), 6), ids, shared)
}
