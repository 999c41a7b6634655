package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request and its reply as they passed a [latencyProxy].
type exchange struct {
	// Method and Target are the request's, with the query.
	Method, Target string
	// Begin is when its header had come, End when its reply was sent, both since
	// the proxy was started.
	Begin, End time.Duration
	// Opened tells that it was the first one of its connection.
	Opened bool
}

// latencyProxy stands before an S3 service and adds a delay to each request, as if the
// service were far away: the request's first byte comes to it that much later. The
// first request of a connection waits twice, since a TCP handshake takes as long. How
// fast bytes pass is not limited. Create one with [startLatencyProxy]; it is safe for
// concurrent use.
type latencyProxy struct {
	// Endpoint is the URL that clients take for the service's.
	Endpoint string

	delay  time.Duration
	began  time.Time
	server *http.Server
	pass   *httputil.ReverseProxy

	mu        sync.Mutex // guards what follows
	exchanges []exchange
}

// opened is the key of a connection's *atomic.Bool in its requests' contexts: it is
// true from the first request on.
type opened struct{}

// startLatencyProxy starts a proxy on a free port for the service at a URL.
func startLatencyProxy(ctx context.Context, service string, delay time.Duration) (*latencyProxy, error) {
	target, err := url.Parse(service)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &latencyProxy{Endpoint: "http://" + listener.Addr().String(), delay: delay, began: time.Now()}
	p.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// The Host header stays as it is, for it is signed.
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		},
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	}
	p.server = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, opened{}, new(atomic.Bool))
		},
	}
	go func() { _ = p.server.Serve(listener) }() // it ends with close
	return p, nil
}

// ServeHTTP implements [http.Handler].
func (p *latencyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{Method: r.Method, Target: r.URL.RequestURI(), Begin: time.Since(p.began)}
	delay := p.delay
	if was, ok := r.Context().Value(opened{}).(*atomic.Bool); ok && !was.Swap(true) {
		x.Opened = true
		delay *= 2
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		p.pass.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
	x.End = time.Since(p.began)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exchanges = append(p.exchanges, x)
}

// take gives the exchanges since the last call, in the order in which they began.
func (p *latencyProxy) take() []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.exchanges
	p.exchanges = nil
	slices.SortFunc(all, func(a, b exchange) int { return cmp.Compare(a.Begin, b.Begin) })
	return all
}

// close ends the proxy and the connections through it.
func (p *latencyProxy) close() error { return p.server.Close() }

// roundTripFigure is the name of what [roundTrips] gives.
const roundTripFigure = "round trips"

// roundTrips is how often a client has waited for the way to the service and back: the
// greatest number of round trips in a row of exchanges each of which began when the one
// before it had ended. An exchange is one, and one more if it had to open a connection;
// of those that were under way at the same time one counts.
func roundTrips(all []exchange) int {
	byEnd := slices.Clone(all)
	slices.SortFunc(byEnd, func(a, b exchange) int { return cmp.Compare(a.End, b.End) })
	// most[i] is the answer for the first i of them.
	most := make([]int, len(byEnd)+1)
	for i, x := range byEnd {
		trips := 1
		if x.Opened {
			trips = 2
		}
		before, _ := slices.BinarySearchFunc(byEnd[:i], x.Begin, func(y exchange, t time.Duration) int { return cmp.Compare(y.End, t) })
		most[i+1] = max(most[i], most[before]+trips)
	}
	return most[len(byEnd)]
}

// explain tells the log which requests were made, in their order.
func (b *bench) explain(s side, all []exchange) {
	for _, x := range all[:min(len(all), 40)] {
		b.log.Debug("exchange", slog.String("side", string(s)), slog.Duration("begin", x.Begin-all[0].Begin), slog.Duration("end", x.End-all[0].Begin),
			slog.Bool("opened", x.Opened), slog.String("request", x.Method+" "+x.Target))
	}
}
