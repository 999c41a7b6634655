package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/storage"
	"tidemark/storage/s3"
)

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// TestAbort leaves no parts behind, whatever ends an upload.
func TestAbort(t *testing.T) {
	t.Parallel()
	isPart := func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" }
	isComplete := func(r *http.Request) bool {
		return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
	}
	good := func(func()) io.Reader { return io.LimitReader(zeros{}, 20<<20) }
	tests := []struct {
		name  string
		fails func(*http.Request) bool
		body  func(cancel func()) io.Reader
		want  error
	}{
		{name: "part", fails: isPart, body: good, want: storage.ErrDenied},
		{name: "complete", fails: isComplete, body: good, want: storage.ErrDenied},
		{name: "body", want: errBody, body: func(func()) io.Reader {
			return io.MultiReader(io.LimitReader(zeros{}, 5<<20), brokenReader{})
		}},
		{name: "cancelled", want: context.Canceled, body: func(cancel func()) io.Reader {
			return io.MultiReader(io.LimitReader(zeros{}, 5<<20), &hook{f: cancel}, zeros{})
		}},
		{name: "too many parts", body: func(func()) io.Reader { return zeros{} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			endpoint := serve(t, through(newFake(t), func(w http.ResponseWriter, r *http.Request) bool {
				if tt.fails == nil || !tt.fails(r) {
					return false
				}
				writeError(w, http.StatusForbidden, "AccessDenied")
				return true
			}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := open(t, config(endpoint))
			s3.LimitParts(b, 25)
			err := b.Put(ctx, "large", tt.body(cancel), storage.PutOptions{Size: -1})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Put = %v, want %v", err, tt.want)
			}
			wantNoUploads(t, endpoint)
			if _, err := get(t, b, "large", 0, -1); !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("Get = %v, want ErrNotExist", err)
			}
		})
	}
}

// TestPartFailureStopsReading does not read an endless body on when a part has
// failed.
func TestPartFailureStopsReading(t *testing.T) {
	t.Parallel()
	b := open(t, config(serve(t, through(newFake(t), func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("partNumber") {
			return false
		}
		writeError(w, http.StatusForbidden, "AccessDenied")
		return true
	}))))
	err := b.Put(t.Context(), "endless", zeros{}, storage.PutOptions{Size: -1})
	if !errors.Is(err, storage.ErrDenied) {
		t.Errorf("Put = %v, want ErrDenied", err)
	}
}

// TestPartsGrow sends a body of a known size in larger parts, if there would
// be more than are allowed else.
func TestPartsGrow(t *testing.T) {
	t.Parallel()
	c := config(serve(t, newFake(t)))
	c.PartSize = 1000
	b := open(t, c)
	s3.LimitParts(b, 10)
	data := random(10*1000 + 1)
	if err := b.Put(t.Context(), "k", bytes.NewReader(data), storage.PutOptions{Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if mustGet(t, b, "k") != string(data) {
		t.Error("Get gives something else")
	}
	if got := b.Requests().Put; got != 12 {
		t.Errorf("%d requests, want 12: create, 10 parts, complete", got)
	}
}

// TestConditionAfterRace loses the condition only at the end of an upload.
func TestConditionAfterRace(t *testing.T) {
	t.Parallel()
	fake := newFake(t)
	endpoint := serve(t, fake)
	b := open(t, config(endpoint))
	body := io.MultiReader(io.LimitReader(zeros{}, 3<<20), &hook{f: func() { mustPut(t, b, "k", "the winner") }})
	err := b.Put(t.Context(), "k", body, storage.PutOptions{Size: -1, IfAbsent: true})
	if !errors.Is(err, storage.ErrExists) {
		t.Errorf("Put = %v, want ErrExists", err)
	}
	if got := mustGet(t, b, "k"); got != "the winner" {
		t.Errorf("Get = %.20q", got)
	}
	wantNoUploads(t, endpoint)
}

// TestGetContinues cuts each body short after some bytes.
func TestGetContinues(t *testing.T) {
	t.Parallel()
	data := random(100_000)
	for _, tt := range []struct{ off, n int64 }{{0, -1}, {0, 100_000}, {500, -1}, {500, 50_000}, {99_999, -1}} {
		b := open(t, config(serve(t, cutBodies(newFake(t), 7_000))))
		mustPut(t, b, "k", string(data))
		want := string(data[tt.off:])
		if tt.n >= 0 {
			want = want[:tt.n]
		}
		got, err := get(t, b, "k", tt.off, tt.n)
		if err != nil || got != want {
			t.Errorf("Get(%d, %d) = %d bytes, %v, want %d", tt.off, tt.n, len(got), err, len(want))
		}
	}
}

// TestGetBreaksForGood cuts each body before its first byte.
func TestGetBreaksForGood(t *testing.T) {
	t.Parallel()
	b := open(t, config(serve(t, cutBodies(newFake(t), 0))))
	mustPut(t, b, "k", "content")
	got, err := get(t, b, "k", 0, -1)
	if got != "" || !errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), "broke off after 0 of 7 bytes") {
		t.Errorf("Get = %q, %v, want ErrUnreachable", got, err)
	}
}

// cutBodies answers each Get of an object with at most n bytes of what its
// Content-Length says.
func cutBodies(next http.Handler, n int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w = &cutWriter{ResponseWriter: w, left: n}
		}
		next.ServeHTTP(w, r)
	})
}

// cutWriter hangs up when it has passed on so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

// Write implements http.ResponseWriter.
func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) <= w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// TestGetReplaced replaces an object while it is read.
func TestGetReplaced(t *testing.T) {
	t.Parallel()
	var gets atomic.Int64
	b := open(t, config(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gets.Add(1) > 1 {
			if r.Header.Get("If-Match") != `"first"` {
				t.Errorf("If-Match is %q", r.Header.Get("If-Match"))
			}
			writeError(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		w.Header().Set("ETag", `"first"`)
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "some")
		_ = http.NewResponseController(w).Flush()
		hangUp(w, r)
	}))))
	got, err := get(t, b, "k", 0, -1)
	if got != "some" || err == nil || errors.Is(err, storage.ErrExists) || !strings.Contains(err.Error(), "replaced while it was read") {
		t.Errorf("Get = %q, %v", got, err)
	}
}

// TestGetWrongRange meets services that answer another range than the one
// that was asked for.
func TestGetWrongRange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, contentRange string
		length             int
	}{
		{"none", "", 100},
		{"shifted", "bytes 0-9/100", 10},
		{"short", "bytes 10-14/100", 5},
		{"long", "bytes 10-29/100", 20},
		{"other length", "bytes 10-19/100", 9},
		{"garbage", "bytes */100", 10},
		{"no size", "bytes 10-19/*", 10},
		{"no unit", "10-19/100", 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, config(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.contentRange != "" {
					w.Header().Set("Content-Range", tt.contentRange)
				}
				w.Header().Set("Content-Length", strconv.Itoa(tt.length))
				_, _ = w.Write(make([]byte, tt.length))
			}))))
			if got, err := get(t, b, "k", 10, 10); err == nil {
				t.Errorf("Get gave %d bytes", len(got))
			}
		})
	}
}

// TestGetStalls meets a body that stops coming, and is continued.
func TestGetStalls(t *testing.T) {
	t.Parallel()
	fake := newFake(t)
	done := make(chan struct{})
	var gets atomic.Int64
	endpoint := serve(t, through(fake, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || gets.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", "7")
		w.Header().Set("Content-Range", "bytes 0-6/7")
		_, _ = io.WriteString(w, "con")
		_ = http.NewResponseController(w).Flush()
		<-done
		return true
	}))
	t.Cleanup(func() { close(done) })
	c := config(endpoint)
	c.Timeout = 100 * time.Millisecond
	b := open(t, c)
	mustPut(t, b, "k", "content")
	if got := mustGet(t, b, "k"); got != "content" {
		t.Errorf("Get = %q", got)
	}
}

// TestReadAfterClose fails, rather than open the object again.
func TestReadAfterClose(t *testing.T) {
	t.Parallel()
	b := open(t, config(serve(t, newFake(t))))
	mustPut(t, b, "k", "content")
	r, err := b.Get(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read = %v", err)
	}
}

var errBody = errors.New("the body broke")

type brokenReader struct{}

// Read implements io.Reader.
func (brokenReader) Read([]byte) (int, error) { return 0, errBody }

// hook is an empty reader that calls f when it is first read.
type hook struct {
	f func()
}

// Read implements io.Reader.
func (h *hook) Read([]byte) (int, error) {
	if h.f != nil {
		h.f()
		h.f = nil
	}
	return 0, io.EOF
}
