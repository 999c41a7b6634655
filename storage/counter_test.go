package storage_test

import (
	"encoding/json"
	"strings"
	"testing"

	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/storage/storagetest"
)

func TestCounterIsBucket(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) storage.Bucket { return storage.Count(mem.New()) })
}

func TestCounter(t *testing.T) {
	t.Parallel()
	c := storage.Count(mem.New())
	use(t, c)
	want := storage.Requests{List: 1, Get: 1, Put: 2, Delete: 1}
	if got := c.Requests(); got != want {
		t.Errorf("Requests() = %+v, want %+v", got, want)
	}
	// A counter over a counter begins at zero and sees the inner one's truth.
	outer := storage.Count(c)
	if got := outer.Requests(); got != (storage.Requests{}) {
		t.Errorf("a new counter reports %+v", got)
	}
	use(t, outer)
	if got := outer.Requests(); got != want {
		t.Errorf("outer Requests() = %+v, want %+v", got, want)
	}
}

func TestRequestsJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(storage.Requests{List: 1, Get: 2, Put: 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"list":1,"get":2,"put":3}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// use makes one List, one Get, two Puts and one Delete.
func use(t *testing.T, b storage.Bucket) {
	t.Helper()
	ctx := t.Context()
	for _, key := range []string{"a", "b"} {
		if err := b.Put(ctx, key, strings.NewReader("x"), storage.PutOptions{Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.Get(ctx, "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.List(ctx, "", "", func(storage.Info) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
}
