package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidemark/storage/storagetest/faultproxy"
)

const said = "what the service says"

// service counts the requests that it has performed.
type service struct {
	*httptest.Server
	performed atomic.Int64
}

func serve(t *testing.T) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != strings.Repeat("x", len(body)) {
			return
		}
		s.performed.Add(1)
		w.Header().Set("X-Host", r.Host)
		_, _ = io.WriteString(w, said)
	}))
	t.Cleanup(s.Close)
	return s
}

// ask makes a request and gives the status, the body and the error that ended
// either.
func ask(ctx context.Context, t *testing.T, method, url string, n int) (int, string, error) {
	t.Helper()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(bytes.Repeat([]byte("x"), n)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestFaults looks at what each fault does to a client and to the service.
func TestFaults(t *testing.T) {
	t.Parallel()
	half := said[:len(said)/2]
	tests := []struct {
		fault     faultproxy.Fault
		status    int
		body      string
		err       error
		performed int64
	}{
		{faultproxy.Status(503, "SlowDown"), 503, "<Code>SlowDown</Code>", nil, 0},
		{faultproxy.Status(500, ""), 500, "", nil, 0},
		{faultproxy.ErrorIn200("InternalError"), 200, "<Code>InternalError</Code>", nil, 0},
		{faultproxy.Reply("portal", "text/html", "log in"), 200, "log in", nil, 0},
		{faultproxy.Hang(), 0, "", context.DeadlineExceeded, 0},
		{faultproxy.HangBody(), 200, "", context.DeadlineExceeded, 1},
		{faultproxy.ResetRequest(), 0, "", syscall.ECONNRESET, 0},
		{faultproxy.ResetReply(), 200, half, syscall.ECONNRESET, 1},
		{faultproxy.Truncate(), 200, half, io.ErrUnexpectedEOF, 1},
		{faultproxy.Shorten(), 200, half, nil, 1},
		{faultproxy.LoseReply(), 0, "", syscall.ECONNRESET, 1},
		{faultproxy.LoseSuccess(), 0, "", syscall.ECONNRESET, 1},
		{faultproxy.Delay(time.Millisecond), 200, said, nil, 1},
		{faultproxy.Delay(time.Hour), 0, "", context.DeadlineExceeded, 0},
		{faultproxy.Limit(1 << 30), 200, said, nil, 1},
		{faultproxy.Limit(1), 0, "", context.DeadlineExceeded, 0},
	}
	for _, tt := range tests {
		t.Run(tt.fault.String(), func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			p := faultproxy.New(t, s.URL)
			p.Break(tt.fault)
			ctx := t.Context()
			if errors.Is(tt.err, context.DeadlineExceeded) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
				defer cancel()
			}
			status, body, err := ask(ctx, t, http.MethodPut, p.URL(), 200_000)
			// What the client had not yet read goes down with a reset.
			lost := errors.Is(tt.err, syscall.ECONNRESET)
			if !lost && status != tt.status || !strings.Contains(body, tt.body) && !lost || !reset(err, tt.err) {
				t.Errorf("%d %q, %v; want %d %q, %v", status, body, err, tt.status, tt.body, tt.err)
			}
			if got := s.performed.Load(); got != tt.performed {
				t.Errorf("the service has performed %d requests, want %d", got, tt.performed)
			}
			if p.Hits() != 1 {
				t.Errorf("%d hits, want 1", p.Hits())
			}
			p.Lift()
			if status, body, err := ask(t.Context(), t, http.MethodGet, p.URL(), 0); status != 200 || body != said || err != nil {
				t.Errorf("after it was lifted: %d %q, %v", status, body, err)
			}
		})
	}
}

// reset is errors.Is, but takes what else a client may see of a reset, which
// depends on whether it was reading or writing, or had closed already because
// the other of the two had failed.
func reset(err, want error) bool {
	if errors.Is(want, syscall.ECONNRESET) && (errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)) {
		return true
	}
	return errors.Is(err, want)
}

// TestRules chooses requests by method, by match and by number.
func TestRules(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := faultproxy.New(t, s.URL)
	p.Set(
		faultproxy.Rule{Fault: faultproxy.Status(500, ""), Methods: []string{http.MethodPut}, Times: 2},
		faultproxy.Rule{Fault: faultproxy.Status(501, ""), Match: func(r *http.Request) bool { return r.URL.Path == "/a" }},
		faultproxy.Rule{Fault: faultproxy.Status(503, ""), Methods: []string{http.MethodPost, http.MethodDelete}},
	)
	for i, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/", 200},
		{http.MethodPut, "/", 500},
		{http.MethodPut, "/a", 500},
		{http.MethodPut, "/", 200},
		{http.MethodPut, "/a", 501},
		{http.MethodGet, "/a", 501},
		{http.MethodPost, "/", 503},
		{http.MethodDelete, "/", 503},
	} {
		if status, _, err := ask(t.Context(), t, tt.method, p.URL()+tt.path, 3); status != tt.want || err != nil {
			t.Errorf("request %d: status %d, %v, want %d", i, status, err, tt.want)
		}
	}
	if p.Hits() != 6 {
		t.Errorf("%d hits, want 6", p.Hits())
	}
}

// TestWaitHits waits for requests of others.
func TestWaitHits(t *testing.T) {
	t.Parallel()
	p := faultproxy.New(t, serve(t).URL)
	p.Break(faultproxy.Status(500, ""))
	done := make(chan error, 3)
	for range cap(done) {
		go func() {
			_, _, err := ask(t.Context(), t, http.MethodGet, p.URL(), 0)
			done <- err
		}()
	}
	p.WaitHits(t, cap(done))
	if p.Hits() != cap(done) {
		t.Errorf("%d hits", p.Hits())
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestServiceGone gives no reply where there is no service.
func TestServiceGone(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := faultproxy.New(t, s.URL)
	s.Close()
	if status, _, err := ask(t.Context(), t, http.MethodGet, p.URL(), 0); err == nil {
		t.Errorf("status %d", status)
	}
}

// TestClose ends with requests under way, of a client that never gives up.
func TestClose(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var p *faultproxy.Proxy
	faults := []faultproxy.Fault{faultproxy.Hang(), faultproxy.HangBody(), faultproxy.Delay(time.Hour), faultproxy.Limit(1)}
	done := make(chan error, len(faults))
	t.Run("open", func(t *testing.T) {
		p = faultproxy.New(t, s.URL)
		for i, f := range faults {
			p.Break(f)
			url := p.URL()
			go func() {
				_, _, err := ask(context.Background(), t, http.MethodPut, url, 100)
				done <- err
			}()
			p.WaitHits(t, i+1)
		}
	})
	for range faults {
		if err := <-done; err == nil {
			t.Error("a request succeeded")
		}
	}
}

// TestLoseSuccess lets refusals through.
func TestLoseSuccess(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, said, http.StatusPreconditionFailed)
	}))
	t.Cleanup(s.Close)
	p := faultproxy.New(t, s.URL)
	p.Break(faultproxy.LoseSuccess())
	if status, body, err := ask(t.Context(), t, http.MethodPut, p.URL(), 5); status != http.StatusPreconditionFailed || !strings.Contains(body, said) || err != nil {
		t.Errorf("%d %q, %v", status, body, err)
	}
}
