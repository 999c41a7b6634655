// Package s3fake is an S3 service in the process of a test: gofakes3 in memory,
// with the condition that it lacks.
package s3fake

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// BucketName is the name of the one bucket there is.
const BucketName = "bucket"

// Service is an S3 service with one bucket. It answers requests in path style
// and checks no signatures. It is safe for concurrent use.
type Service struct {
	// Backend holds the objects. Tests may use it past the protocol.
	Backend *s3mem.Backend

	handler http.Handler
	// mu makes the condition of CompleteMultipartUpload, which gofakes3 does
	// not know, atomic with everything that creates an object.
	mu sync.Mutex
}

// New returns a service whose bucket is empty.
func New(tb testing.TB) *Service {
	tb.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(BucketName); err != nil {
		tb.Fatal(err)
	}
	server := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	return &Service{Backend: backend, handler: server}
}

// ServeHTTP implements [http.Handler].
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	creates := r.Method == http.MethodPost && query.Has("uploadId") || r.Method == http.MethodPut && !query.Has("uploadId")
	if creates {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if creates && r.Header.Get("If-None-Match") == "*" && s.exists(r.URL) {
		WriteError(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.handler.ServeHTTP(w, r)
}

func (s *Service) exists(u *url.URL) bool {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	object, err := s.Backend.HeadObject(bucket, key)
	return err == nil && object != nil
}

// WriteError answers a request as S3 does, with a status and a code of
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
func WriteError(w http.ResponseWriter, status int, code string) {
	body := ErrorBody(code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the client may be gone
}

// ErrorBody is the document that comes with an error code.
func ErrorBody(code string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>`+
		`<Error><Code>%s</Code><Message>Said by the test.</Message><RequestId>1</RequestId></Error>`, code)
}
