package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	// x is an exchange of a connection that is open already.
	x := func(begin, end time.Duration) exchange { return exchange{Begin: begin, End: end} }
	first := func(begin, end time.Duration) exchange { return exchange{Begin: begin, End: end, Opened: true} }
	tests := []struct {
		name string
		all  []exchange
		want int
	}{
		{"none", nil, 0},
		{"one", []exchange{x(0, 30)}, 1},
		{"a new connection", []exchange{first(0, 60)}, 2},
		{"in a row", []exchange{first(0, 60), x(61, 91), x(92, 130)}, 4},
		{"at the same time", []exchange{x(0, 30), x(1, 31), x(2, 40)}, 1},
		{"a new one beside an old one", []exchange{x(0, 30), first(5, 65)}, 2},
		{"two rows", []exchange{x(0, 30), x(31, 61), x(0, 45), x(46, 76), x(77, 107)}, 3},
		{"a long one beside a row", []exchange{first(0, 200), x(0, 30), x(31, 61), x(62, 92)}, 3},
		{"in any order", []exchange{x(92, 130), first(0, 60), x(61, 91)}, 4},
		{"from one row to another", []exchange{x(0, 30), x(20, 60), first(31, 91), x(65, 95)}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := roundTrips(tt.all); got != tt.want {
				t.Errorf("roundTrips = %d, want %d", got, tt.want)
			}
		})
	}
}

// TestLatencyProxy sends two requests over a connection and one over another.
func TestLatencyProxy(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+r.URL.RequestURI())
	}))
	t.Cleanup(service.Close)
	const delay = 20 * time.Millisecond
	p, err := startLatencyProxy(t.Context(), service.URL, delay)
	if err != nil {
		t.Fatal(err)
	}
	get := func(c *http.Client, path string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Endpoint+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		// The host is a part of what is signed.
		if want := strings.TrimPrefix(p.Endpoint, "http://") + " " + path; err != nil || string(body) != want {
			t.Errorf("the service saw %q (%v), want %q", body, err, want)
		}
	}
	for range 2 {
		transport := &http.Transport{}
		c := &http.Client{Transport: transport}
		get(c, "/a%2Fb?x=1")
		get(c, "/2")
		transport.CloseIdleConnections()
	}
	all := p.take()
	if len(all) != 4 {
		t.Fatalf("%d exchanges, want 4", len(all))
	}
	for i, x := range all {
		opened := i%2 == 0
		least := delay
		if opened {
			least = 2 * delay
		}
		if x.Opened != opened || x.End-x.Begin < least {
			t.Errorf("exchange %d took %v, opened: %v; want at least %v, %v", i, x.End-x.Begin, x.Opened, least, opened)
		}
	}
	if got := roundTrips(all); got != 6 {
		t.Errorf("%d round trips, want 6", got)
	}
	if rest := p.take(); len(rest) != 0 {
		t.Errorf("%d exchanges are left", len(rest))
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
