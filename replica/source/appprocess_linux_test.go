package source_test

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const appProcessPath = "TIDEMARK_TEST_APP"

// TestAppProcess is the other process of process: it runs what it is told, each line
// one or more statements, and answers with a line.
func TestAppProcess(t *testing.T) {
	path := os.Getenv(appProcessPath)
	if path == "" {
		t.Skip("only as another test's process")
	}
	var db *sql.DB
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var got []int
		var err error
		switch q := in.Text(); q {
		case "open":
			u := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(0)&_pragma=wal_autocheckpoint(0)&_pragma=synchronous(0)"}
			if db, err = sql.Open("sqlite", u.String()); err == nil {
				db.SetMaxOpenConns(1)
				err = db.PingContext(t.Context())
			}
		case "close":
			err = db.Close()
		default:
			for one := range strings.SplitSeq(q, ";") {
				var nerr error
				got, nerr = numbers(t, db, one)
				err = errors.Join(err, nerr)
			}
		}
		answer := processAnswer{Numbers: got}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			t.Fatal(err)
		}
	}
	if db != nil {
		_ = db.Close()
	}
}

// processAnswer is what a statement came to.
type processAnswer struct {
	Numbers []int
	Error   string
}

// numbers runs a statement and gives its first row, if that is of numbers.
func numbers(t *testing.T, db *sql.DB, q string) (got []int, err error) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return nil, rows.Err()
	}
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	if err := rows.Scan(values...); err != nil {
		return nil, err
	}
	for _, v := range values {
		if n, ok := (*v.(*any)).(int64); ok {
			got = append(got, int(n))
		}
	}
	return got, rows.Err()
}

// process is an application in another process.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startApp starts one that has a database open.
func startApp(t *testing.T, path string) *process {
	t.Helper()
	p := startProcess(t, "TestAppProcess", appProcessPath+"="+path)
	p.must("open")
	return p
}

// startProcess runs one of the tests as another process, which ends with this one.
func startProcess(t *testing.T, test string, env ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$")
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
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
	p := &process{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = p.in.Close()
		_, _ = io.Copy(io.Discard, p.out)
		_ = p.cmd.Wait()
	})
	return p
}

// run runs a statement.
func (p *process) run(q string) ([]int, error) {
	p.t.Helper()
	p.begin(q)
	return p.end()
}

// begin has one run, of which end waits for the answer.
func (p *process) begin(q string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, q+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) end() ([]int, error) {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	var a processAnswer
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		p.t.Fatalf("%s: %v", line, err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Numbers, nil
}

// must runs one that succeeds.
func (p *process) must(q string) []int {
	p.t.Helper()
	got, err := p.run(q)
	if err != nil {
		p.t.Fatalf("%s: %v", q, err)
	}
	return got
}

// insert makes n commits.
func (p *process) insert(n int) {
	p.t.Helper()
	for range n {
		p.must("INSERT INTO t(v) VALUES(randomblob(300))")
	}
}

func (p *process) checkpoint(mode string) checkpointed {
	p.t.Helper()
	got := p.must("PRAGMA wal_checkpoint(" + mode + ")")
	return checkpointed{Busy: got[0], Frames: got[1], Done: got[2]}
}

// kill ends it as a crash would.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

// openFiles are the names of the files that a process has open of a database, as
// often as it has.
func openFiles(t *testing.T, path string) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, path) {
			names = append(names, strings.TrimPrefix(to, path))
		}
	}
	return names
}

// lockByte holds a byte of a file for itself until the function it gives is called.
func lockByte(t *testing.T, path string, at int64) (release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// canLock tells whether nobody holds a byte of a file, in any way.
func canLock(t *testing.T, path string, at int64) bool {
	t.Helper()
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		t.Fatal(err)
	}
	return l.Type == unix.F_UNLCK
}
