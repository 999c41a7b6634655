package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/integration/minio"
	"tidemark/snapshot/state"
)

// soakVariable is how long TestSoak lasts, such as 10m.
const soakVariable = "TIDEMARK_TEST_SOAK"

const (
	// soakShort is how long it lasts without that.
	soakShort = 12 * time.Second
	// soakTick is how often an application may do something else, and soakCycle after
	// how many ticks it does the same again.
	soakTick  = time.Second
	soakCycle = 20
)

// soakConfig is the configuration: as people write it, with all times shortened.
// Every snapshot and segment that is younger than an hour stays whatever the policy
// says, and so does what was packed: what the policy does to older ones is for the
// tests with a clock of their own.
const soakConfig = `
sync-interval: 1s
snapshot-interval: 20s
log-level: debug
log-format: json
retention:
  history: 2m
  snapshots: {hourly: 10m, daily: 20m, weekly: 30m}
dbs:
`

// TestSoak has one program replicate several databases under mixed load to MinIO, as
// configured by a file: steady commits, bursts, idle phases, bulk loads, updates,
// deletions, VACUUM. Each commit has a TXID of its own, everything that the program
// says can be restored is what was committed, and what it says can't is refused. It
// prints what all that took.
//
//nolint:paralleltest // It is measured.
func TestSoak(t *testing.T) {
	d := soakShort
	if v := os.Getenv(soakVariable); v != "" {
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			t.Fatalf("%s: %v", soakVariable, err)
		}
	}
	server := minio.Start(t)
	all := []*soaked{
		{name: "steady", act: steady},
		{name: "bursts", act: bursts},
		{name: "idle", act: idle},
		{name: "bulk", act: bulk},
	}
	p := startSoak(t, server, all)
	start := time.Now()
	tick := time.NewTicker(soakTick)
	defer tick.Stop()
	for n := 0; time.Since(start) < d; n++ {
		for _, s := range all {
			s.act(t, s, n)
		}
		select {
		case <-tick.C:
		case <-p.Exited():
			t.Fatalf("tidemark ended by itself: %v\n%s", p.Err(), p.tail(t))
		}
	}
	for _, s := range all {
		s.rest(t)
	}
	p.stop(t)
	took := time.Since(start)

	reports := soakReports(t, p)
	t.Logf("%v of mixed load on %d databases; MinIO counted %v", took.Round(time.Second), len(all), countedBy(t, server, reports))
	points := 4
	if d > soakShort {
		points = 30
	}
	for i, s := range all {
		t.Run(s.name, func(t *testing.T) { s.verify(t, reports[i], points) })
	}
}

// soaked is a database under load, and what it has seen.
type soaked struct {
	name string
	act  func(t *testing.T, s *soaked, tick int)
	path string
	at   place
	app  *writer
	// extras are the commits that were not the writer's, in their order.
	extras []extra
	// seen tells how many commits had been made for sure at some times.
	seen []seen
}

// extra is a commit of the test's own.
type extra struct {
	after  int64 // so many transactions of the writer's
	digest string
}

type seen struct {
	at      time.Time
	commits int64
}

// startSoak makes the databases and starts the program on them.
func startSoak(t *testing.T, server *minio.Server, all []*soaked) *process {
	t.Helper()
	dir := t.TempDir()
	config := strings.Builder{}
	config.WriteString(soakConfig)
	for _, s := range all {
		c := minioConfig(server, server.NewBucket(t))
		s.path = filepath.Join(dir, s.name+".db")
		s.at = place{
			url: server.URL(c.Bucket, c.Prefix), bucket: openMinio(t, c),
			env: []string{"TIDEMARK_S3_ACCESS_KEY_ID=" + c.AccessKeyID, "TIDEMARK_S3_SECRET_ACCESS_KEY=" + c.SecretAccessKey},
		}
		makeLedger(t, s.path)
		s.app = goWriter(t, s.path)
		fmt.Fprintf(&config, "  - {path: %q, url: %q}\n", s.path, s.at.url)
	}
	file := filepath.Join(dir, "tidemark.yml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, all[0].at, "replicate", "--json", "--config", file)
	p.eventually(t, "following all databases", func() bool {
		return p.logged(t, func(line map[string]any) bool { return line["msg"] == "following" }) >= len(all)
	})
	return p
}

// note takes note of how many commits there are.
func (s *soaked) note(t *testing.T) {
	t.Helper()
	n := s.app.acked(t) + int64(len(s.extras))
	s.seen = append(s.seen, seen{time.Now(), n})
}

// rest has the application do nothing more.
func (s *soaked) rest(t *testing.T) {
	t.Helper()
	s.app.do(t, "stop")
	s.note(t)
}

// steady commits 20 times a second.
func steady(t *testing.T, s *soaked, tick int) {
	t.Helper()
	if tick == 0 {
		s.app.do(t, "start 50000")
	}
	s.note(t)
}

// bursts commits as fast as it can for two seconds of twenty, slowly for six, and
// then not at all.
func bursts(t *testing.T, s *soaked, tick int) {
	t.Helper()
	switch tick % soakCycle {
	case 2:
		s.app.do(t, "start")
	case 4:
		s.app.do(t, "start 100000")
	case 10:
		s.app.do(t, "stop")
	}
	s.note(t)
}

// idle commits once every twenty seconds: each time everything has been handed off
// and the database parked.
func idle(t *testing.T, s *soaked, tick int) {
	t.Helper()
	if tick%soakCycle == soakCycle/2 {
		s.app.write(t, 1)
	}
	s.note(t)
}

// bulk commits slowly, and in between loads, updates, and deletes many rows at once,
// and vacuums.
func bulk(t *testing.T, s *soaked, tick int) {
	t.Helper()
	var query string
	switch tick % soakCycle {
	case 0:
		s.app.do(t, "start 20000")
	case 3:
		query = `CREATE TABLE IF NOT EXISTS bulk(id INTEGER PRIMARY KEY, v INTEGER, b BLOB)`
		if tick > soakCycle {
			query = `DELETE FROM bulk WHERE id % 3 <> 0`
		}
	case 5:
		query = `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 8000)
			INSERT INTO bulk(v, b) SELECT random() >> 20, randomblob(300) FROM c`
	case 9:
		query = `UPDATE bulk SET v = v + 1 WHERE id % 7 = 0`
	case 11:
		query = `DELETE FROM bulk WHERE id IN (SELECT id FROM bulk ORDER BY id LIMIT 5000)`
	case 16:
		query = `VACUUM`
	}
	if query != "" {
		after := s.app.do(t, "stop")
		s.extras = append(s.extras, extra{after, runBulk(t, s.path, query)})
		s.app.do(t, "start 20000")
	}
	s.note(t)
}

// runBulk makes one commit, and tells what the table is like then.
func runBulk(t *testing.T, path, query string) (digest string) {
	t.Helper()
	db, err := openLive(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // what was committed is committed
	for _, q := range []string{"PRAGMA busy_timeout = 20000", query} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if digest, err = digestBulk(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return digest
}

// digestBulk gives the number of rows and the sums of what they hold; "" if there is
// no such table.
func digestBulk(ctx context.Context, db *sql.DB) (digest string, err error) {
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'bulk'").Scan(&tables); err != nil || tables == 0 {
		return "", err
	}
	err = db.QueryRowContext(ctx, "SELECT count(*) || ':' || total(v % 1000003) || ':' || total(id * (v % 1009)) FROM bulk").Scan(&digest)
	return digest, err
}

// want gives what the commit with a TXID must be: TXID 1 is the state before the
// first one.
func (s *soaked) want(id state.TXID) (n int64, digest string) {
	commits, extras := int64(id)-1, 0
	for ; extras < len(s.extras) && s.extras[extras].after+int64(extras) < commits; extras++ {
		digest = s.extras[extras].digest
	}
	return commits - int64(extras), digest
}
