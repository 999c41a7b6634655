package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	// ioBuffer is the size of a connection's buffers. net/http's own 4 KiB
	// make two thousand system calls of one part.
	ioBuffer = 64 << 10
	// idleConns is how many connections stay open for the next request: as
	// many as a restore reads from at a time.
	idleConns = 32
)

// newHTTPClient makes a client of the SDK's transport, which holds its proxy
// and the certificates of AWS_CA_BUNDLE.
func newHTTPClient(tr *http.Transport, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: min(dialTimeout, timeout), KeepAlive: 30 * time.Second}
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &liveConn{Conn: conn, timeout: timeout}, nil
	}
	// HTTP/2 sends everything through one connection, where a range that
	// hangs cannot be told from the others that do not.
	tr.ForceAttemptHTTP2 = false
	tr.DisableCompression = true
	tr.MaxIdleConns, tr.MaxIdleConnsPerHost = idleConns, idleConns
	tr.ReadBufferSize, tr.WriteBufferSize = ioBuffer, ioBuffer
	tr.TLSHandshakeTimeout = min(dialTimeout, timeout)
	return &http.Client{
		Transport: tr,
		// A redirect would carry the signature of another request.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// liveConn is a connection that fails when no byte has passed in either
// direction for timeout. A deadline for each direction alone would not do:
// while a part is sent slowly nothing comes back. A reader that takes its time
// is not cut off, since the time runs during Read and Write only.
type liveConn struct {
	net.Conn
	timeout time.Duration
}

// Read implements [net.Conn].
func (c *liveConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	return n, c.explain(err)
}

// maxWrite bounds one Write, so that a slow one cannot use up the time of a
// large one.
const maxWrite = 16 << 10

// Write implements [net.Conn].
func (c *liveConn) Write(p []byte) (int, error) {
	written := 0
	for {
		// Both directions: the reply to what is written now comes later.
		if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:min(written+maxWrite, len(p))])
		written += n
		if err != nil || written == len(p) {
			return written, c.explain(err)
		}
	}
}

// explain says how long nothing came, in place of "i/o timeout".
func (c *liveConn) explain(err error) error {
	if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // A net.Conn returns its errors bare.
		return &stalledError{timeout: c.timeout}
	}
	return err
}

// stalledError says that a connection stayed silent. It is a [net.Error].
type stalledError struct {
	timeout time.Duration
}

// Error implements error.
func (e *stalledError) Error() string {
	return fmt.Sprintf("no byte in either direction for %s", e.timeout)
}

// Timeout implements [net.Error].
func (*stalledError) Timeout() bool { return true }

// Temporary implements [net.Error].
func (*stalledError) Temporary() bool { return true }

// Unwrap makes the error an [os.ErrDeadlineExceeded].
func (*stalledError) Unwrap() error { return os.ErrDeadlineExceeded }
