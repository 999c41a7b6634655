package integration_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"tidemark/integration/child"
)

// readerRole is an application that reads a database, and goes on with the same
// transaction until its input ends.
func readerRole(args []string) error {
	db, err := sql.Open("sqlite", args[0])
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, "reading"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, tx.Rollback(), db.Close())
}

// TestBlockedByReader has a reader keep the WAL from being checkpointed to its end:
// replication goes on, and the log and tidemark status name the reader.
func TestBlockedByReader(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who holds a lock")
	}
	db, at := filepath.Join(t.TempDir(), "app.db"), folderPlace(t)
	makeLedger(t, db)
	app := goWriter(t, db)
	p := replicate(t, db, at, "--checkpoint-pages", "20")
	p.attached(t, at)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, db)
	cmd.Env = append(os.Environ(), roleVariable+"=reader")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "reading\n" {
		t.Fatalf("the reader says %q (%v)", line, err)
	}
	pid := "process " + strconv.Itoa(cmd.Process.Pid) + ")"
	app.do(t, "start 500")
	p.eventually(t, "it tells of the reader", func() bool {
		return p.logged(t, func(line map[string]any) bool {
			readers, err := json.Marshal(line["readers"])
			return err == nil && line["level"] == "WARN" && strings.Contains(string(readers), fmt.Sprintf(`"PID":%d}`, cmd.Process.Pid))
		}) > 0
	})
	p.eventually(t, "status tells of it", func() bool {
		said, err := exec.CommandContext(t.Context(), buildProgram(t), "status", db).Output()
		return err == nil && strings.Contains(string(said), pid)
	})
	before := headOf(t, at)
	p.reached(t, at, before+50)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	<-reader.Exited()
	commits := app.do(t, "stop")
	settled(t, p, at, commits)
	p.stop(t)
	app.close(t)
	wantEach(t, at, commits, 0)
}
