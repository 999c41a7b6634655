package replica_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// The year's storage, and what ends a replicator's power over it.

// yearBucket is storage that can be away, can refuse to delete, and notes what is
// done to it.
type yearBucket struct {
	*mem.Bucket
	// now is its clock.
	now func() time.Time
	// changed has room for one, and says that something was put.
	changed chan struct{}

	mu           sync.Mutex // guards what follows
	away, denies bool
	snaps        []state.TXID // that were put, ascending
	times        map[string]time.Time
	put, gone    map[string]int
	bytes        map[string]int64
	largest      int64 // of the snapshots
	refused      int
}

func newYearBucket(now func() time.Time) *yearBucket {
	return &yearBucket{Bucket: mem.New(), now: now, times: map[string]time.Time{}, changed: make(chan struct{}, 1), put: map[string]int{}, gone: map[string]int{}, bytes: map[string]int64{}}
}

// set lets storage be away, or refuse to delete.
func (b *yearBucket) set(away, denies bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away, b.denies = away, denies
}

// newest is the commit of the newest snapshot that was put, 0 without one.
func (b *yearBucket) newest() state.TXID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.snaps) == 0 {
		return 0
	}
	return b.snaps[len(b.snaps)-1]
}

// made are the commits of all snapshots that were ever put.
func (b *yearBucket) made() []state.TXID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.snaps[:len(b.snaps):len(b.snaps)]
}

func (b *yearBucket) reach() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return fmt.Errorf("%w: in this test", storage.ErrUnreachable)
	}
	return nil
}

// Put implements [storage.Bucket].
func (b *yearBucket) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	err := b.reach()
	read := &metered{Reader: body}
	if err == nil {
		err = b.Bucket.Put(ctx, key, read, opts)
	}
	if err != nil {
		return err
	}
	kind, name, _ := strings.Cut(key, "/")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put[kind]++
	b.times[key] = b.now()
	b.bytes[kind] += read.n
	if kind == "snapshot" {
		hex, _, _ := strings.Cut(name, "-")
		id, err := state.ParseHex(hex)
		if err != nil {
			return fmt.Errorf("a snapshot has the key %s: %w", key, err)
		}
		b.snaps = append(b.snaps, id)
		b.largest = max(b.largest, read.n)
	}
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return nil
}

// Get implements [storage.Bucket].
func (b *yearBucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := b.reach(); err != nil {
		return nil, err
	}
	return b.Bucket.Get(ctx, key, off, n)
}

// List implements [storage.Bucket].
func (b *yearBucket) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if err := b.reach(); err != nil {
		return err
	}
	return b.Bucket.List(ctx, prefix, after, func(o storage.Info) error {
		b.mu.Lock()
		o.Modified = b.times[o.Key]
		b.mu.Unlock()
		return fn(o)
	})
}

// Delete implements [storage.Bucket].
func (b *yearBucket) Delete(ctx context.Context, key string) error {
	err := b.reach()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.denies {
		b.refused++
		return fmt.Errorf("delete %s: %w", key, storage.ErrDenied)
	}
	if err == nil {
		err = b.Bucket.Delete(ctx, key)
	}
	kind, _, _ := strings.Cut(key, "/")
	b.gone[kind]++
	return err
}

// errDead is an error that nobody waits to pass.
var errDead = fmt.Errorf("%w: this replicator is dead", archive.ErrBroken)

// hands are what a replicator changes storage by, until it is dead.
type hands struct {
	storage.Bucket
	still sync.RWMutex // held while something is being changed; guards dead
	dead  bool
}

// Put implements [storage.Bucket].
func (h *hands) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	h.still.RLock()
	defer h.still.RUnlock()
	if h.dead {
		return errDead
	}
	return h.Bucket.Put(ctx, key, body, opts)
}

// Delete implements [storage.Bucket].
func (h *hands) Delete(ctx context.Context, key string) error {
	h.still.RLock()
	defer h.still.RUnlock()
	if h.dead {
		return errDead
	}
	return h.Bucket.Delete(ctx, key)
}

// metered counts what is read.
type metered struct {
	io.Reader
	n int64
}

func (c *metered) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}
