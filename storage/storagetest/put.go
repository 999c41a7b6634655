package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"tidemark/storage"
)

func testPutGet(t *testing.T, b storage.Bucket) {
	for _, n := range []int{0, 1, 4096, 100_000} {
		data := pattern(n)
		known, unknown := fmt.Sprintf("known/%d", n), fmt.Sprintf("unknown/%d", n)
		put(t, b, known, data)
		if err := b.Put(t.Context(), unknown, stream(bytes.NewReader(data)), storage.PutOptions{Size: -1}); err != nil {
			t.Errorf("Put(%q): %v", unknown, err)
		}
		wantObject(t, b, known, data)
		wantObject(t, b, unknown, data)
	}
}

func testPutReplaces(t *testing.T, b storage.Bucket) {
	for _, n := range []int{100, 3000, 0, 7} {
		data := pattern(n)
		put(t, b, "log/replaced", data)
		wantObject(t, b, "log/replaced", data)
	}
	if got := list(t, b, "", ""); len(got) != 1 || got[0].Size != 7 {
		t.Errorf("List = %v, want one object of 7 bytes", got)
	}
}

func testPutWrongSize(t *testing.T, b storage.Bucket) {
	data := pattern(1000)
	for _, size := range []int64{0, 1, 999, 1001, largeSize} {
		for name, body := range map[string]io.Reader{
			"seeker": bytes.NewReader(data),
			"stream": stream(bytes.NewReader(data)),
		} {
			key := fmt.Sprintf("%s-%d", name, size)
			if err := b.Put(t.Context(), key, body, storage.PutOptions{Size: size}); err == nil {
				t.Errorf("Put(%q) stored 1000 bytes as %d", key, size)
			}
			wantNone(t, b, key)
		}
	}
	// A large body that is one byte too long is found out only at its end.
	large := bytes.NewReader(pattern(largeSize))
	if err := b.Put(t.Context(), "large", stream(large), storage.PutOptions{Size: largeSize - 1}); err == nil {
		t.Error("Put stored a large body that is longer than its size")
	}
	wantNone(t, b, "large")
	// What was there before stays.
	put(t, b, "kept", data)
	if err := b.Put(t.Context(), "kept", strings.NewReader("new"), storage.PutOptions{Size: 4}); err == nil {
		t.Error("Put replaced an object by a short body")
	}
	wantObject(t, b, "kept", data)
}

func testPutBrokenBody(t *testing.T, b storage.Bucket) {
	for _, size := range []int64{-1, 2000} {
		key := fmt.Sprintf("broken%d", size)
		err := b.Put(t.Context(), key, brokenAfter(pattern(1000)), storage.PutOptions{Size: size})
		wantError(t, "Put", err, errBody, key)
		wantNone(t, b, key)
	}
}

func testPutLargeStream(t *testing.T, b storage.Bucket) {
	data := pattern(largeSize)
	for _, size := range []int64{-1, largeSize} {
		key := fmt.Sprintf("large%d", size)
		if err := b.Put(t.Context(), key, stream(bytes.NewReader(data)), storage.PutOptions{Size: size}); err != nil {
			t.Fatalf("Put(%q): %v", key, err)
		}
		wantObject(t, b, key, data)
	}
	// Exactly one part, and a byte more: the corners of a multipart upload.
	for _, n := range []int{8 << 20, 8<<20 + 1} {
		if err := b.Put(t.Context(), "corner", stream(bytes.NewReader(data[:n])), storage.PutOptions{Size: -1}); err != nil {
			t.Fatalf("Put of %d bytes: %v", n, err)
		}
		wantObject(t, b, "corner", data[:n])
	}
}

func testPutBrokenLargeStream(t *testing.T, b storage.Bucket) {
	data := pattern(largeSize)
	for _, size := range []int64{-1, largeSize + 1} {
		key := fmt.Sprintf("broken%d", size)
		err := b.Put(t.Context(), key, brokenAfter(data), storage.PutOptions{Size: size})
		wantError(t, "Put", err, errBody, key)
		wantNone(t, b, key)
	}
}

// testPutSeeker puts from the middle of a seeker: what lies before does not
// belong to the body.
func testPutSeeker(t *testing.T, b storage.Bucket) {
	data := pattern(5000)
	for _, size := range []int64{-1, 4000} {
		r := bytes.NewReader(data)
		if _, err := r.Seek(1000, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), "seeker", r, storage.PutOptions{Size: size}); err != nil {
			t.Fatalf("Put: %v", err)
		}
		wantObject(t, b, "seeker", data[1000:])
	}
}

func testIfAbsent(t *testing.T, b storage.Bucket) {
	first, second := pattern(1000), pattern(2000)
	opts := storage.PutOptions{IfAbsent: true, Size: 1000}
	if err := b.Put(t.Context(), "log/1", bytes.NewReader(first), opts); err != nil {
		t.Fatalf("Put of an absent key: %v", err)
	}
	for _, size := range []int64{-1, 2000} {
		err := b.Put(t.Context(), "log/1", bytes.NewReader(second), storage.PutOptions{IfAbsent: true, Size: size})
		wantError(t, "Put", err, storage.ErrExists, "log/1")
	}
	wantObject(t, b, "log/1", first)
	if err := b.Delete(t.Context(), "log/1"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if err := b.Put(t.Context(), "log/1", bytes.NewReader(second), storage.PutOptions{IfAbsent: true, Size: 2000}); err != nil {
		t.Fatalf("Put of a deleted key: %v", err)
	}
	wantObject(t, b, "log/1", second)
}

// testIfAbsentLarge holds the condition for streams of several parts too.
func testIfAbsentLarge(t *testing.T, b storage.Bucket) {
	large := pattern(largeSize)
	opts := storage.PutOptions{IfAbsent: true, Size: -1}
	put(t, b, "small", []byte("was first"))
	err := b.Put(t.Context(), "small", stream(bytes.NewReader(large)), opts)
	wantError(t, "Put", err, storage.ErrExists, "small")
	wantObject(t, b, "small", []byte("was first"))

	if err := b.Put(t.Context(), "large", stream(bytes.NewReader(large)), opts); err != nil {
		t.Fatalf("Put of an absent key: %v", err)
	}
	wantObject(t, b, "large", large)
}

func testIfAbsentRace(t *testing.T, b storage.Bucket) {
	for round := range 4 {
		race(t, b, fmt.Sprintf("log/%d", round), 16, 1000)
	}
}

// testIfAbsentRaceStream races bodies that need a multipart upload in S3.
func testIfAbsentRaceStream(t *testing.T, b storage.Bucket) {
	race(t, b, "log/stream", 6, 8<<20+1)
}

// race puts different bodies of n bytes to one key, all at once, and checks
// that exactly one wins, whole, and that the others are told so.
func race(t *testing.T, b storage.Bucket, key string, racers, n int) {
	t.Helper()
	base := pattern(n)
	start := make(chan struct{})
	var winners, winner atomic.Int64
	var g errgroup.Group
	for i := range racers {
		g.Go(func() error {
			<-start
			body := io.MultiReader(bytes.NewReader([]byte{byte(i)}), bytes.NewReader(base))
			err := b.Put(t.Context(), key, body, storage.PutOptions{IfAbsent: true, Size: -1})
			switch {
			case err == nil:
				winners.Add(1)
				winner.Store(int64(i))
				return nil
			case errors.Is(err, storage.ErrExists):
				return nil
			default:
				return err
			}
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
	if winners.Load() != 1 {
		t.Fatalf("%d of %d concurrent Puts won, want exactly 1", winners.Load(), racers)
	}
	wantObject(t, b, key, append([]byte{byte(winner.Load())}, base...))
}

func testInvalidKeys(t *testing.T, b storage.Bucket) {
	ctx := t.Context()
	keys := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a b", "a%20b", "a+b", "a\\b", "é", "a\x00b",
		"q?x=1", "a#b", "a:b", "a*", "~a", strings.Repeat("x", storage.MaxKeyLen+1),
	}
	for _, key := range keys {
		wantError(t, "Put", b.Put(ctx, key, strings.NewReader("x"), storage.PutOptions{Size: 1}), storage.ErrInvalidKey, key)
		_, err := b.Get(ctx, key, 0, -1)
		wantError(t, "Get", err, storage.ErrInvalidKey, key)
		wantError(t, "Delete", b.Delete(ctx, key), storage.ErrInvalidKey, key)
	}
	if got := list(t, b, "", ""); len(got) != 0 {
		t.Errorf("List = %v, want nothing", got)
	}
}

func testLongKey(t *testing.T, b storage.Bucket) {
	// Elements stay below the 255 bytes of a file name.
	key := strings.Repeat(strings.Repeat("k", 127)+"/", 3) + strings.Repeat("k", 128)
	if len(key) != storage.MaxKeyLen {
		t.Fatalf("the key has %d bytes", len(key))
	}
	put(t, b, key, []byte("long"))
	wantObject(t, b, key, []byte("long"))
	if got := list(t, b, key[:300], ""); len(got) != 1 || got[0].Key != key {
		t.Errorf("List = %v", got)
	}
}

func testCancelled(t *testing.T, b storage.Bucket) {
	put(t, b, "there", []byte("before"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, opts := range []storage.PutOptions{{Size: 1}, {Size: -1}, {Size: 1, IfAbsent: true}} {
		err := b.Put(ctx, "new", strings.NewReader("x"), opts)
		wantError(t, "Put", err, context.Canceled, "new")
	}
	_, err := b.Get(ctx, "there", 0, -1)
	wantError(t, "Get", err, context.Canceled, "there")
	wantError(t, "Delete", b.Delete(ctx, "there"), context.Canceled, "there")
	err = b.List(ctx, "", "", func(storage.Info) error { return nil })
	wantError(t, "List", err, context.Canceled, "")
	wantNone(t, b, "new")
	wantObject(t, b, "there", []byte("before"))
}

// testCancelledBody cancels while a body is read: after a few bytes, and in
// the middle of a multipart upload.
func testCancelledBody(t *testing.T, b storage.Bucket) {
	for _, n := range []int{1000, largeSize} {
		ctx, cancel := context.WithCancel(t.Context())
		body := io.MultiReader(bytes.NewReader(pattern(n)), onRead(cancel), strings.NewReader("more"))
		err := b.Put(ctx, "cancelled", body, storage.PutOptions{Size: -1})
		wantError(t, "Put", err, context.Canceled, "cancelled")
		wantNone(t, b, "cancelled")
	}
}

// onRead is an empty reader that calls itself when it is read.
type onRead func()

// Read implements io.Reader.
func (f onRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}
