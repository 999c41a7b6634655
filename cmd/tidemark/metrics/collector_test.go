package metrics_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/cmd/tidemark/metrics"
	"tidemark/replica"
	"tidemark/storage"
)

// told is a source that tells what it is told.
type told struct {
	mu  sync.Mutex
	now replica.Metrics
}

// Metrics implements metrics.Source.
func (s *told) Metrics() replica.Metrics {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.now
	if m.Locked.Counts == nil {
		m.Locked.Counts = []uint64{0}
	}
	return m
}

func (s *told) set(all ...replica.Measured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Replications = all
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// ask gives what a handler answers.
func ask(t *testing.T, source metrics.Source, path string) (status int, text string) {
	t.Helper()
	h, err := metrics.NewHandler(source, discard())
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return rec.Code, rec.Body.String()
}

// scrape gives the values of tidemark's own metrics.
func scrape(t *testing.T, source metrics.Source) []string {
	t.Helper()
	status, text := ask(t, source, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	var values []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "tidemark_") {
			values = append(values, strings.TrimSuffix(line, "\n"))
		}
	}
	return values
}

// busy is a replication to which everything has happened.
func busy(now time.Time) replica.Measured {
	return replica.Measured{
		Database: "/srv/app.db", Replica: "s3://backups/app",
		Status: replica.Status{
			Running: true, State: replica.StatusOverflowed,
			Read:           replica.StatusCommit{TXID: 1234, Time: now.Add(-time.Second)},
			Shipped:        replica.StatusCommit{TXID: 1200, Time: now.Add(-time.Minute)},
			Uploaded:       now.Add(-59500 * time.Millisecond),
			WaitingCommits: 34, WaitingBytes: 5678, OldestWaiting: now.Add(-58 * time.Second), Repairs: 3,
			LastSnapshot: replica.StatusCommit{TXID: 1000, Time: now.Add(-time.Hour)},
		},
		Parked: true, Looked: now, WALFrames: 77, WALBytes: 317_272,
		Requests: storage.Requests{Put: 41, Get: 42, List: 43, Delete: 44}, Counted: true,
		Counts: replica.Counts{
			Commits: 1190, SegmentBytes: 100, SnapshotBytes: 200, PackBytes: 300,
			Complete: 11, Incomplete: 12, Unlocked: 13, MaxLocked: 1500 * time.Microsecond, Overflows: 14,
			Failures: 15, UploadFailures: 16, SnapshotFailures: 17, FullSnapshots: 18, Incrementals: 19, Packs: 20, Pruned: 21,
		},
	}
}

// TestCollector names each metric, with its value in its unit.
func TestCollector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now() // 2000-01-01, 946684800
		source := &told{}
		source.now.Locked = replica.Durations{
			Bounds: []time.Duration{time.Millisecond, time.Second}, Counts: []uint64{5, 3, 1}, Sum: 2500 * time.Millisecond,
		}
		source.set(busy(now), replica.Measured{
			Database: "/srv/new.db", Replica: "file:///mnt/new",
			Status: replica.Status{Running: true, State: replica.StatusFollowing},
		}, replica.Measured{
			Database: "/srv/old.db", Replica: "file:///mnt/old", Status: replica.Status{State: replica.StatusFailed},
		})
		want := `tidemark_failures_total{DB,kind="replication",REP} 15
tidemark_failures_total{DB,kind="snapshot",REP} 17
tidemark_failures_total{DB,kind="upload",REP} 16
tidemark_failures_total{db="/srv/new.db",kind="replication",replica="file:///mnt/new"} 0
tidemark_failures_total{db="/srv/new.db",kind="snapshot",replica="file:///mnt/new"} 0
tidemark_failures_total{db="/srv/new.db",kind="upload",replica="file:///mnt/new"} 0
tidemark_failures_total{db="/srv/old.db",kind="replication",replica="file:///mnt/old"} 0
tidemark_failures_total{db="/srv/old.db",kind="snapshot",replica="file:///mnt/old"} 0
tidemark_failures_total{db="/srv/old.db",kind="upload",replica="file:///mnt/old"} 0
tidemark_handoffs_total{DB,outcome="complete",REP} 11
tidemark_handoffs_total{DB,outcome="incomplete",REP} 12
tidemark_handoffs_total{DB,outcome="unlocked",REP} 13
tidemark_lag_seconds{APP} 58
tidemark_lag_seconds{NEW} 0
tidemark_last_commit_timestamp_seconds{APP} 9.46684799e+08
tidemark_last_commit_txid{APP} 1234
tidemark_last_commit_txid{NEW} 0
tidemark_last_commit_txid{OLD} 0
tidemark_last_snapshot_timestamp_seconds{APP} 9.466812e+08
tidemark_last_upload_timestamp_seconds{APP} 9.466847405e+08
tidemark_overflows_total{APP} 14
tidemark_overflows_total{NEW} 0
tidemark_overflows_total{OLD} 0
tidemark_packs_total{APP} 20
tidemark_parked_replications 1
tidemark_pruned_objects_total{APP} 21
tidemark_repairs_total{APP} 3
tidemark_repairs_total{NEW} 0
tidemark_repairs_total{OLD} 0
tidemark_replications{state="failed"} 1
tidemark_replications{state="following"} 1
tidemark_replications{state="overflowed"} 1
tidemark_replications{state="retrying"} 0
tidemark_replications{state="starting"} 0
tidemark_requests_total{DB,kind="delete",REP} 44
tidemark_requests_total{DB,kind="get",REP} 42
tidemark_requests_total{DB,kind="list",REP} 43
tidemark_requests_total{DB,kind="put",REP} 41
tidemark_shipped_commits_total{APP} 1190
tidemark_shipped_commits_total{NEW} 0
tidemark_shipped_commits_total{OLD} 0
tidemark_shipped_txid{APP} 1200
tidemark_shipped_txid{NEW} 0
tidemark_shipped_txid{OLD} 0
tidemark_snapshots_total{DB,kind="full",REP} 18
tidemark_snapshots_total{DB,kind="incremental",REP} 19
tidemark_state{APP,state="overflowed"} 1
tidemark_state{NEW,state="following"} 1
tidemark_state{OLD,state="failed"} 1
tidemark_uploaded_bytes_total{DB,kind="pack",REP} 300
tidemark_uploaded_bytes_total{DB,kind="segment",REP} 100
tidemark_uploaded_bytes_total{DB,kind="snapshot",REP} 200
tidemark_waiting_bytes{APP} 5678
tidemark_waiting_bytes{NEW} 0
tidemark_waiting_bytes{OLD} 0
tidemark_waiting_commits{APP} 34
tidemark_waiting_commits{NEW} 0
tidemark_waiting_commits{OLD} 0
tidemark_wal_bytes{APP} 317272
tidemark_wal_bytes{NEW} 0
tidemark_wal_bytes{OLD} 0
tidemark_wal_frames{APP} 77
tidemark_wal_frames{NEW} 0
tidemark_wal_frames{OLD} 0
tidemark_write_lock_max_seconds{APP} 0.0015
tidemark_write_lock_seconds_bucket{le="0.001"} 5
tidemark_write_lock_seconds_bucket{le="1"} 8
tidemark_write_lock_seconds_bucket{le="+Inf"} 9
tidemark_write_lock_seconds_sum 2.5
tidemark_write_lock_seconds_count 9
`
		want = strings.NewReplacer(
			"APP", `db="/srv/app.db",replica="s3://backups/app"`, "NEW", `db="/srv/new.db",replica="file:///mnt/new"`,
			"OLD", `db="/srv/old.db",replica="file:///mnt/old"`, "DB", `db="/srv/app.db"`, "REP", `replica="s3://backups/app"`,
		).Replace(want)
		if diff := cmp.Diff(want, strings.Join(scrape(t, source), "\n")+"\n"); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	})
}

// TestComeAndGo sees a replication while it is there, and only then.
func TestComeAndGo(t *testing.T) {
	t.Parallel()
	source := &told{}
	of := func(db string) int {
		n := 0
		for _, line := range scrape(t, source) {
			if strings.Contains(line, fmt.Sprintf("db=%q", db)) {
				n++
			}
		}
		return n
	}
	app, other := busy(time.Now()), busy(time.Now())
	other.Database = "/srv/other.db"
	steps := []struct {
		has             []replica.Measured
		wantApp, wantIn bool
	}{
		{nil, false, false},
		{[]replica.Measured{app}, true, false},
		{[]replica.Measured{app, other}, true, true},
		{[]replica.Measured{other}, false, true},
	}
	for i, s := range steps {
		source.set(s.has...)
		if got := of(app.Database) > 20; got != s.wantApp {
			t.Errorf("step %d: %d values of %s", i, of(app.Database), app.Database)
		}
		if got := of(other.Database) > 20; got != s.wantIn {
			t.Errorf("step %d: %d values of %s", i, of(other.Database), other.Database)
		}
	}
}

// TestAnyPath has a path that is no text tell of itself, and not stop all others.
func TestAnyPath(t *testing.T) {
	t.Parallel()
	source := &told{}
	all := []replica.Measured{busy(time.Now()), busy(time.Now()), busy(time.Now())}
	all[1].Database, all[2].Database = "/srv/\xff\n.db", "/srv/\xfe.db"
	source.set(all...)
	lines := strings.Join(scrape(t, source), "\n")
	for _, want := range []string{`txid{db="/srv/app.db",`, `txid{db="\"/srv/\\xff\\n.db\"",`, `txid{db="\"/srv/\\xfe.db\"",`, `kind="put",replica="s3`} {
		if !strings.Contains(lines, want) {
			t.Errorf("nothing has %s", want)
		}
	}
}

// BenchmarkScrape answers for ten thousand idle databases.
func BenchmarkScrape(b *testing.B) {
	now := time.Now()
	source := &told{}
	for n := range 10_000 {
		source.now.Replications = append(source.now.Replications, replica.Measured{
			Database: fmt.Sprintf("/srv/tenants/%05d/app.db", n), Replica: fmt.Sprintf("s3://backups/tenants/%05d", n),
			Status: replica.Status{
				Running: true, State: replica.StatusFollowing, Read: replica.StatusCommit{TXID: 9, Time: now},
				Shipped: replica.StatusCommit{TXID: 9, Time: now}, Uploaded: now, LastSnapshot: replica.StatusCommit{TXID: 9, Time: now},
			},
			Parked: true, Looked: now, Requests: storage.Requests{List: 1, Get: 3}, Counted: true, Counts: replica.Counts{Complete: 1},
		})
	}
	h, err := metrics.NewHandler(source, discard())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", http.NoBody))
		b.ReportMetric(float64(rec.Body.Len())/1e6, "MB")
		b.ReportMetric(float64(strings.Count(rec.Body.String(), "\n")), "lines")
	}
}
