package integration_test

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"tidemark/integration/minio"
)

// gate is a way to a server that can be shut: then connections are reset, also
// those that there are.
type gate struct {
	listener net.Listener
	target   string // host:port

	mu    sync.Mutex // guards what follows
	shut  bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// gatedPlace is a bucket of the test's own in MinIO, and the gate through which
// tidemark gets there. The test itself needs none.
func gatedPlace(t *testing.T) (place, *gate) {
	t.Helper()
	server := minio.Shared(t)
	u, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := openGate(t, u.Host)
	c := minioConfig(server, server.NewBucket(t))
	there, here := url.QueryEscape(server.Endpoint), url.QueryEscape("http://"+g.listener.Addr().String())
	return place{
		url:    strings.Replace(server.URL(c.Bucket, c.Prefix), there, here, 1),
		env:    []string{"TIDEMARK_S3_ACCESS_KEY_ID=" + c.AccessKeyID, "TIDEMARK_S3_SECRET_ACCESS_KEY=" + c.SecretAccessKey},
		bucket: openMinio(t, c),
	}, g
}

func openGate(t *testing.T, target string) *gate {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, target: target, conns: map[net.Conn]bool{}}
	g.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			g.wg.Go(func() { g.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		g.close()
		g.wg.Wait()
	})
	return g
}

// close shuts the gate.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.conns {
		_ = c.Close()
	}
}

// open opens it again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// serve connects a client with the server until one of the two has had enough.
func (g *gate) serve(c net.Conn) {
	if !g.admit(c) {
		return
	}
	defer g.dismiss(c)
	var d net.Dialer
	server, err := d.Dial("tcp", g.target)
	if err != nil || !g.admit(server) {
		return
	}
	defer g.dismiss(server)
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, server}, {server, c}} {
		g.wg.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // however it ends
			done <- struct{}{}
		})
	}
	<-done
}

// admit takes note of a connection, or closes it if the gate is shut.
func (g *gate) admit(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		_ = c.Close()
		return false
	}
	g.conns[c] = true
	return true
}

func (g *gate) dismiss(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	_ = c.Close()
}
