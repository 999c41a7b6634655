package minio

import (
	"os"
	"sync"
	"testing"
)

// shared is the server of all tests that run at a time. A test process has one
// set of tests, so it has one of these.
//
//nolint:gochecknoglobals // Tests of a package have nothing else in common, unless each package writes a TestMain.
var shared struct {
	mu sync.Mutex
	// users is how many tests use the server, which is nil if there are none.
	users  int
	server *Server
	dir    string
	err    error
}

// Shared returns a server that all tests share that run at the same time. It
// is started by the first and stopped after the last of them; a test takes
// buckets of its own by [Server.NewBucket] and must not call [Server.Stop].
// It skips or fails the test as [Start] does.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	if os.Getenv(Variable) == "skip" {
		return Start(tb) // Which skips the test.
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		shared.server, shared.dir, shared.err = startShared(tb)
	}
	if shared.err != nil {
		unavailable(tb, shared.err)
	}
	shared.users++
	tb.Cleanup(func() { release(tb) })
	return shared.server
}

func startShared(tb testing.TB) (*Server, string, error) {
	tb.Helper()
	// Not the test's own folder, which is removed before others have ended.
	dir, err := os.MkdirTemp("", "tidemark-minio-") //nolint:usetesting // See above.
	if err != nil {
		return nil, "", err
	}
	server, err := start(tb.Context(), dir)
	if err != nil {
		_ = os.RemoveAll(dir) // Nothing is in it.
		return nil, "", err
	}
	return server, dir, nil
}

// release ends one test's use of the shared server.
func release(tb testing.TB) {
	tb.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users--; shared.users > 0 {
		return
	}
	if err := shared.server.stop(); err != nil {
		tb.Errorf("stop MinIO: %v", err)
	}
	if err := os.RemoveAll(shared.dir); err != nil {
		tb.Errorf("remove MinIO's folder: %v", err)
	}
	shared.server = nil
}
