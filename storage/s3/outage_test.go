package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/storage"
	"tidemark/storage/s3"
	"tidemark/storage/storagetest/faultproxy"
)

// operation is a call of a Bucket whose effect can be checked.
type operation struct {
	name string
	do   func(context.Context, storage.Bucket) error
	// check looks, past the fault, whether it was done, and wholly.
	check func(t *testing.T, clean storage.Bucket)
}

const (
	outagePart  = 64 << 10
	outageSmall = 20_000
	outageLarge = 2*outagePart + 20_000
)

// operations are what the tests below do during an outage. "there" and
// "doomed" are in the bucket before.
func operations() []operation {
	put := func(key string, n int) operation {
		data := random(n)
		return operation{
			"put " + key,
			func(ctx context.Context, b storage.Bucket) error {
				return b.Put(ctx, key, bytes.NewReader(data), storage.PutOptions{Size: -1})
			},
			func(t *testing.T, clean storage.Bucket) {
				t.Helper()
				if got, err := get(t, clean, key, 0, -1); err != nil || got != string(data) {
					t.Errorf("Put returned nil, and %s has %d bytes, want %d (%v)", key, len(got), n, err)
				}
			},
		}
	}
	read := func(name string, off, n int64) operation {
		return operation{name, func(ctx context.Context, b storage.Bucket) error {
			r, err := b.Get(ctx, "there", off, n)
			if err != nil {
				return err
			}
			defer r.Close() //nolint:errcheck // only read
			got, err := io.ReadAll(r)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return errors.Join(errWrong, err) // That would be an object that has ended.
			}
			want := random(outageSmall)[off:]
			if n >= 0 {
				want = want[:n]
			}
			if err == nil && !bytes.Equal(got, want) {
				return errWrong
			}
			return err
		}, func(*testing.T, storage.Bucket) {}}
	}
	return []operation{
		put("small", outageSmall), put("large", outageLarge),
		read("get", 0, -1), read("get range", 500, 9000),
		{"list", func(ctx context.Context, b storage.Bucket) error {
			var keys []string
			err := b.List(ctx, "there", "", func(info storage.Info) error {
				keys = append(keys, info.Key)
				return nil
			})
			if err == nil && strings.Join(keys, " ") != "there there2" {
				return errWrong
			}
			return err
		}, func(*testing.T, storage.Bucket) {}},
		{"delete", func(ctx context.Context, b storage.Bucket) error { return b.Delete(ctx, "doomed") }, func(t *testing.T, clean storage.Bucket) {
			t.Helper()
			if _, err := get(t, clean, "doomed", 0, -1); !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("Delete returned nil, and Get gives %v", err)
			}
		}},
	}
}

// errWrong says that an operation gave something false without an error.
var errWrong = errors.New("success with a wrong result")

// outage is a service behind a proxy.
type outage struct {
	proxy  *faultproxy.Proxy
	bucket *s3.Bucket     // through the proxy
	clean  storage.Bucket // past it
}

func newOutage(t *testing.T, timeout time.Duration) outage {
	t.Helper()
	endpoint := serve(t, newFake(t))
	o := outage{proxy: faultproxy.New(t, endpoint), clean: open(t, config(endpoint))}
	c := config(o.proxy.URL())
	c.Timeout, c.Attempts, c.PartSize = timeout, 2, outagePart
	o.bucket = open(t, c)
	for _, key := range []string{"there", "there2", "doomed"} {
		mustPut(t, o.clean, key, string(random(outageSmall)))
	}
	return o
}

// expectation is what a fault may look like.
type expectation struct {
	fault faultproxy.Fault
	// kind is what each error must be, or nil.
	kind error
	// text is what each error must say.
	text string
	// passes are the operations that may succeed, if they were really done;
	// "" is all.
	passes string
	// lies are those whose success nobody can see through.
	lies string
}

func expectations() []expectation {
	const puts = "put small, put large, delete"
	const noBody = "put small, delete" // those whose replies have no body
	gone := storage.ErrUnreachable
	portal := faultproxy.Reply("portal", "text/html", "<html><body>Please log in.</body></html>")
	nothing := faultproxy.Reply("empty reply", "application/xml", "")
	return []expectation{
		{faultproxy.Status(http.StatusInternalServerError, "InternalError"), nil, "500 InternalError", "none", ""},
		{faultproxy.Status(http.StatusServiceUnavailable, "SlowDown"), nil, "503 SlowDown", "none", ""},
		{faultproxy.Status(http.StatusServiceUnavailable, ""), nil, "503", "none", ""},
		{faultproxy.Status(http.StatusTooManyRequests, "TooManyRequests"), nil, "429 TooManyRequests", "none", ""},
		{faultproxy.Hang(), gone, "no byte in either direction", "none", ""},
		{faultproxy.HangBody(), gone, "", noBody, ""}, // The end of the request can come in between.
		{faultproxy.ResetRequest(), gone, "", "none", ""},
		{faultproxy.ResetReply(), gone, "", noBody, ""},
		{faultproxy.Truncate(), gone, "", noBody, ""},
		{faultproxy.Shorten(), nil, "", noBody, ""},
		{faultproxy.ErrorIn200("InternalError"), nil, "", "none", "delete"},
		{portal, nil, "the reply is not", "none", "delete"},
		{nothing, nil, "the reply is not", "none", "delete"},
		{faultproxy.LoseReply(), gone, "", "none", ""},
		{faultproxy.LoseSuccess(), gone, "", "none", ""},
		{faultproxy.Delay(time.Hour), gone, "no byte in either direction", "none", ""},
		{faultproxy.Delay(10 * time.Millisecond), nil, "", puts + ", get, get range, list", ""},
	}
}

// TestOutages meets each fault with each operation: the right error, soon; no
// false success; and success when the fault has been lifted.
func TestOutages(t *testing.T) {
	t.Parallel()
	for _, want := range expectations() {
		for _, op := range operations() {
			t.Run(want.fault.String()+"/"+op.name, func(t *testing.T) {
				t.Parallel()
				o := newOutage(t, 500*time.Millisecond)
				o.proxy.Break(want.fault)
				began := time.Now()
				err := op.do(t.Context(), o.bucket)
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
				want.check(t, op, err, o)
				o.proxy.Lift()
				if err := op.do(t.Context(), o.bucket); err != nil {
					t.Fatalf("after the outage: %v", err)
				}
				op.check(t, o.clean)
			})
		}
	}
}

func (e expectation) check(t *testing.T, op operation, err error, o outage) {
	t.Helper()
	has := func(list string) bool {
		for name := range strings.SplitSeq(list, ", ") {
			if name == op.name {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, errWrong):
		t.Error(err)
	case err == nil && has(e.lies):
	case err == nil && has(e.passes):
		op.check(t, o.clean)
	case err == nil:
		t.Error("it succeeded")
	default:
		if o.proxy.Hits() == 0 {
			t.Errorf("no request met the fault: %v", err)
		}
		if e.kind != nil && !errors.Is(err, e.kind) || e.kind == nil && errors.Is(err, storage.ErrUnreachable) {
			t.Errorf("error %v, want %v", err, e.kind)
		}
		for _, kind := range []error{storage.ErrExists, storage.ErrNotExist, storage.ErrDenied, storage.ErrNoBucket} {
			if errors.Is(err, kind) {
				t.Errorf("error %v, which is %q", err, kind)
			}
		}
		if !strings.Contains(err.Error(), e.text) || len(err.Error()) > 300 {
			t.Errorf("error %q, want %q in it, and short", err, e.text)
		}
	}
}

// TestSlow passes everything slowly. The timeout is for silence: a reply may
// take longer. (What a service takes slowly is out of the client's sight: the
// system's buffers have it.)
func TestSlow(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t, timeout)
			if op.name == "get" {
				o.proxy.Break(faultproxy.Limit(outageSmall / 2))
			} else {
				o.proxy.Break(faultproxy.Limit(10 * outageSmall))
			}
			began := time.Now()
			if err := op.do(t.Context(), o.bucket); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); op.name == "get" && took < timeout {
				t.Errorf("it took only %v: the test shows nothing", took)
			}
			op.check(t, o.clean)
		})
	}
}

// TestCancelOutage cancels each operation in the middle of a fault that lasts.
func TestCancelOutage(t *testing.T) {
	t.Parallel()
	for _, fault := range []faultproxy.Fault{
		faultproxy.Hang(), faultproxy.HangBody(), faultproxy.Delay(time.Hour), faultproxy.Limit(1),
		faultproxy.Status(http.StatusServiceUnavailable, "SlowDown"),
	} {
		for _, op := range operations() {
			t.Run(fault.String()+"/"+op.name, func(t *testing.T) {
				t.Parallel()
				o := newOutage(t, time.Hour)
				c := config(o.proxy.URL())
				c.Timeout, c.Backoff, c.PartSize = time.Hour, time.Hour, outagePart
				b := open(t, c)
				o.proxy.Break(fault)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- op.do(ctx, b) }()
				o.proxy.WaitHits(t, 1)
				began := time.Now()
				cancel()
				err := <-done
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it ended %v after it was told to", took)
				}
				if err == nil {
					op.check(t, o.clean) // It was done already.
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want context.Canceled", err)
				}
			})
		}
	}
}

// TestCancelAbort cancels when a part has failed and the service hangs while
// the upload is being aborted.
func TestCancelAbort(t *testing.T) {
	t.Parallel()
	o := newOutage(t, time.Hour)
	o.proxy.Set(
		faultproxy.Rule{Fault: faultproxy.Hang(), Methods: []string{http.MethodDelete}},
		faultproxy.Rule{Fault: faultproxy.Status(http.StatusForbidden, "AccessDenied"), Methods: []string{http.MethodPut}, Times: 1},
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- o.bucket.Put(ctx, "large", io.LimitReader(zeros{}, outageLarge), storage.PutOptions{Size: -1})
	}()
	o.proxy.WaitHits(t, 2)
	began := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Put = %v, want context.Canceled", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it ended %v after it was told to", took)
	}
}

// TestLostReply lets a request be performed once and its reply get lost: a
// conditional Put finds its own object and says that it exists, whole.
func TestLostReply(t *testing.T) {
	t.Parallel()
	isPut := func(r *http.Request) bool { return r.Method == http.MethodPut }
	isComplete := func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }
	for _, tt := range []struct {
		name  string
		size  int
		match func(*http.Request) bool
	}{
		{"whole", outageSmall, isPut},
		{"complete", outageLarge, isComplete},
	} {
		for _, ifAbsent := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, ifAbsent), func(t *testing.T) {
				t.Parallel()
				o := newOutage(t, 10*time.Second)
				o.proxy.Set(faultproxy.Rule{Fault: faultproxy.LoseReply(), Match: tt.match, Times: 1})
				data := random(tt.size)
				put := func() error {
					return o.bucket.Put(t.Context(), "k", bytes.NewReader(data), storage.PutOptions{Size: -1, IfAbsent: ifAbsent})
				}
				err := put()
				if ifAbsent && !errors.Is(err, storage.ErrExists) {
					t.Errorf("Put = %v, want ErrExists", err)
				}
				if !ifAbsent && err != nil && tt.size < outagePart {
					t.Errorf("Put = %v", err)
				}
				if got := mustGet(t, o.clean, "k"); got != string(data) {
					t.Errorf("the object has %d bytes, want %d", len(got), len(data))
				}
				if err := put(); ifAbsent != errors.Is(err, storage.ErrExists) || !ifAbsent && err != nil {
					t.Errorf("Put once more = %v", err)
				}
			})
		}
	}
}

// TestCompletedBefore completes an upload whose completion has succeeded, at a
// service that then knows the upload no more.
func TestCompletedBefore(t *testing.T) {
	t.Parallel()
	for _, exists := range []bool{true, false} {
		fake := newFake(t)
		var completions atomic.Int64
		b := open(t, config(serve(t, through(fake, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || !r.URL.Query().Has("uploadId") {
				return false
			}
			if completions.Add(1) == 1 && exists {
				fake.ServeHTTP(httptest.NewRecorder(), r)
				hangUp(w, r)
			}
			writeError(w, http.StatusNotFound, "NoSuchUpload")
			return true
		}))))
		data := random(3 << 20)
		err := b.Put(t.Context(), "k", bytes.NewReader(data), storage.PutOptions{Size: -1, IfAbsent: true})
		if err == nil || errors.Is(err, storage.ErrExists) != exists || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("exists: %t: Put = %v", exists, err)
		}
		if got, err := get(t, b, "k", 0, -1); exists && got != string(data) || !exists && !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("exists: %t: Get = %d bytes, %v", exists, len(got), err)
		}
	}
}

// TestUnconditional meets services that refuse a condition. They are asked once.
func TestUnconditional(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status        int
		code, message string
		want          bool
	}{
		{http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented", true},
		{http.StatusNotImplemented, "", "", true},
		{http.StatusBadRequest, "NotImplemented", "not this one", true},
		{http.StatusBadRequest, "InvalidArgument", "If-None-Match is not supported", true},
		{http.StatusBadRequest, "InvalidArgument", "Part number must be an integer", false},
	} {
		o := newOutage(t, 10*time.Second)
		body := fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message></Error>", tt.code, tt.message)
		endpoint := serve(t, through(o.proxy, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("If-None-Match") == "" {
				return false
			}
			w.WriteHeader(tt.status)
			if tt.code != "" {
				_, _ = io.WriteString(w, body)
			}
			return true
		}))
		c := config(endpoint)
		c.PartSize = outagePart
		b := open(t, c)
		for key, size := range map[string]int{"small": outageSmall, "large": outageLarge} {
			call := fmt.Sprintf("%d %s %q: Put of %s", tt.status, tt.code, tt.message, key)
			before := b.Requests().Put
			err := b.Put(t.Context(), key, bytes.NewReader(random(size)), storage.PutOptions{Size: -1, IfAbsent: true})
			if err == nil || errors.Is(err, storage.ErrUnconditional) != tt.want || !strings.Contains(err.Error(), tt.code) || len(err.Error()) > 300 {
				t.Errorf("%s = %v", call, err)
			}
			if sent := b.Requests().Put - before; key == "small" && sent != 1 || sent > 5 {
				t.Errorf("%s made %d requests", call, sent)
			}
			if err := storage.Unfenced(b).Put(t.Context(), key, bytes.NewReader(random(size)), storage.PutOptions{Size: -1, IfAbsent: true}); err != nil {
				t.Errorf("%s, unfenced = %v", call, err)
			}
			if err := b.Put(t.Context(), key, bytes.NewReader(random(size)), storage.PutOptions{Size: -1}); err != nil {
				t.Errorf("%s without a condition = %v", call, err)
			}
		}
	}
}
