package s3_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark/storage/s3"
	"tidemark/storage/storagetest/s3fake"
)

func newFake(t *testing.T) *s3fake.Service {
	t.Helper()
	return s3fake.New(t)
}

// writeError answers as S3 does.
func writeError(w http.ResponseWriter, status int, code string) { s3fake.WriteError(w, status, code) }

// serve starts a server for a test and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// wantNoUploads checks that the bucket at a fake's URL holds no parts of
// uploads that were neither completed nor aborted.
func wantNoUploads(t *testing.T, endpoint string) {
	t.Helper()
	resp, err := http.Get(endpoint + "/bucket?uploads")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	listing, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(listing), "<UploadId>") {
		t.Errorf("uploads are left over: %s", listing)
	}
}

// through wraps a handler. The test's function sees each request first and
// returns true when it has answered it.
func through(next http.Handler, first func(w http.ResponseWriter, r *http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// hangUp ends the connection of a request in the middle of things.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// config is a Config for an endpoint that fails fast.
func config(endpoint string) s3.Config {
	return s3.Config{
		Bucket:          "bucket",
		Prefix:          "some/prefix",
		Endpoint:        endpoint,
		Region:          "us-east-1",
		PathStyle:       true,
		AccessKeyID:     "AKIDTEST",
		SecretAccessKey: "very-secret",
		PartSize:        1 << 20,
		Attempts:        3,
		Backoff:         time.Millisecond,
		Timeout:         30 * time.Second,
	}
}

// open opens a bucket and closes its connections at the end.
func open(t *testing.T, c s3.Config) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.CloseIdle)
	return b
}
