package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"tidemark/storage"
)

func testGetRanges(t *testing.T, b storage.Bucket) {
	const size = 1000
	data := pattern(size)
	put(t, b, "ranged", data)
	put(t, b, "empty", nil)
	const huge = 1<<63 - 1
	tests := []struct {
		key      string
		off, n   int64
		from, to int
		err      error
	}{
		{"ranged", 0, -1, 0, size, nil},
		{"ranged", 0, size, 0, size, nil},
		{"ranged", 0, size + 1, 0, size, nil},
		{"ranged", 0, huge, 0, size, nil},
		{"ranged", 0, 1, 0, 1, nil},
		{"ranged", 0, 0, 0, 0, nil},
		{"ranged", 1, -1, 1, size, nil},
		{"ranged", 1, -99, 1, size, nil},
		{"ranged", 1, huge, 1, size, nil},
		{"ranged", 500, 0, 0, 0, nil},
		{"ranged", 500, 100, 500, 600, nil},
		{"ranged", size - 1, -1, size - 1, size, nil},
		{"ranged", size - 1, 1, size - 1, size, nil},
		{"ranged", size - 1, 2, size - 1, size, nil},
		{"ranged", size, -1, 0, 0, nil},
		{"ranged", size, 0, 0, 0, nil},
		{"ranged", size, 1, 0, 0, nil},
		{"ranged", size, huge, 0, 0, nil},
		{"ranged", size + 1, -1, 0, 0, storage.ErrRange},
		{"ranged", size + 1, 0, 0, 0, storage.ErrRange},
		{"ranged", size + 1, 1, 0, 0, storage.ErrRange},
		{"ranged", huge, huge, 0, 0, storage.ErrRange},
		{"ranged", -1, -1, 0, 0, storage.ErrRange},
		{"ranged", -1, 1, 0, 0, storage.ErrRange},
		{"empty", 0, -1, 0, 0, nil},
		{"empty", 0, 0, 0, 0, nil},
		{"empty", 0, 1, 0, 0, nil},
		{"empty", 1, -1, 0, 0, storage.ErrRange},
		{"empty", 1, 0, 0, 0, storage.ErrRange},
	}
	for _, tt := range tests {
		call := fmt.Sprintf("Get(%q, %d, %d)", tt.key, tt.off, tt.n)
		got, err := get(t, b, tt.key, tt.off, tt.n)
		if tt.err != nil {
			wantError(t, call, err, tt.err, tt.key)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", call, err)
		} else if want := data[tt.from:tt.to]; !bytes.Equal(got, want) {
			t.Errorf("%s gave %d bytes, want %d", call, len(got), len(want))
		}
	}
}

func testGetMissing(t *testing.T, b storage.Bucket) {
	put(t, b, "folder/object", []byte("x"))
	for _, key := range []string{"missing", "missing/below", "folder", "folder/objec", "folder/object2"} {
		for _, rng := range [][2]int64{{0, -1}, {0, 0}, {0, 10}, {5, -1}, {5, 0}, {5, 5}} {
			_, err := get(t, b, key, rng[0], rng[1])
			wantError(t, fmt.Sprintf("Get(%q, %d, %d)", key, rng[0], rng[1]), err, storage.ErrNotExist, key)
		}
	}
}

// testGetCloseEarly closes a body that was read in part, and reads two bodies
// of one object in turns.
func testGetCloseEarly(t *testing.T, b storage.Bucket) {
	data := pattern(300_000)
	put(t, b, "object", data)
	open := func() io.ReadCloser {
		r, err := b.Get(t.Context(), "object", 0, -1)
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		return r
	}
	one, two := open(), open()
	got := make([]byte, 1000)
	for _, r := range []io.ReadCloser{one, two, two, one} {
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatalf("Read: %v", err)
		}
	}
	if !bytes.Equal(got, data[1000:2000]) {
		t.Error("two readers of one object disturb each other")
	}
	for _, r := range []io.ReadCloser{one, two} {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// listKeys are in ascending byte order. Bytes below the slash ('-' and '.')
// are where the order of keys and that of a walk through folders differ.
func listKeys() []string {
	return []string{
		"A/z", "B", "_", "a-/x", "a-b", "a-b/c", "a.b", "a/-", "a/.x", "a/0", "a/b-c", "a/b.c", "a/b/c", "a/b/c.d/e", "a/b/d", "a/b0",
		"a/bc", "a0", "ab", "ab/c", "b-1/x", "b.1/x", "b/x", "b1/x", "snapshot/1", "snapshot/2",
	}
}

// putListKeys puts the keys that do not need another key to be a folder, in an
// order of its own, and returns them sorted. The size of each tells it apart.
func putListKeys(t *testing.T, b storage.Bucket) []string {
	t.Helper()
	var keys []string
	all := listKeys()
	for i, key := range all {
		conflict := slices.ContainsFunc(all, func(k string) bool { return strings.HasPrefix(k, key+"/") })
		if !conflict {
			keys = append(keys, all[i])
		}
	}
	slices.Sort(keys)
	for i := range keys {
		key := keys[(i*7)%len(keys)]
		put(t, b, key, pattern(len(key)))
	}
	return keys
}

func testListOrder(t *testing.T, b storage.Bucket) {
	keys := putListKeys(t, b)
	var got []string
	for _, info := range list(t, b, "", "") {
		got = append(got, info.Key)
		if info.Size != int64(len(info.Key)) {
			t.Errorf("List gives %q the size %d, want %d", info.Key, info.Size, len(info.Key))
		}
	}
	if !slices.Equal(got, keys) {
		t.Errorf("List gives\n%q, want\n%q", got, keys)
	}
}

// testListPrefixAfter lists with each prefix of each key, before and after
// each key, and with some that are none.
func testListPrefixAfter(t *testing.T, b storage.Bucket) {
	keys := putListKeys(t, b)
	prefixes := map[string]bool{"": true, "x": true, "a/b/c.d/e/f": true, "a//": true, "a/zz/": true}
	for _, key := range []string{"a/b/c.d/e", "a-b/c", "b.1/x", "snapshot/1"} {
		for i := range len(key) {
			prefixes[key[:i+1]] = true
		}
	}
	afters := []string{"", "a", "a-b", "a/", "a/b", "a/b/", "a/b/c", "a/b/c.d/e", "a/b/c0", "a0", "snapshot/2", "zzz", "A", "b/x"}
	for prefix := range prefixes {
		for _, after := range afters {
			var want, got []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			for _, info := range list(t, b, prefix, after) {
				got = append(got, info.Key)
			}
			if !slices.Equal(got, want) {
				t.Errorf("List(%q, %q) gives\n%q, want\n%q", prefix, after, got, want)
			}
		}
	}
}

// testListMany lists more keys than one page of S3 holds.
func testListMany(t *testing.T, b storage.Bucket) {
	const n = 1_050
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	var want []string
	for i := range n {
		key := fmt.Sprintf("log/%016x.seg", i*37)
		want = append(want, key)
		g.Go(func() error {
			return b.Put(ctx, key, strings.NewReader(""), storage.PutOptions{Size: 0})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("Put: %v", err)
	}
	var got []string
	for _, info := range list(t, b, "log/", "") {
		got = append(got, info.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("List gives %d keys, want %d", len(got), n)
	}
	if got := list(t, b, "log/", want[n-3]); len(got) != 2 || got[1].Key != want[n-1] {
		t.Errorf("List after the third last = %v", got)
	}
}

func testListStops(t *testing.T, b storage.Bucket) {
	keys := putListKeys(t, b)
	errStop := errors.New("stop")
	calls := 0
	err := b.List(t.Context(), "", "", func(info storage.Info) error {
		if info.Key != keys[calls] {
			t.Errorf("call %d got %q", calls, info.Key)
		}
		calls++
		if calls == 3 {
			return errStop
		}
		return nil
	})
	// The error comes back as it is, not wrapped.
	if err != errStop || calls != 3 { //nolint:errorlint // Identity is the clause.
		t.Errorf("List = %v after %d calls, want fn's own error after 3", err, calls)
	}

	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	err = b.List(ctx, "", "", func(storage.Info) error {
		calls++
		cancel()
		return nil
	})
	wantError(t, "List", err, context.Canceled, "")
	if calls != 1 {
		t.Errorf("List made %d calls, want none after the context's end", calls-1)
	}
}

func testListEmpty(t *testing.T, b storage.Bucket) {
	if got := list(t, b, "", ""); len(got) != 0 {
		t.Errorf("List of an empty bucket = %v", got)
	}
	if got := list(t, b, "no/such/", "no/such/key"); len(got) != 0 {
		t.Errorf("List of a missing prefix = %v", got)
	}
}

func testDelete(t *testing.T, b storage.Bucket) {
	put(t, b, "log/1", []byte("one"))
	put(t, b, "log/2", []byte("two"))
	for range 2 {
		if err := b.Delete(t.Context(), "log/1"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	for _, key := range []string{"never", "never/was", "log", "log/2/below"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
	wantNone(t, b, "log/1")
	wantObject(t, b, "log/2", []byte("two"))
}
