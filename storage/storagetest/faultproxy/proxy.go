// Package faultproxy stands between a client and an S3 service in tests and
// breaks what passes: errors, silence, broken connections, damaged and lost
// replies. Faults are values that are switched on and off while requests run.
package faultproxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
)

// Rule says which requests a fault is for. The zero fields mean all.
type Rule struct {
	// Fault is what happens to them.
	Fault Fault
	// Methods are the HTTP methods that it is for.
	Methods []string
	// Match chooses among the requests of these methods. It must not read the
	// body.
	Match func(*http.Request) bool
	// Times is how many requests it meets; then it is over. 0 is no limit.
	Times int
}

// Proxy is an HTTP server that passes requests on. Create one with [New]. It is
// safe for concurrent use.
type Proxy struct {
	server *httptest.Server
	target *url.URL
	client *http.Transport

	mu    sync.Mutex // guards what follows
	rules []Rule
	// conns are the connections that hang.
	conns map[net.Conn]struct{}
	hits  int
	// hit is closed and replaced at each hit.
	hit    chan struct{}
	closed bool

	// done is closed at the end, and hung waits for what hangs then.
	done chan struct{}
	hung sync.WaitGroup
}

// New starts a proxy for the service at a URL. It ends with the test.
func New(tb testing.TB, target string) *Proxy {
	tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{
		target: u,
		client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
		conns:  map[net.Conn]struct{}{},
		hit:    make(chan struct{}),
		done:   make(chan struct{}),
	}
	p.server = httptest.NewServer(p)
	tb.Cleanup(p.close)
	return p
}

// URL is the proxy's address, "http://127.0.0.1:41234".
func (p *Proxy) URL() string { return p.server.URL }

// Set puts rules in the place of those before. The first one that a request
// fits counts. Requests that a fault has met already stay as they are.
func (p *Proxy) Set(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = slices.Clone(rules)
}

// Break makes a fault meet all requests of the methods, or of every method.
func (p *Proxy) Break(f Fault, methods ...string) { p.Set(Rule{Fault: f, Methods: methods}) }

// Lift ends all faults.
func (p *Proxy) Lift() { p.Set() }

// Hits is how many requests a fault has met since the beginning.
func (p *Proxy) Hits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// WaitHits returns when Hits is n or more, and fails the test after a minute.
func (p *Proxy) WaitHits(tb testing.TB, n int) {
	tb.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		hits, hit := p.hits, p.hit
		p.mu.Unlock()
		if hits >= n {
			return
		}
		select {
		case <-hit:
		case <-timeout.C:
			tb.Fatalf("%d requests met a fault, want %d", hits, n)
		}
	}
}

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{proxy: p, w: w, r: r}
	if f, ok := p.fault(r); ok {
		f.serve(x)
		return
	}
	x.pass() //nolint:contextcheck // the request has it
}

// fault chooses what a request meets.
func (p *Proxy) fault(r *http.Request) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.rules {
		rule := &p.rules[i]
		spent := rule.Times < 0
		other := len(rule.Methods) > 0 && !slices.Contains(rule.Methods, r.Method)
		if spent || other || rule.Match != nil && !rule.Match(r) {
			continue
		}
		if rule.Times > 0 {
			if rule.Times--; rule.Times == 0 {
				rule.Times = -1
			}
		}
		p.hits++
		close(p.hit)
		p.hit = make(chan struct{})
		return rule.Fault, true
	}
	return Fault{}, false
}

// hang keeps a connection until its client gives up or the proxy ends.
func (p *Proxy) hang(conn net.Conn) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = conn.Close() // nobody is interested any more
		return
	}
	p.conns[conn] = struct{}{}
	p.hung.Add(1)
	p.mu.Unlock()
	defer p.hung.Done()
	discard(conn)
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	_ = conn.Close() // as above
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	close(p.done)
	for conn := range p.conns {
		_ = conn.Close() // ends its hang
	}
	p.mu.Unlock()
	p.hung.Wait()
	p.server.CloseClientConnections()
	p.server.Close()
	p.client.CloseIdleConnections()
}
