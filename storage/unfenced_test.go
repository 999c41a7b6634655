package storage_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/storage/storagetest"
)

// TestUnfencedIsBucket puts the decorator over a store that refuses conditions.
func TestUnfencedIsBucket(t *testing.T) {
	t.Parallel()
	storagetest.RunUnfenced(t, func(*testing.T) storage.Bucket {
		return storage.Unfenced(storagetest.RefuseConditions(mem.New()))
	})
}

// TestConditions shows what the decorator is for, and what it does not do.
func TestConditions(t *testing.T) {
	t.Parallel()
	store := mem.New()
	put := func(b storage.Bucket, ifAbsent bool, data string) error {
		return b.Put(t.Context(), "k", strings.NewReader(data), storage.PutOptions{Size: -1, IfAbsent: ifAbsent})
	}
	tests := []struct {
		name     string
		bucket   storage.Bucket
		ifAbsent bool
		want     error
		content  string
	}{
		{"ignored", storagetest.IgnoreConditions(store), true, nil, "ignored"},
		{"refused", storagetest.RefuseConditions(store), true, storage.ErrUnconditional, "before"},
		{"refused, without a condition", storagetest.RefuseConditions(store), false, nil, "refused, without a condition"},
		{"unfenced", storage.Unfenced(storagetest.IgnoreConditions(store)), true, storage.ErrExists, "before"},
		{"unfenced, without a condition", storage.Unfenced(store), false, nil, "unfenced, without a condition"},
	}
	for _, tt := range tests { // one after the other: they share the store
		if err := put(store, false, "before"); err != nil {
			t.Fatal(err)
		}
		if err := put(tt.bucket, tt.ifAbsent, tt.name); !errors.Is(err, tt.want) {
			t.Errorf("%s: Put = %v, want %v", tt.name, err, tt.want)
		}
		if got := content(t, store, "k"); got != tt.content {
			t.Errorf("%s: the store has %q, want %q", tt.name, got, tt.content)
		}
	}
}

// TestUnfencedRace shows the race that remains.
func TestUnfencedRace(t *testing.T) {
	t.Parallel()
	store := mem.New()
	b := storage.Unfenced(&between{Bucket: store, then: func() {
		if err := store.Put(t.Context(), "k", strings.NewReader("theirs"), storage.PutOptions{Size: -1}); err != nil {
			t.Error(err)
		}
	}})
	if err := b.Put(t.Context(), "k", strings.NewReader("ours"), storage.PutOptions{Size: -1, IfAbsent: true}); err != nil {
		t.Errorf("Put = %v", err)
	}
	if got := content(t, store, "k"); got != "ours" {
		t.Errorf("the store has %q", got)
	}
}

// TestUnfencedCannotLook puts nothing if it can't be seen what is there.
func TestUnfencedCannotLook(t *testing.T) {
	t.Parallel()
	store := mem.New()
	b := storage.Unfenced(&between{Bucket: store, err: storage.ErrUnreachable})
	err := b.Put(t.Context(), "k", strings.NewReader("x"), storage.PutOptions{Size: -1, IfAbsent: true})
	if !errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), "put k") {
		t.Errorf("Put = %v, want ErrUnreachable", err)
	}
	if _, err := store.Get(t.Context(), "k", 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("Get = %v, want ErrNotExist", err)
	}
}

// TestUnfencedCounts sees the look and the put, through a backend that counts
// for itself too.
func TestUnfencedCounts(t *testing.T) {
	t.Parallel()
	want := storage.Requests{Get: 1, Put: 1}
	for name, b := range map[string]storage.Bucket{"plain": mem.New(), "counting": storage.Count(mem.New())} {
		inner := storage.Count(b)
		outer := storage.Count(storage.Unfenced(inner))
		if err := outer.Put(t.Context(), "k", strings.NewReader("x"), storage.PutOptions{Size: 1, IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
		if got := outer.Requests(); got != want {
			t.Errorf("%s: Requests() = %+v, want %+v", name, got, want)
		}
	}
}

// between does something, or fails, where another looks whether a key is there.
type between struct {
	storage.Bucket
	then func()
	err  error
}

// Get implements [storage.Bucket].
func (b *between) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if b.err != nil {
		return nil, b.err
	}
	defer b.then()
	return b.Bucket.Get(ctx, key, off, n)
}

func content(t *testing.T, b storage.Bucket, key string) string {
	t.Helper()
	r, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(data)
}
