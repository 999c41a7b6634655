package s3_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/storage"
	"tidemark/storage/s3"
)

// calls makes each call of a Bucket and returns the errors by their names.
func calls(ctx context.Context, b storage.Bucket) map[string]error {
	_, getErr := b.Get(ctx, "log/1", 0, -1)
	_, rangeErr := b.Get(ctx, "log/1", 10, 10)
	_, emptyErr := b.Get(ctx, "log/1", 10, 0)
	return map[string]error{
		"put":       b.Put(ctx, "log/1", strings.NewReader("x"), storage.PutOptions{Size: 1}),
		"put parts": b.Put(ctx, "log/1", io.LimitReader(zeros{}, 3<<20), storage.PutOptions{Size: -1}),
		"get":       getErr,
		"get range": rangeErr,
		"get empty": emptyErr,
		"list":      b.List(ctx, "log/1", "", func(storage.Info) error { return nil }),
		"delete":    b.Delete(ctx, "log/1"),
	}
}

// TestErrors answers every request with one error and checks what callers and
// people are told.
func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		code   string
		want   error
		text   string
	}{
		{http.StatusNotFound, "NoSuchBucket", storage.ErrNoBucket, "no such bucket"},
		{http.StatusForbidden, "InvalidAccessKeyId", storage.ErrDenied, "access denied: InvalidAccessKeyId: Said by the test."},
		{http.StatusForbidden, "SignatureDoesNotMatch", storage.ErrDenied, "access denied: SignatureDoesNotMatch"},
		{http.StatusForbidden, "AccessDenied", storage.ErrDenied, "access denied"},
		{http.StatusBadRequest, "ExpiredToken", storage.ErrDenied, "access denied: ExpiredToken"},
		{http.StatusUnauthorized, "Whatever", storage.ErrDenied, "access denied: Whatever"},
		{http.StatusServiceUnavailable, "SlowDown", nil, "503 SlowDown: Said by the test."},
		{http.StatusMovedPermanently, "PermanentRedirect", nil, "301 PermanentRedirect"},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			endpoint := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				writeError(w, tt.status, tt.code)
			}))
			for call, err := range calls(t.Context(), open(t, config(endpoint))) {
				checkError(t, call, err, endpoint)
				if tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("%s = %v, want %v", call, err, tt.want)
				}
				if err != nil && !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%s = %q, want it to say %q", call, err, tt.text)
				}
			}
		})
	}
}

// checkError checks what holds for each error: it is an Error that names
// everything, is short, and tells no secret.
func checkError(t *testing.T, call string, err error, endpoint string) {
	t.Helper()
	var e *s3.Error
	if !errors.As(err, &e) {
		t.Errorf("%s = %v, want an *s3.Error", call, err)
		return
	}
	for _, part := range []string{e.Op, "log/1", "s3://bucket/some/prefix", endpoint} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q does not name %q", call, err, part)
		}
	}
	if strings.Contains(err.Error(), "very-secret") || strings.Contains(err.Error(), "AKIDTEST") {
		t.Errorf("%s: %q tells credentials", call, err)
	}
	if len(err.Error()) > 250 {
		t.Errorf("%s: %d bytes are too much for a person: %q", call, len(err.Error()), err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{refused, "http://no-such-host.invalid"} {
		for call, err := range calls(t.Context(), open(t, config(endpoint))) {
			checkError(t, call, err, endpoint)
			if !errors.Is(err, storage.ErrUnreachable) {
				t.Errorf("%s = %v, want ErrUnreachable", call, err)
			}
		}
	}
}

// TestStalled meets a service that accepts a request and never says a word.
func TestStalled(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	endpoint := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(func() { close(done) })
	c := config(endpoint)
	c.Timeout, c.Attempts = 300*time.Millisecond, 2 // long enough to connect in, on a busy machine
	for call, err := range calls(t.Context(), open(t, c)) {
		checkError(t, call, err, endpoint)
		if !errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), "no byte in either direction") {
			t.Errorf("%s = %v, want ErrUnreachable", call, err)
		}
	}
}

// TestRetries lets each request fail twice in one way and succeed then.
func TestRetries(t *testing.T) {
	t.Parallel()
	status := func(status int, code string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { writeError(w, status, code) }
	}
	for name, fail := range map[string]func(http.ResponseWriter, *http.Request){
		"SlowDown":      status(http.StatusServiceUnavailable, "SlowDown"),
		"InternalError": status(http.StatusInternalServerError, "InternalError"),
		"TooMany":       status(http.StatusTooManyRequests, "TooManyRequests"),
		"Conflict":      status(http.StatusConflict, "ConditionalRequestConflict"),
		"hang up":       hangUp,
		"cut short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "<ListBucketResult><IsTruncated>false</IsTruncated>")
			hangUp(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := make(map[string]int)
			b := open(t, config(serve(t, through(newFake(t), func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && name == "cut short" && !r.URL.Query().Has("list-type") {
					return false // Bodies are continued; see TestGetContinues.
				}
				mu.Lock()
				seen[r.Method+r.URL.String()]++
				succeeds := seen[r.Method+r.URL.String()] > 2
				mu.Unlock()
				if succeeds {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				fail(w, r)
				return true
			}))))
			mustPut(t, b, "small", "content")
			mustPutLarge(t, b, "large")
			if got := mustGet(t, b, "small"); got != "content" {
				t.Errorf("Get = %q", got)
			}
			var keys []string
			if err := b.List(t.Context(), "", "", func(info storage.Info) error {
				keys = append(keys, info.Key)
				return nil
			}); err != nil || len(keys) != 2 {
				t.Errorf("List = %q, %v", keys, err)
			}
			if err := b.Delete(t.Context(), "small"); err != nil {
				t.Errorf("Delete: %v", err)
			}
		})
	}
}

// TestCancelBackoff cancels while the client waits for its next attempt, which
// would come in an hour.
func TestCancelBackoff(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := config(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusServiceUnavailable, "SlowDown")
		cancel()
	})))
	c.Backoff = time.Hour
	for call, err := range calls(ctx, open(t, c)) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want context.Canceled", call, err)
		}
	}
}

// TestCustomCA trusts the certificates of AWS_CA_BUNDLE, and no others.
func TestCustomCA(t *testing.T) {
	server := httptest.NewTLSServer(newFake(t))
	t.Cleanup(server.Close)
	c := config(server.URL)

	err := open(t, c).Put(t.Context(), "log/1", strings.NewReader("x"), storage.PutOptions{Size: 1})
	checkError(t, "Put", err, server.URL)
	if !errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("Put = %v, want an error about the certificate", err)
	}

	bundle := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	b := open(t, c)
	mustPut(t, b, "log/1", "over TLS")
	mustPutLarge(t, b, "large")
	if got := mustGet(t, b, "log/1"); got != "over TLS" {
		t.Errorf("Get = %q", got)
	}
}

// TestEnvironment takes what the Config leaves out from the environment.
func TestEnvironment(t *testing.T) {
	var authorization atomic.Value
	fake := newFake(t)
	endpoint := serve(t, through(fake, func(_ http.ResponseWriter, r *http.Request) bool {
		authorization.Store(r.Header.Get("Authorization"))
		return false
	}))
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")

	c := s3.Config{Bucket: "bucket", PathStyle: true}
	if _, err := s3.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("Open without a region = %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", endpoint)
	err := open(t, c).Put(t.Context(), "k", strings.NewReader("x"), storage.PutOptions{Size: 1})
	if !errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), ": no S3 credentials found") {
		t.Errorf("Put without credentials = %v, want ErrDenied", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	mustPut(t, open(t, c), "k", "x")
	if got, _ := authorization.Load().(string); !strings.Contains(got, "Credential=AKIDENV/") || !strings.Contains(got, "/us-east-1/s3/") {
		t.Errorf("Authorization is %q", got)
	}
}

func mustPutLarge(t *testing.T, b storage.Bucket, key string) {
	t.Helper()
	if err := b.Put(t.Context(), key, io.LimitReader(zeros{}, 3<<20), storage.PutOptions{Size: -1}); err != nil {
		t.Fatal(err)
	}
}
