// Package storagetest defines the contract of [storage.Bucket] by a suite of
// tests that every backend passes. Where the interface's comments and this
// suite differ, the suite is right.
package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tidemark/storage"
)

// Run runs the suite. open returns an empty bucket, a new one at each call; it
// is called once a subtest, and what it opens it closes by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) storage.Bucket) {
	t.Helper()
	RunUnfenced(t, open)
	run(t, open, []clause{
		{"IfAbsentRace", testIfAbsentRace},
		{"IfAbsentRaceStream", testIfAbsentRaceStream},
	})
}

// clause is a test of one clause of the contract.
type clause struct {
	name string
	test func(*testing.T, storage.Bucket)
}

// RunUnfenced runs all of the suite but the clause that a bucket made by
// [storage.Unfenced] can't keep: that of concurrent Puts with IfAbsent exactly
// one succeeds.
func RunUnfenced(t *testing.T, open func(t *testing.T) storage.Bucket) {
	t.Helper()
	run(t, open, []clause{
		{"PutGet", testPutGet},
		{"PutReplaces", testPutReplaces},
		{"PutWrongSize", testPutWrongSize},
		{"PutBrokenBody", testPutBrokenBody},
		{"PutLargeStream", testPutLargeStream},
		{"PutBrokenLargeStream", testPutBrokenLargeStream},
		{"PutSeeker", testPutSeeker},
		{"IfAbsent", testIfAbsent},
		{"IfAbsentLarge", testIfAbsentLarge},
		{"InvalidKeys", testInvalidKeys},
		{"LongKey", testLongKey},
		{"GetRanges", testGetRanges},
		{"GetMissing", testGetMissing},
		{"GetCloseEarly", testGetCloseEarly},
		{"ListOrder", testListOrder},
		{"ListPrefixAfter", testListPrefixAfter},
		{"ListMany", testListMany},
		{"ListStops", testListStops},
		{"ListEmpty", testListEmpty},
		{"Delete", testDelete},
		{"Cancelled", testCancelled},
		{"CancelledBody", testCancelledBody},
	})
}

func run(t *testing.T, open func(t *testing.T) storage.Bucket, clauses []clause) {
	t.Helper()
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

// largeSize is the length of a large object: it takes several parts of 8 MiB,
// or of the 5 MiB that S3 asks for at least, and is no multiple of either.
const largeSize = 17<<20 + 12_345

// pattern returns n bytes in which no two stretches are alike, so that a
// missing, repeated or exchanged part shows.
func pattern(n int) []byte {
	data := make([]byte, n)
	seed := [32]byte{byte(n), byte(n >> 8), byte(n >> 16)}
	_, _ = rand.NewChaCha8(seed).Read(data) // It never fails.
	return data
}

// stream hides every method of r but Read, so that a backend can neither seek
// in it nor learn its length.
func stream(r io.Reader) io.Reader {
	return struct{ io.Reader }{r}
}

// errBody is what a broken body fails with.
var errBody = errors.New("the body broke")

// brokenAfter returns a body that yields data and then fails with errBody.
func brokenAfter(data []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(data), errReader{})
}

type errReader struct{}

// Read implements io.Reader.
func (errReader) Read([]byte) (int, error) { return 0, errBody }

func put(t *testing.T, b storage.Bucket, key string, data []byte) {
	t.Helper()
	if err := b.Put(t.Context(), key, bytes.NewReader(data), storage.PutOptions{Size: int64(len(data))}); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func get(t *testing.T, b storage.Bucket, key string, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := b.Get(t.Context(), key, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if cerr := r.Close(); cerr != nil && err == nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	return data, err
}

// wantObject checks that key holds exactly want.
func wantObject(t *testing.T, b storage.Bucket, key string, want []byte) {
	t.Helper()
	got, err := get(t, b, key, 0, -1)
	if err != nil {
		t.Errorf("Get(%q): %v", key, err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Get(%q) gave %d bytes, want %d; equal up to byte %d", key, len(got), len(want), commonLen(got, want))
	}
}

// wantNone checks that neither Get nor List shows key.
func wantNone(t *testing.T, b storage.Bucket, key string) {
	t.Helper()
	if _, err := get(t, b, key, 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("Get(%q) = %v, want ErrNotExist", key, err)
	}
	for _, info := range list(t, b, "", "") {
		if info.Key == key {
			t.Errorf("List shows %q", key)
		}
	}
}

// wantError checks that err is target and, if target is about one object,
// names the key.
func wantError(t *testing.T, call string, err, target error, key string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s = %v, want %v", call, err, target)
		return
	}
	if !strings.Contains(err.Error(), strings.Trim(fmt.Sprintf("%q", key), `"`)) && !strings.Contains(err.Error(), key) {
		t.Errorf("%s: the error does not name the key %q: %v", call, key, err)
	}
}

// clockSkew is how far the storage's clock may be from this one's.
const clockSkew = time.Minute

func list(t *testing.T, b storage.Bucket, prefix, after string) []storage.Info {
	t.Helper()
	var infos []storage.Info
	err := b.List(t.Context(), prefix, after, func(info storage.Info) error {
		if at := info.Modified; !at.IsZero() && (time.Since(at) < -clockSkew || time.Since(at) > clockSkew+time.Hour) {
			t.Errorf("%s was put at %v, it is %v", info.Key, at, time.Now())
		}
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		t.Fatalf("List(%q, %q): %v", prefix, after, err)
	}
	return infos
}

func commonLen(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
