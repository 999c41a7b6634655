package check_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// roleVariable makes the test program an application, instead of running tests: a
// process of its own, since a check must not run in one that has the database open.
const roleVariable = "TIDEMARK_TEST_CHECK_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := application(role, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0) // without closing the database
	}
	os.Exit(m.Run())
}

// accounts is how many rows of a ledger there are, each on a page of its own. Their
// sum is 0 after each commit.
const accounts = 300

// pace is how long an application that writes rests after each commit. The race detector
// slows down the check, and not SQLite; a real check needs no rest.
const pace = 2 * time.Millisecond

// application makes a ledger, or goes on with it, says "ready", and does what its role
// is until its input ends.
func application(role, path string) error {
	ctx := context.Background()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	a := &app{ctx: ctx, db: db}
	if err := a.make(role); err != nil {
		return err
	}
	switch role {
	case "rollback", "closed":
		return db.Close()
	case "killed", "wide":
		return a.transfers(20)
	case "other":
		return a.other()
	case "torn":
		return a.torn()
	}
	fmt.Println("ready") //nolint:forbidigo // It answers.
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for role == "writing" || role == "checkpointing" {
		select {
		case <-ended:
			fmt.Println(a.n) //nolint:forbidigo // It answers.
			return nil
		default:
		}
		if err := a.transfers(1); err != nil {
			return err
		}
		<-time.After(pace)
		if role == "checkpointing" && a.n%20 == 0 {
			if err := a.checkpoint(); err != nil {
				return err
			}
		}
	}
	<-ended
	return db.Close()
}

type app struct {
	ctx context.Context //nolint:containedctx // It is a process.
	db  *sql.DB
	n   int
}

func (a *app) exec(q string, args ...any) error {
	if _, err := a.db.ExecContext(a.ctx, q, args...); err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// make makes the ledger. No busy handler waits for anybody.
func (a *app) make(role string) error {
	mode := "wal"
	if role == "rollback" || role == "torn" {
		mode = "delete"
	}
	size := 4096
	if role == "wide" {
		size = 8192
	}
	for _, q := range []string{
		fmt.Sprintf("PRAGMA page_size = %d", size), "PRAGMA busy_timeout = 0", "PRAGMA journal_mode = " + mode, "PRAGMA synchronous = normal",
		"CREATE TABLE IF NOT EXISTS a (id INTEGER PRIMARY KEY, v INTEGER, pad BLOB)",
		"CREATE INDEX IF NOT EXISTS av ON a (v)",
		fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) "+
			"INSERT OR IGNORE INTO a SELECT i, 0, zeroblob(3000) FROM n", accounts),
	} {
		if err := a.exec(q); err != nil {
			return err
		}
	}
	return nil
}

// transfers moves something from one account to another, n times.
func (a *app) transfers(n int) error {
	for range n {
		a.n++
		from, to := a.n*7%accounts+1, a.n*13%accounts+1
		if err := a.exec("UPDATE a SET v = v + CASE id WHEN ? THEN -? ELSE ? END WHERE id IN (?, ?) AND ? != ?",
			from, a.n, a.n, from, to, from, to); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint fails if anybody is in its way.
func (a *app) checkpoint() error {
	var busy, log, done int
	if err := a.db.QueryRowContext(a.ctx, "PRAGMA wal_checkpoint(RESTART)").Scan(&busy, &log, &done); err != nil {
		return err
	}
	if busy != 0 {
		return fmt.Errorf("checkpoint after %d commits: somebody is in its way", a.n)
	}
	return nil
}

// torn ends in the midst of a transaction of which a part is in the file.
func (a *app) torn() error {
	for _, q := range []string{"PRAGMA cache_size = 10", "BEGIN", "UPDATE a SET v = v + 1, pad = randomblob(3000)"} {
		if err := a.exec(q); err != nil {
			return err
		}
	}
	return nil
}

// other makes a WAL that only this database's file has the rest to.
func (a *app) other() error {
	for _, q := range []string{
		"CREATE TABLE b (v TEXT)", "CREATE INDEX bv ON b (v)",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) INSERT INTO b SELECT hex(randomblob(20)) FROM n",
		"PRAGMA wal_checkpoint(TRUNCATE)", "UPDATE b SET v = hex(randomblob(20)) WHERE rowid % 3 = 0", "DELETE FROM a WHERE id % 2",
	} {
		if err := a.exec(q); err != nil {
			return err
		}
	}
	return nil
}

// process is an application that runs.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// run runs an application that ends by itself.
func run(t *testing.T, role, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the application: %v\n%s", err, out)
	}
}

// start starts one that runs until its end is called.
func start(t *testing.T, role, path string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	if !p.out.Scan() || p.out.Text() != "ready" {
		t.Fatalf("the application says %q", p.out.Text())
	}
	return p
}

// end ends it, and gives how often it has committed.
func (p *process) end(t *testing.T) (commits int) {
	t.Helper()
	if err := p.in.Close(); err != nil {
		t.Error(err)
	}
	for p.out.Scan() {
		commits, _ = strconv.Atoi(strings.TrimSpace(p.out.Text()))
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the application failed: %v", err)
	}
	return commits
}
