package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidemark/cmd/tidemark/metrics"
	"tidemark/replica"
)

// serve answers on a free port until the test ends.
func serve(ctx context.Context, t *testing.T, source metrics.Source) *metrics.Server {
	t.Helper()
	s, err := metrics.Serve(ctx, "127.0.0.1:0", source, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// client is one whose connections end with the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// fetch asks a server.
func fetch(t *testing.T, c *http.Client, url string) (status int, text string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), errors.Join(err, res.Body.Close())
}

// TestServe asks over the network, also after the context has ended.
func TestServe(t *testing.T) {
	t.Parallel()
	source := &told{}
	source.set(busy(time.Now()))
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(ctx, t, source)
	cancel()
	c := client(t)
	for path, want := range map[string]struct {
		status int
		text   []string
	}{
		"/metrics": {http.StatusOK, []string{"# TYPE tidemark_shipped_txid gauge\n", `tidemark_shipped_txid{db="/srv/app.db"`, "\ngo_goroutines ", "\nprocess_open_fds "}},
		"/healthz": {http.StatusServiceUnavailable, []string{"/srv/app.db to s3://backups/app: overflowed\n"}},
		"/":        {http.StatusNotFound, nil},
	} {
		status, text, err := fetch(t, c, "http://"+s.Addr()+path)
		if err != nil || status != want.status {
			t.Errorf("%s: status %d, %v", path, status, err)
		}
		for _, part := range want.text {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q", path, part)
			}
		}
	}
	s.Stop()
	s.Stop()
	if _, _, err := fetch(t, c, "http://"+s.Addr()+"/metrics"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Stop: %v", err)
	}
}

// TestServeTaken wants an address that is taken, or none, to be told at once.
func TestServeTaken(t *testing.T) {
	t.Parallel()
	s := serve(t.Context(), t, &told{})
	_, err := metrics.Serve(t.Context(), s.Addr(), &told{}, discard())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("Serve on a taken port = %v", err)
	}
	var wrong *net.OpError
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:nothing", "127.0.0.1:123456"} {
		if _, err := metrics.Serve(t.Context(), addr, &told{}, discard()); !errors.As(err, &wrong) || !strings.Contains(err.Error(), fmt.Sprintf("%q", addr)) {
			t.Errorf("Serve on %q = %v", addr, err)
		}
	}
}

// TestStopWhileAsked stops while an answer waits: it is cut off, and nothing hangs.
func TestStopWhileAsked(t *testing.T) {
	t.Parallel()
	source := &slow{asked: make(chan struct{}), answer: make(chan struct{})}
	s := serve(t.Context(), t, source)
	c := client(t)
	ended := make(chan error, 1)
	go func() {
		_, _, err := fetch(t, c, "http://"+s.Addr()+"/healthz")
		ended <- err
	}()
	<-source.asked
	s.Stop()
	if err := <-ended; err == nil {
		t.Error("it was answered")
	}
	close(source.answer)
}

// slow answers when it is told to.
type slow struct{ asked, answer chan struct{} }

// Metrics implements metrics.Source.
func (s *slow) Metrics() replica.Metrics {
	close(s.asked)
	<-s.answer
	return replica.Metrics{}
}

// TestHealth is green only if all is well.
func TestHealth(t *testing.T) {
	t.Parallel()
	now := time.Now()
	with := func(change func(*replica.Measured)) replica.Measured {
		m := replica.Measured{Database: "a.db", Replica: "file:///a", Status: replica.Status{Running: true, State: replica.StatusFollowing}, Looked: now}
		change(&m)
		return m
	}
	well := with(func(*replica.Measured) {})
	in := func(s replica.StatusState) replica.Measured {
		return with(func(m *replica.Measured) { m.Status.State = s })
	}
	tests := []struct {
		name string
		all  []replica.Measured
		want string
	}{
		{"nothing", nil, "nothing is replicated"},
		{"one that is well", []replica.Measured{well}, ""},
		{"one that lags a little", []replica.Measured{with(func(m *replica.Measured) { m.Status.OldestWaiting = now.Add(-30 * time.Second) })}, ""},
		{"parked", []replica.Measured{with(func(m *replica.Measured) { m.Parked = true })}, ""},
		{"one of two lags", []replica.Measured{well, with(func(m *replica.Measured) { m.Status.OldestWaiting = now.Add(-time.Hour) })}, "lags by 1h0m"},
		{"nobody looks", []replica.Measured{with(func(m *replica.Measured) { m.Looked = now.Add(-2 * time.Hour) })}, "lags by 2h0m"},
		{"not read", []replica.Measured{with(func(m *replica.Measured) { m.Status.UnreadSince = now.Add(-3 * time.Hour) })}, "lags by 3h0m"},
		{"not running", []replica.Measured{with(func(m *replica.Measured) { m.Status.Running = false })}, "nobody knows"},
		{"starting", []replica.Measured{in(replica.StatusStarting)}, "starting"},
		{"retrying", []replica.Measured{in(replica.StatusRetrying)}, "retrying"},
		{"overflowed", []replica.Measured{in(replica.StatusOverflowed)}, "overflowed"},
		{"failed", []replica.Measured{well, in(replica.StatusFailed)}, "failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source := &told{}
			source.set(tt.all...)
			status, text := ask(t, source, "/healthz")
			wantStatus := http.StatusOK
			if tt.want != "" {
				wantStatus = http.StatusServiceUnavailable
			}
			if status != wantStatus || !strings.Contains(text, tt.want) {
				t.Errorf("status %d: %s", status, text)
			}
			if well := tt.want == ""; well != (strings.Count(text, "\n") == 1) {
				t.Errorf("it says %q", text)
			}
		})
	}
}

// TestHealthOfMany names some, and counts the rest.
func TestHealthOfMany(t *testing.T) {
	t.Parallel()
	source := &told{}
	all := make([]replica.Measured, 0, 100)
	for n := range 100 {
		all = append(all, replica.Measured{Database: fmt.Sprintf("%02d.db", n), Status: replica.Status{State: replica.StatusFailed}})
	}
	source.set(all...)
	_, text := ask(t, source, "/healthz")
	if !strings.HasPrefix(text, "0 of 100 replications are well\n00.db to ") || !strings.HasSuffix(text, "\nand 80 more\n") || strings.Count(text, "\n") != 22 {
		t.Error(text)
	}
}
