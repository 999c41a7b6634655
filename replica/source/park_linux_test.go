package source_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/source"
	"tidemark/replica/source/netfs"
	"tidemark/wal"
)

// bareFiles are what is open of a database that is parked with locks in place of the
// pin's connection.
func bareFiles() []string { return []string{"", "-shm"} }

// parking is a database that is followed and may be parked.
type parking struct {
	*testing.T
	path string
	db   *source.DB
	f    *follower
}

// following follows a database. The applications are in other processes.
func following(t *testing.T) *parking {
	t.Helper()
	path, app := database(t)
	app.insert(2)
	p := &parking{T: t, path: path, db: open(t, path)}
	p.f = follow(t, p.db, attach(t, p.db))
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

// park hands all off and parks, with locks only.
func (p *parking) park() {
	p.Helper()
	if res, err := p.db.HandOff(p.Context(), p.f); err != nil || !res.Complete {
		p.Fatalf("hand-off: %+v, %v", res, err)
	}
	p.parkNow()
	if diff := cmp.Diff(bareFiles(), sorted(openFiles(p.T, p.path))); diff != "" {
		p.Fatalf("open while parked (-want +got):\n%s", diff)
	}
}

func (p *parking) parkNow() {
	p.Helper()
	if err := p.db.Park(p.Context(), p.f.position()); err != nil {
		p.Fatal(err)
	}
	if !p.db.Parked() || !p.db.Held() {
		p.Fatalf("parked: %t, held: %t", p.db.Parked(), p.db.Held())
	}
}

func (p *parking) unpark() {
	p.Helper()
	if err := p.db.Unpark(p.Context()); err != nil {
		p.Fatal(err)
	}
}

// same checks that what was followed is the database.
func (p *parking) same() {
	p.Helper()
	c := connect(p.T, p.path)
	defer c.Close() //nolint:errcheck // only read
	if got, want := digestOf(p.T, p.f.copy), c.digest(); got != want {
		p.Errorf("followed %s, the database is %s", got, want)
	}
}

func checkpointModes() []string { return []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"} }

func sorted(names []string) []string { slices.Sort(names); return names }

// The locks are those that SQLite knows a reader of slot 0 by, and no others. Recent
// versions would keep the WAL for one of two signs, older ones only for the first.
func TestParkedLocks(t *testing.T) {
	t.Parallel()
	p := following(t)
	p.park()
	want := map[string][]int64{"": {0x40000002, 0x400001ff}, "-shm": {123, 128}}
	for suffix, last := range map[string]int64{"": 0x40000200, "-shm": 130} {
		for at := last - 520; at <= last; at++ {
			if at < 0 {
				continue
			}
			first, end := want[suffix][0], want[suffix][1]
			locked := at == first || at == end || suffix == "" && at > first && at < end
			if got := !canLock(t, p.path+suffix, at); got != locked {
				t.Errorf("byte %d of the database%s is locked: %t", at, suffix, got)
			}
		}
	}
}

// Whatever an application does in another process while the database is parked, all
// its commits are found one by one.
func TestParkedFacts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do      []string
		commits int
	}{
		"nothing":                  {nil, 0},
		"a commit":                 {[]string{"+"}, 1},
		"a restart":                {[]string{"+", "+", "PASSIVE", "+", "+"}, 4},
		"no second restart":        {[]string{"+", "PASSIVE", "FULL", "+", "RESTART", "+", "TRUNCATE", "+"}, 4},
		"a truncated WAL":          {[]string{"TRUNCATE", "+", "+", "TRUNCATE", "+"}, 3},
		"empty generations":        {[]string{"RESTART", "RESTART", "TRUNCATE", "+", "RESTART"}, 1},
		"a last one that closes":   {[]string{"+", "close", "open", "+", "close"}, 2},
		"one that closes at once":  {[]string{"close", "open", "close", "open", "TRUNCATE", "close", "open", "+"}, 1},
		"a commit rolled back":     {[]string{"BEGIN IMMEDIATE", "INSERT INTO t(v) VALUES(1)", "ROLLBACK", "+"}, 1},
		"a change of journal mode": {[]string{"+", "?PRAGMA journal_mode=DELETE", "+"}, 2},
		"a vacuum":                 {[]string{"+", "VACUUM", "PASSIVE", "+"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := following(t)
			app := startApp(t, p.path)
			app.insert(1)
			if _, err := p.f.Read(); err != nil {
				t.Fatal(err)
			}
			p.park()
			for _, q := range c.do {
				switch {
				case q == "+":
					app.insert(1)
				case strings.HasPrefix(q, "?"):
					if _, err := app.run(q[1:]); err == nil {
						t.Errorf("%s succeeds", q[1:])
					}
				case slices.Contains(checkpointModes(), q):
					app.checkpoint(q)
				default:
					app.must(q)
				}
			}
			if c.commits > 0 && p.db.Resting() {
				t.Error("there were commits, and it is resting")
			}
			p.unpark()
			p.f.mustRead(1 + c.commits)
			p.same()
		})
	}
}

// What an application may do next to a database that is parked is what it may do next
// to a read transaction of the state of which the file has all.
func TestParkedCheckpoints(t *testing.T) {
	t.Parallel()
	p := following(t)
	app := startApp(t, p.path)
	app.insert(3)
	p.f.mustRead(3)
	p.park()
	if got := app.checkpoint("TRUNCATE"); got.Busy != 0 {
		t.Errorf("nothing is unread, and a checkpoint is told %+v", got)
	}
	app.insert(2)
	for _, mode := range []string{"PASSIVE", "FULL", "TRUNCATE"} {
		if got := app.checkpoint(mode); got.Done != 0 || got.Busy == 0 && mode != "PASSIVE" {
			t.Errorf("two commits are unread, and a checkpoint (%s) is told %+v", mode, got)
		}
	}
	p.unpark()
	p.f.mustRead(5)
	p.park()
	if got := app.checkpoint("TRUNCATE"); got.Busy != 0 {
		t.Errorf("they are read and handed off, and a checkpoint is told %+v", got)
	}
	p.unpark()
	p.same()
}

// The wal-index goes on counting although no process has it open for SQLite.
func TestParkedKeepsIndex(t *testing.T) {
	t.Parallel()
	p := following(t)
	app := startApp(t, p.path)
	app.insert(1)
	p.f.mustRead(1)
	p.park()
	before := indexOf(t, p.path)
	app.must("close")
	app.must("open")
	app.insert(1)
	if after := indexOf(t, p.path); after.Changes != before.Changes+1 {
		t.Errorf("it counted %d commits, and with one more %d", before.Changes, after.Changes)
	}
}

// indexOf reads a wal-index. Nobody else in this process may have it open.
func indexOf(t *testing.T, path string) wal.Index {
	t.Helper()
	b, err := os.ReadFile(path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	h, err := wal.ParseIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// An application in the same process, whose locks SQLite pools with those of the pin,
// has nothing to wait for, and nothing of it is missed either.
func TestParkedSameProcess(t *testing.T) {
	t.Parallel()
	path, app := database(t)
	app.insert(2)
	p := &parking{T: t, path: path, db: open(t, path)}
	p.f = follow(t, p.db, attach(t, p.db))
	commits := 0
	for range 3 {
		if res, err := p.db.HandOff(t.Context(), p.f); err != nil || !res.Complete {
			t.Fatalf("hand-off: %+v, %v", res, err)
		}
		p.parkNow()
		app.insert(2)
		other := connect(t, path)
		other.insert(1)
		app.checkpoint("PASSIVE")
		if err := app.Close(); err != nil {
			t.Fatal(err)
		}
		other.insert(1)
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(bareFiles(), sorted(openFiles(t, path))); diff != "" {
			t.Fatalf("open while parked (-want +got):\n%s", diff)
		}
		app = connect(t, path)
		app.insert(1)
		commits += 5
		p.unpark()
		p.f.mustRead(commits)
	}
	p.same()
}

// Where the locks would not do, or do more than the pin, its connection stays.
func TestParkedWithConnection(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(p *parking, app *process) []wal.Position{
		"nobody tells where the reader stands": func(*parking, *process) []wal.Position { return nil },
		"the reader is elsewhere": func(p *parking, _ *process) []wal.Position {
			at := p.f.position()
			at.Frame--
			return []wal.Position{at}
		},
		"one of two has yet to read": func(p *parking, app *process) []wal.Position {
			before := p.f.position()
			app.insert(1)
			p.f.mustRead(3)
			return []wal.Position{p.f.position(), before}
		},
		"a commit is unread": func(p *parking, app *process) []wal.Position {
			app.insert(1)
			return []wal.Position{p.f.position()}
		},
		"the file lacks a commit": func(p *parking, app *process) []wal.Position {
			app.insert(1)
			p.f.mustRead(3)
			return []wal.Position{p.f.position()}
		},
		"the slot is taken": func(p *parking, _ *process) []wal.Position {
			p.Cleanup(lockByte(p.T, p.path+"-shm", 123))
			return []wal.Position{p.f.position()}
		},
		"the -shm file is another one": func(p *parking, _ *process) []wal.Position {
			p.Cleanup(moved(p.T, p.path+"-shm"))
			return []wal.Position{p.f.position()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := following(t)
			app := startApp(t, p.path)
			app.insert(2)
			p.f.mustRead(2)
			if name != "the slot is taken" {
				if res, err := p.db.HandOff(t.Context(), p.f); err != nil || !res.Complete {
					t.Fatalf("hand-off: %+v, %v", res, err)
				}
			}
			commits := p.f.commits
			at := prepare(p, app)
			if err := p.db.Park(t.Context(), at...); err != nil {
				t.Fatal(err)
			}
			if got := openFiles(t, p.path); !slices.Contains(got, "-wal") {
				t.Errorf("open while parked: %q", got)
			}
			p.unpark()
			if _, err := p.f.Read(); err != nil || p.f.commits < commits {
				t.Errorf("read %d commits of %d, %v", p.f.commits, commits, err)
			}
		})
	}
}

// On a network file system the connection stays, too: who asks for a lock there is
// told of it by another machine.
func TestParkedNetwork(t *testing.T) {
	t.Parallel()
	path, _ := database(t)
	opts := options()
	opts.AllowNetworkFS = true
	opts.FileSystem = func(string) (netfs.Kind, error) { return "NFS", nil }
	d, err := source.Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context()) //nolint:errcheck // nothing was written
	p := &parking{T: t, path: path, db: d, f: follow(t, d, attach(t, d))}
	if res, err := d.HandOff(t.Context(), p.f); err != nil || !res.Complete {
		t.Fatalf("hand-off: %+v, %v", res, err)
	}
	p.parkNow()
	// One of each is the application's, and one is ours to read.
	if n := len(slices.DeleteFunc(openFiles(t, path), func(end string) bool { return end != "-wal" })); n != 3 {
		t.Errorf("the WAL is open %d times while parked", n)
	}
}

// A WAL or a wal-index that somebody deletes while it is in use is not made anew.
func TestParkedDeleted(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"-wal", "-shm"} {
		for _, instead := range []bool{false, true} {
			p := following(t)
			p.park()
			back := moved(t, p.path+suffix)
			if instead {
				if err := os.WriteFile(p.path+suffix, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.db.Unpark(t.Context()); !errors.Is(err, source.ErrReplaced) {
				t.Errorf("%s was moved away, another in its place: %t; %v", suffix, instead, err)
			}
			if _, err := os.Stat(p.path + suffix); errors.Is(err, os.ErrNotExist) == instead {
				t.Errorf("%s, another in its place: %t; %v", suffix, instead, err)
			}
			back()
			p.unpark()
			p.same()
		}
	}
}

// moved moves a file away, and back.
func moved(t *testing.T, path string) (back func()) {
	t.Helper()
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Rename(path+".moved", path); err != nil {
			t.Error(err)
		}
	}
}

// A database that is closed while it is parked is left as SQLite leaves one, and an
// application that has it open keeps what it has.
func TestParkedClose(t *testing.T) {
	t.Parallel()
	for _, used := range []bool{false, true} {
		path, app := database(t)
		app.insert(2)
		d, err := source.Open(t.Context(), path, options())
		if err != nil {
			t.Fatal(err)
		}
		p := &parking{T: t, path: path, db: d}
		p.f = follow(t, d, attach(t, d))
		if err := app.Close(); err != nil {
			t.Fatal(err)
		}
		p.park()
		var other *process
		if used {
			other = startApp(t, path)
			other.insert(1)
		}
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := openFiles(t, path); len(got) > 0 {
			t.Errorf("open after Close: %q", got)
		}
		if got := canLock(t, path, 0x40000002); got == used {
			t.Errorf("an application has it open: %t; the file can be locked: %t", used, got)
		}
		_, err = os.Stat(path + "-wal")
		if errors.Is(err, os.ErrNotExist) == used {
			t.Errorf("an application has it open: %t; its WAL: %v", used, err)
		}
		if used {
			other.insert(1)
			if got := other.must("SELECT count(*) FROM t"); got[0] != 4 {
				t.Errorf("%d rows, want 4", got[0])
			}
		}
	}
}

const parkedProcessPath = "TIDEMARK_TEST_PARKED"

// TestParkedProcess is the other process of TestParkedKilled: it parks a database
// until its input ends.
func TestParkedProcess(t *testing.T) {
	path := os.Getenv(parkedProcessPath)
	if path == "" {
		t.Skip("only as another test's process")
	}
	p := &parking{T: t, path: path, db: open(t, path)}
	p.f = follow(t, p.db, attach(t, p.db))
	p.park()
	if _, err := os.Stdout.WriteString("{}\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// A process that stands still keeps the WAL, and one that is killed leaves nothing
// behind.
func TestParkedKilled(t *testing.T) {
	t.Parallel()
	path, own := database(t)
	own.insert(3)
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	parked := startProcess(t, "TestParkedProcess", parkedProcessPath+"="+path)
	if _, err := parked.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := parked.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	app := startApp(t, path)
	app.insert(2)
	app.must("close")
	app.must("open")
	if got := app.checkpoint("TRUNCATE"); got.Busy == 0 || got.Done != 0 {
		t.Errorf("two commits are unread, and a checkpoint is told %+v", got)
	}
	parked.kill()
	if got := app.checkpoint("TRUNCATE"); got.Busy != 0 {
		t.Errorf("nobody keeps the WAL, and a checkpoint is told %+v", got)
	}
	app.must("close")
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody has the database open, and its WAL: %v", err)
	}
}
