package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/storage"
	"tidemark/storage/s3"
	"tidemark/storage/storagetest"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		t.Helper()
		return open(t, config(serve(t, newFake(t))))
	})
}

func TestSub(t *testing.T) {
	t.Parallel()
	c := config(serve(t, newFake(t)))
	c.Prefix = ""
	root := open(t, c)
	sub := root.Sub("/team/").Sub("app.db")
	if got := sub.String(); got != "s3://bucket/team/app.db" {
		t.Errorf("String() = %s", got)
	}
	mustPut(t, sub, "log/1", "one")
	if got := mustGet(t, root, "team/app.db/log/1"); got != "one" {
		t.Errorf("the root sees %q", got)
	}
	if got, want := sub.Requests(), (storage.Requests{Put: 1}); got != want {
		t.Errorf("Requests() = %+v, want %+v", got, want)
	}
	if got, want := root.Requests(), (storage.Requests{Get: 1}); got != want {
		t.Errorf("the root's Requests() = %+v, want %+v", got, want)
	}
}

// TestRequests counts what is sent, not what is called.
func TestRequests(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	fake := newFake(t)
	b := open(t, config(serve(t, through(fake, func(w http.ResponseWriter, _ *http.Request) bool {
		if !fail.CompareAndSwap(true, false) {
			return false
		}
		writeError(w, http.StatusServiceUnavailable, "SlowDown")
		return true
	}))))
	counter := storage.Count(b)
	// Create, three parts, Complete.
	err := counter.Put(t.Context(), "large", io.LimitReader(zeros{}, 5<<19), storage.PutOptions{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	mustPut(t, counter, "small", "x") // Twice.
	mustGet(t, counter, "small")
	if err := counter.List(t.Context(), "", "", func(storage.Info) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := counter.Delete(t.Context(), "small"); err != nil {
		t.Fatal(err)
	}
	want := storage.Requests{List: 1, Get: 1, Put: 7, Delete: 1}
	if diff := cmp.Diff(want, counter.Requests()); diff != "" {
		t.Errorf("Requests (-want +got):\n%s", diff)
	}
}

// TestHeaders checks what a Put sends: a length, no hash of the payload, no
// checksum in an encoding of its own, and the condition.
func TestHeaders(t *testing.T) {
	t.Parallel()
	var got http.Header
	var length int64
	b := open(t, config(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, length = r.Header.Clone(), r.ContentLength
		w.Header().Set("ETag", `"stored"`)
		_, _ = io.Copy(io.Discard, r.Body)
	}))))
	err := b.Put(t.Context(), "k", strings.NewReader("hello"), storage.PutOptions{Size: -1, IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	if length != 5 {
		t.Errorf("Content-Length is %d, want 5", length)
	}
	for name, want := range map[string]string{
		"X-Amz-Content-Sha256":         "UNSIGNED-PAYLOAD",
		"If-None-Match":                "*",
		"Content-Encoding":             "",
		"X-Amz-Trailer":                "",
		"X-Amz-Sdk-Checksum-Algorithm": "",
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
}

// TestForeignObjects lists only what Put can have made.
func TestForeignObjects(t *testing.T) {
	t.Parallel()
	fake := newFake(t)
	for _, key := range []string{"some/prefix/", "some/prefix/a b", "some/prefix/a//b", "some/prefix2", "some/prefix/a"} {
		if _, err := fake.Backend.PutObject("bucket", key, map[string]string{}, strings.NewReader("x"), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, config(serve(t, fake)))
	var got []string
	if err := b.List(t.Context(), "", "", func(info storage.Info) error {
		got = append(got, info.Key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

// TestListUnordered refuses a listing that is not in key order.
func TestListUnordered(t *testing.T) {
	t.Parallel()
	b := open(t, config(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated>`+
			`<Contents><Key>some/prefix/b</Key><Size>1</Size></Contents><Contents><Key>some/prefix/a</Key><Size>1</Size></Contents></ListBucketResult>`)
	}))))
	err := b.List(t.Context(), "", "", func(storage.Info) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "not in key order") {
		t.Errorf("List = %v", err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*s3.Config)
		want   string
	}{
		{"bucket", func(c *s3.Config) { c.Bucket = "" }, "no bucket name"},
		{"bucket with slash", func(c *s3.Config) { c.Bucket = "a/b" }, "no bucket name"},
		{"secret", func(c *s3.Config) { c.SecretAccessKey = "" }, "belong together"},
		{"key id", func(c *s3.Config) { c.AccessKeyID = "" }, "belong together"},
		{"scheme", func(c *s3.Config) { c.Endpoint = "localhost:9000" }, "http://"},
		{"password", func(c *s3.Config) { c.Endpoint = "http://me:hidden@localhost" }, "nothing else"},
		{"query", func(c *s3.Config) { c.Endpoint = "http://localhost?x=1" }, "nothing else"},
		{"negative", func(c *s3.Config) { c.PartSize = -1 }, "negative"},
		{"huge part", func(c *s3.Config) { c.PartSize = 1 << 40 }, "larger than"},
		{"prefix", func(c *s3.Config) { c.Prefix = strings.Repeat("x", 1000) }, "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := config("http://localhost:1")
			tt.change(&c)
			_, err := s3.Open(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open = %v, want an error with %q", err, tt.want)
			} else if strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), c.SecretAccessKey) && c.SecretAccessKey != "" {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

// zeros is an endless body.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func mustPut(t *testing.T, b storage.Bucket, key, data string) {
	t.Helper()
	if err := b.Put(t.Context(), key, bytes.NewReader([]byte(data)), storage.PutOptions{Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
}

func mustGet(t *testing.T, b storage.Bucket, key string) string {
	t.Helper()
	got, err := get(t, b, key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func get(t *testing.T, b storage.Bucket, key string, off, n int64) (string, error) {
	t.Helper()
	r, err := b.Get(t.Context(), key, off, n)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	_ = r.Close()
	return string(data), err
}
