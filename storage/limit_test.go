package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/storage/storagetest"
)

func TestLimitsAreBucket(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) storage.Bucket { return storage.NewLimits(2, 1e6).Bucket(mem.New()) })
}

// TestLimitsCount sees what a backend counts for itself.
func TestLimitsCount(t *testing.T) {
	t.Parallel()
	inner := storage.Count(mem.New())
	outer := storage.Count(storage.NewLimits(1, 0).Bucket(inner))
	if _, err := inner.Get(t.Context(), "none", 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Fatal(err)
	}
	if got, want := outer.Requests(), (storage.Requests{Get: 1}); got != want {
		t.Errorf("Requests() = %+v, want the backend's %+v", got, want)
	}
}

// gate is a bucket whose requests wait until they are let go, in the order in which
// they came.
type gate struct {
	storage.Bucket
	mu     sync.Mutex
	inside []string
	opened chan struct{}
}

func newGate() *gate { return &gate{Bucket: mem.New(), opened: make(chan struct{})} }

func (g *gate) pass(what string) {
	g.mu.Lock()
	g.inside = append(g.inside, what)
	g.mu.Unlock()
	<-g.opened
}

// came lets n of the requests go, and gives all that have come so far.
func (g *gate) came(n int) []string {
	synctest.Wait()
	for range n {
		g.opened <- struct{}{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.inside)
}

func (g *gate) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	g.pass("put " + key)
	return g.Bucket.Put(ctx, key, body, opts)
}

func (g *gate) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	g.pass("get " + key)
	return g.Bucket.Get(ctx, key, off, n)
}

func (g *gate) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	g.pass("list")
	return g.Bucket.List(ctx, prefix, after, fn)
}

func (g *gate) Delete(ctx context.Context, key string) error {
	g.pass("delete " + key)
	return g.Bucket.Delete(ctx, key)
}

// Buckets share the places, each kind of request has its own, and who comes first is
// let in first.
func TestLimitsBound(t *testing.T) {
	t.Parallel()
	put := func(size int64) func(context.Context, storage.Bucket, string) error {
		return func(ctx context.Context, b storage.Bucket, key string) error {
			return b.Put(ctx, key, strings.NewReader("x"), storage.PutOptions{Size: size})
		}
	}
	tests := []struct {
		name   string
		places int
		call   func(context.Context, storage.Bucket, string) error
	}{
		{"put", 6, put(1)},
		{"put a stream", 2, put(-1)},
		{"get", 8, func(ctx context.Context, b storage.Bucket, key string) error {
			r, err := b.Get(ctx, key, 0, -1)
			if err != nil {
				return err
			}
			return r.Close()
		}},
		{"list", 8, func(ctx context.Context, b storage.Bucket, _ string) error {
			return b.List(ctx, "", "", func(storage.Info) error { return nil })
		}},
		{"delete", 8, func(ctx context.Context, b storage.Bucket, key string) error { return b.Delete(ctx, key) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const calls = 20
				limits := storage.NewLimits(8, 0)
				g := newGate()
				for i := range calls {
					fill(t, g.Bucket, fmt.Sprintf("key%d", i))
				}
				var group sync.WaitGroup
				for i := range calls {
					b := limits.Bucket(g) // one each
					group.Go(func() {
						if err := tt.call(t.Context(), b, fmt.Sprintf("key%d", i)); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait() // so that they come one after the other
				}
				all := g.came(0)
				for n := tt.places; n < calls; n++ {
					if len(all) != n {
						t.Fatalf("%d are let in after %d have gone, want %d", len(all), n-tt.places, n)
					}
					if want := fmt.Sprintf("key%d", n-1); tt.name != "list" && !strings.HasSuffix(all[n-1], want) {
						t.Fatalf("%s was let in, want %s", all[n-1], want)
					}
					g.came(1)
					all = g.came(0)
				}
				g.came(tt.places)
				group.Wait()
			})
		})
	}
}

func fill(t *testing.T, b storage.Bucket, key string) {
	t.Helper()
	if err := b.Put(t.Context(), key, strings.NewReader("0123456789"), storage.PutOptions{Size: 10}); err != nil {
		t.Fatal(err)
	}
}

// Whatever fills the places of one kind, the others are free.
func TestLimitsKeepKindsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limits := storage.NewLimits(2, 0)
		g := newGate()
		slow, quick := limits.Bucket(g), limits.Bucket(mem.New())
		var group sync.WaitGroup
		do := func(call func() error) {
			group.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		one, stream := storage.PutOptions{Size: 1}, storage.PutOptions{Size: -1}
		do(func() error { return slow.Put(t.Context(), "stream", strings.NewReader("x"), stream) })
		if err := quick.Put(t.Context(), "sized", strings.NewReader("x"), one); err != nil {
			t.Error(err)
		}
		do(func() error { return slow.Put(t.Context(), "sized", strings.NewReader("x"), one) })
		if err := quick.List(t.Context(), "", "", func(storage.Info) error { return nil }); err != nil {
			t.Error(err)
		}
		g.came(2)
		group.Wait()
	})
}

// There are never more uploads than the limit, of whatever kind.
func TestLimitsOfUploads(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 3, 9: 9, 0: storage.DefaultInFlight} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const calls = 100
				g := newGate()
				b := storage.NewLimits(limit, 0).Bucket(g)
				var group sync.WaitGroup
				for i := range calls {
					group.Go(func() {
						if err := b.Put(t.Context(), "key", strings.NewReader("x"), storage.PutOptions{Size: int64(i%2*2 - 1)}); err != nil {
							t.Error(err)
						}
					})
				}
				if n := len(g.came(0)); n != want {
					t.Errorf("%d at a time, want %d", n, want)
				}
				g.came(calls)
				group.Wait()
			})
		})
	}
}

// A body that reads through the same limits, as that of a pack does, gets on, also
// when each of two has what the other one waits for.
func TestLimitsNoDeadlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := storage.NewLimits(1, 0).Bucket(mem.New())
		fill(t, b, "from")
		joiner := func(key string) (read, put func()) {
			pr, pw := io.Pipe()
			read = func() {
				r, err := b.Get(t.Context(), "from", 0, -1)
				if err == nil {
					_, err = io.Copy(pw, r)
					err = errors.Join(err, r.Close())
				}
				pw.CloseWithError(err)
			}
			put = func() {
				if err := b.Put(t.Context(), key, pr, storage.PutOptions{Size: -1}); err != nil {
					t.Error(err)
				}
			}
			return read, put
		}
		readA, putA := joiner("a")
		readB, putB := joiner("b")
		var group sync.WaitGroup
		for _, fn := range []func(){readA, putB, putA, readB} { // A has the place to read, B that to put
			group.Go(fn)
			synctest.Wait()
		}
		group.Wait()
		for _, key := range []string{"a", "b"} {
			if got := content(t, b, key); got != "0123456789" {
				t.Errorf("%s is %q", key, got)
			}
		}
	})
}

// However a request ends, its place is free after it, at once but for a body that
// nobody reads or closes.
func TestLimitsGiveBack(t *testing.T) {
	t.Parallel()
	errFull := errors.New("enough")
	open := func(ctx context.Context, b storage.Bucket, use func(io.ReadCloser) error) error {
		r, err := b.Get(ctx, "there", 0, -1)
		if err != nil {
			return err
		}
		return use(r)
	}
	tests := []struct {
		name string
		call func(context.Context, storage.Bucket) error
		want error
		wait time.Duration
	}{
		{"put", func(ctx context.Context, b storage.Bucket) error {
			return b.Put(ctx, "new", strings.NewReader("x"), storage.PutOptions{Size: 1})
		}, nil, 0},
		{"put what exists", func(ctx context.Context, b storage.Bucket) error {
			return b.Put(ctx, "there", strings.NewReader("x"), storage.PutOptions{Size: -1, IfAbsent: true})
		}, storage.ErrExists, 0},
		{"get nothing", func(ctx context.Context, b storage.Bucket) error {
			_, err := b.Get(ctx, "none", 0, -1)
			return err
		}, storage.ErrNotExist, 0},
		{"read to the end, not closed", func(ctx context.Context, b storage.Bucket) error {
			return open(ctx, b, func(r io.ReadCloser) error { _, err := io.ReadAll(r); return err })
		}, nil, 0},
		{"closed early, twice", func(ctx context.Context, b storage.Bucket) error {
			return open(ctx, b, func(r io.ReadCloser) error { return errors.Join(r.Close(), r.Close()) })
		}, nil, 0},
		{"cancelled while read", func(ctx context.Context, b storage.Bucket) error {
			ctx, cancel := context.WithCancel(ctx)
			return open(ctx, b, func(r io.ReadCloser) error { cancel(); _, err := r.Read(make([]byte, 1)); return err })
		}, context.Canceled, 0},
		{"neither read nor closed", func(ctx context.Context, b storage.Bucket) error {
			return open(ctx, b, func(io.ReadCloser) error { return nil })
		}, nil, 5 * time.Second},
		{"closed late", func(ctx context.Context, b storage.Bucket) error {
			return open(ctx, b, func(r io.ReadCloser) error { <-time.After(time.Hour); return r.Close() })
		}, nil, 0},
		{"list", func(ctx context.Context, b storage.Bucket) error {
			return b.List(ctx, "", "", func(storage.Info) error { return nil })
		}, nil, 0},
		{"list until", func(ctx context.Context, b storage.Bucket) error {
			return b.List(ctx, "", "", func(storage.Info) error { return errFull })
		}, errFull, 0},
		{"list, and read what is listed", func(ctx context.Context, b storage.Bucket) error {
			return b.List(ctx, "", "", func(storage.Info) error {
				return open(ctx, b, func(r io.ReadCloser) error { return r.Close() })
			})
		}, nil, 0},
		{"delete", func(ctx context.Context, b storage.Bucket) error { return b.Delete(ctx, "new") }, nil, 0},
		{"delete by a wrong key", func(ctx context.Context, b storage.Bucket) error { return b.Delete(ctx, "/") }, storage.ErrInvalidKey, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := storage.NewLimits(1, 0).Bucket(mem.New())
				fill(t, b, "there")
				if err := tt.call(t.Context(), b); !errors.Is(err, tt.want) {
					t.Fatalf("%v, want %v", err, tt.want)
				}
				began := time.Now()
				use(t, b)
				if err := b.Put(t.Context(), "stream", strings.NewReader("x"), storage.PutOptions{Size: -1}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tt.wait {
					t.Errorf("the next requests waited %v, want %v", took, tt.wait)
				}
			})
		})
	}
}

// A place is given back once, however often a body ends: else more would be let in
// than may be.
func TestLimitsGiveBackOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		limits := storage.NewLimits(2, 0)
		b := limits.Bucket(g.Bucket)
		fill(t, b, "there")
		for range 2 {
			r, err := b.Get(t.Context(), "there", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(r)
			<-time.After(time.Minute)
			if err := errors.Join(err, r.Close(), r.Close()); err != nil {
				t.Fatal(err)
			}
		}
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				if err := limits.Bucket(g).Delete(t.Context(), "there"); err != nil {
					t.Error(err)
				}
			})
		}
		if n := len(g.came(0)); n != 2 {
			t.Errorf("%d at a time, want 2", n)
		}
		for range 5 {
			g.came(1)
		}
		group.Wait()
	})
}

// Who gives up while it waits takes nobody's place or turn, and storage does not hear
// of it.
func TestLimitsCancelled(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		perSecond float64
	}{{"for a place", 0}, {"for the rate", 0.001}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				limits := storage.NewLimits(1, tt.perSecond)
				g := newGate()
				var group sync.WaitGroup
				group.Go(func() {
					if err := limits.Bucket(g).Delete(t.Context(), "first"); err != nil {
						t.Error(err)
					}
				})
				if g.came(0); tt.perSecond > 0 {
					g.came(1) // its place is free, and the next turn is after 1000 s
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := limits.Bucket(g).Delete(ctx, "second")
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "delete second") {
					t.Errorf("Delete = %v", err)
				}
				if took := time.Since(began); took != time.Minute {
					t.Errorf("it gave up after %v", took)
				}
				group.Go(func() {
					if err := limits.Bucket(g).Delete(t.Context(), "third"); err != nil {
						t.Error(err)
					}
				})
				if tt.perSecond == 0 {
					g.came(1)
				} else {
					<-time.After(1000*time.Second - time.Since(began))
				}
				if all := g.came(0); len(all) != 2 {
					t.Errorf("storage was asked for %q by now", all)
				}
				if all := g.came(1); len(all) != 2 || all[1] != "delete third" {
					t.Errorf("storage was asked for %q", all)
				}
				group.Wait()
			})
		})
	}
}

// Requests of all kinds and buckets together keep to the rate, after the first ones.
func TestLimitsRate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		perSecond float64
		calls     int
		want      time.Duration
	}{
		{0, 1000, 0},
		{-1, 1000, 0},
		{10, 10, 0},
		{10, 40, 3 * time.Second},
		{0.5, 4, 6 * time.Second},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d calls at %v", tt.calls, tt.perSecond), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				limits := storage.NewLimits(4, tt.perSecond)
				store := mem.New()
				fill(t, store, "there")
				began := time.Now()
				var group sync.WaitGroup
				for i := range tt.calls {
					group.Go(func() {
						b := limits.Bucket(store)
						var err error
						switch i % 4 {
						case 0:
							err = b.Put(t.Context(), "new", strings.NewReader("x"), storage.PutOptions{Size: 1})
						case 1:
							_, err = b.Get(t.Context(), "none", 0, -1)
							if errors.Is(err, storage.ErrNotExist) {
								err = nil
							}
						case 2:
							err = b.List(t.Context(), "", "", func(storage.Info) error { return nil })
						case 3:
							err = b.Delete(t.Context(), "new")
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				if took := time.Since(began).Round(time.Millisecond); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
			})
		})
	}
}
