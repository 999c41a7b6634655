package faultproxy

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request and its reply.
type exchange struct {
	proxy *Proxy
	w     http.ResponseWriter
	r     *http.Request
	// bandwidth of both bodies in bytes a second, or 0.
	bandwidth int64
}

// reply is what the service has said. Its body is whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// pass does what a proxy does.
func (x *exchange) pass() {
	if rep, ok := x.forward(); ok {
		x.send(rep, len(rep.body))
	}
}

// forward lets the service perform the request. If that fails it hangs up, as
// the client must not take it for one of the service's replies.
func (x *exchange) forward() (reply, bool) {
	out := x.r.Clone(x.r.Context())
	out.URL.Scheme, out.URL.Host = x.proxy.target.Scheme, x.proxy.target.Host
	out.RequestURI = "" // a server's field; the Host header stays, it is signed
	out.Body = io.NopCloser(x.paced(x.r.Body))
	if x.r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	resp, err := x.proxy.client.RoundTrip(out)
	if err != nil {
		x.reset()
		return reply{}, false
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		x.reset()
		return reply{}, false
	}
	if x.r.Method == http.MethodHead && resp.ContentLength > 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: body}, true
}

// send sends the header of a reply and the first n bytes of its body.
func (x *exchange) send(rep reply, n int) {
	maps.Copy(x.w.Header(), rep.header)
	x.w.WriteHeader(rep.status)
	body := rep.body[:n]
	for len(body) > 0 {
		k := len(body)
		if x.bandwidth > 0 {
			k = min(k, chunk)
		}
		if !x.wait(x.pace(k)) {
			panic(http.ErrAbortHandler)
		}
		if _, err := x.w.Write(body[:k]); err != nil {
			return // the client is gone
		}
		x.flush()
		body = body[k:]
	}
	x.flush()
}

func (x *exchange) flush() {
	_ = http.NewResponseController(x.w).Flush() // the client may be gone
}

// drain reads the request to its end, so that the client is in no doubt that it
// was received.
func (x *exchange) drain() { discard(x.r.Body) }

func discard(r io.Reader) {
	_, _ = io.Copy(io.Discard, r) // The end is all that counts, not how it came.
}

// reset ends the connection with a TCP reset, after which the client can't tell
// how far its request or the reply has come.
func (x *exchange) reset() {
	conn := x.take()
	if conn == nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then it is a plain close
	}
	_ = conn.Close() // which is what is wanted, however it ends
}

// take takes the connection over from the server, or returns nil if it is gone.
func (x *exchange) take() net.Conn {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

// silence never says anything more, and reads on.
func (x *exchange) silence() {
	if conn := x.take(); conn != nil {
		x.proxy.hang(conn)
	}
}

// wait waits for d; it tells whether the client was still there then.
func (x *exchange) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.r.Context().Done():
	case <-x.proxy.done:
	}
	return false
}

// chunk is how many bytes a limited body passes at a time.
const chunk = 4 << 10

func (x *exchange) pace(n int) time.Duration {
	if x.bandwidth == 0 {
		return 0
	}
	return time.Duration(int64(n) * int64(time.Second) / x.bandwidth)
}

// paced limits the bandwidth of a request's body.
func (x *exchange) paced(r io.Reader) io.Reader {
	if x.bandwidth == 0 {
		return r
	}
	return &pacedReader{exchange: x, src: r}
}

type pacedReader struct {
	*exchange
	src io.Reader
}

// Read implements [io.Reader].
func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.src.Read(b[:min(len(b), chunk)])
	if !p.wait(p.pace(n)) {
		return n, context.Canceled
	}
	return n, err
}
