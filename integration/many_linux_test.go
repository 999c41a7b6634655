package integration_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/snapshot/state"
	"tidemark/storage/file"
)

const (
	// manyDatabases is how many there are by default; TIDEMARK_TEST_MANY says
	// otherwise.
	manyDatabases = 60
	// manyBurst is how long a burst of writes over all of them may take to be in
	// storage, beside the writes themselves.
	manyBurst = 10 * time.Second
	// manyCommits is how many commits each database gets in the burst.
	manyCommits = 5
)

// TestMany has one process follow a folder of databases: what they cost when nothing
// happens, how long it takes for a burst of writes over all of them to be in storage,
// and what a broken one, a new one and one that goes do to the others: nothing.
//
//nolint:paralleltest // It measures.
func TestMany(t *testing.T) {
	n := manyDatabases
	if v := os.Getenv("TIDEMARK_TEST_MANY"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatalf("TIDEMARK_TEST_MANY: %v", err)
		}
	}
	m := newMany(t, n)
	buildProgram(t)
	began := time.Now()
	m.tidemark = startProgram(t, m.at, "replicate", "--json", "--log-format", "json", "--config", m.config(t))
	m.followed(t, n)
	t.Logf("%d databases are followed after %v", n, time.Since(began).Round(100*time.Millisecond))
	m.tidemark.pass(t, 20*time.Second) // until they are parked, and looked at rarely
	m.idle(t)
	m.burst(t)

	added := m.database(t, "late/added.db")
	m.followed(t, n+1)
	m.write(t, added)
	if err := os.Rename(m.dbs[0], m.dbs[0]+".gone"); err != nil {
		t.Fatal(err)
	}
	for _, db := range []string{added, m.dbs[n-1]} {
		m.write(t, db)
		want := 1 + state.TXID(manyCommits)*2
		m.tidemark.eventually(t, fmt.Sprintf("TXID %v of %s", want, db), func() bool { return headOf(t, m.place(t, db)) >= want })
	}
	m.tidemark.signal(t, syscall.SIGTERM)
	if f := m.tidemark.failed(t); !strings.Contains(f.Message, "1 of ") {
		t.Errorf("it ended with %+v, want to hear of the broken one, and of no other", f)
	}
	m.proven(t)
}

// many is a folder of databases and the process that replicates them.
type many struct {
	dir, template string
	at            place
	dbs           []string
	tidemark      *process
	// names are those of the databases, as they are in the folder.
	names []string
}

func newMany(t *testing.T, n int) *many {
	t.Helper()
	m := &many{dir: filepath.Join(t.TempDir(), "dbs"), template: filepath.Join(t.TempDir(), "template.db"), at: folderPlace(t)}
	makeLedger(t, m.template)
	for i := range n {
		m.database(t, fmt.Sprintf("%02d/%05d.db", i%50, i))
	}
	broken := filepath.Join(m.dir, "broken.db")
	if err := os.WriteFile(broken, append([]byte("SQLite format 3\x00"), bytes.Repeat([]byte{7}, 4080)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// database makes one more, an empty ledger.
func (m *many) database(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(m.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(path, m.template); err != nil {
		t.Fatal(err)
	}
	m.dbs, m.names = append(m.dbs, path), append(m.names, name)
	return path
}

func (m *many) config(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tidemark.yml")
	text := fmt.Sprintf("dbs:\n  - dir: %s\n    pattern: \"*.db\"\n    recursive: true\n    url: %s\n", m.dir, m.at.url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// place is where a database's replica is.
func (m *many) place(t *testing.T, db string) place {
	t.Helper()
	rel, err := filepath.Rel(m.dir, db)
	if err != nil {
		t.Fatal(err)
	}
	at := place{url: m.at.url + "/" + filepath.ToSlash(rel), folder: filepath.Join(m.at.folder, rel)}
	if at.bucket, err = file.Open(at.folder, file.Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	return at
}

// followed waits until so many have been.
func (m *many) followed(t *testing.T, n int) {
	t.Helper()
	m.tidemark.eventually(t, fmt.Sprintf("%d databases to be followed", n), func() bool {
		return m.tidemark.logged(t, func(line map[string]any) bool { return line["msg"] == "following" }) >= n
	})
}

// idle measures what it costs to follow databases in which nothing happens.
func (m *many) idle(t *testing.T) {
	t.Helper()
	const window = 10 * time.Second
	pid := m.tidemark.cmd.Process.Pid
	before := cpuTime(t, pid)
	m.tidemark.pass(t, window)
	spent := cpuTime(t, pid) - before
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	// What is mapped of files is for the most part the -shm files, which the
	// applications have in memory, too.
	memory, own, threads := statusLine(t, pid, "VmRSS"), statusLine(t, pid, "RssAnon"), statusLine(t, pid, "Threads")
	n := len(m.dbs)
	t.Logf("idle: %.2f %% of a core, %d MB (%d MB without what is mapped of files), %d threads, %d descriptors (%.1f a database)",
		100*spent.Seconds()/window.Seconds(), memory>>10, own>>10, threads, len(fds), float64(len(fds))/float64(n))
	// Of thousands that are looked at at the same time some wait for the system at once.
	if threads > 100 {
		t.Errorf("%d threads for %d databases", threads, n)
	}
	if len(fds) > 3*n+40 {
		t.Errorf("%d descriptors for %d databases", len(fds), n)
	}
	if limit := 60<<10 + n*60; memory > limit {
		t.Errorf("%d KiB for %d databases, want at most %d", memory, n, limit)
	}
}

// burst writes to all of them, and waits until all of that is in storage.
func (m *many) burst(t *testing.T) {
	t.Helper()
	began := time.Now()
	for _, db := range m.dbs {
		m.write(t, db)
	}
	wrote := time.Now()
	for _, db := range m.dbs {
		at := m.place(t, db)
		m.tidemark.eventually(t, "the burst to be in storage", func() bool { return headOf(t, at) >= 1+manyCommits })
	}
	t.Logf("burst: %d commits to each of %d databases took %v; in storage %v later", manyCommits, len(m.dbs),
		wrote.Sub(began).Round(time.Millisecond), time.Since(wrote).Round(time.Millisecond))
	if late := time.Since(wrote); late > manyBurst {
		t.Errorf("the burst was in storage after %v", late)
	}
}

// write makes some commits, and closes the database.
func (m *many) write(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(20000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for i := range manyCommits {
		execSQL(t, db, fmt.Sprintf("CREATE TABLE IF NOT EXISTS burst%d_%d(v)", time.Now().UnixNano(), i))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// proven restores some, and compares them with the live ones.
func (m *many) proven(t *testing.T) {
	t.Helper()
	for i := 1; i < len(m.dbs); i += 1 + len(m.dbs)/10 {
		at := m.place(t, m.dbs[i])
		path, err := restored(t.Context(), at.bucket, headOf(t, at), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := schemaIn(t, path), schemaIn(t, m.dbs[i]); got != want {
			t.Errorf("%s: the restored schema is not the database's", m.names[i])
		}
	}
}

// cpuTime is what a process has spent.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// After the name, which is in parentheses and may hold anything; proc(5).
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// statusLine is a number of /proc/PID/status, in the unit that is used there.
func statusLine(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		t.Fatalf("%s is not told", name)
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
