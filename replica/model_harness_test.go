package replica_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
)

// What the model test plays with: an application that keeps no record of its own,
// storage with faults, and a run of tidemark that can be killed.

// weather is how storage does.
type weather int

const (
	storageUp    weather = iota
	storageDown          // nothing is reached
	storageLossy         // what is put arrives, and the answer does not
)

func (s weather) String() string { return []string{"up", "down", "losing replies"}[s] }

// fickle is storage whose weather changes.
type fickle struct {
	*mem.Bucket
	// still is held while something is being put; a crash is taken under it.
	still sync.RWMutex

	mu      sync.Mutex // guards what follows
	weather weather
	asked   chan struct{} // closed when it is asked for something, if not nil
}

func (f *fickle) set(s weather) { f.mu.Lock(); defer f.mu.Unlock(); f.weather = s }

func (f *fickle) is(s weather) bool { f.mu.Lock(); defer f.mu.Unlock(); return f.weather == s }

// next gives a channel that is closed when somebody asks for something.
func (f *fickle) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = make(chan struct{})
	return f.asked
}

func (f *fickle) now() (weather, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked != nil {
		close(f.asked)
		f.asked = nil
	}
	if f.weather == storageDown {
		return storageDown, fmt.Errorf("%w: in this test", storage.ErrUnreachable)
	}
	return f.weather, nil
}

func (f *fickle) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	f.still.RLock()
	defer f.still.RUnlock()
	s, err := f.now()
	if err != nil {
		return err
	}
	if err := f.Bucket.Put(ctx, key, body, opts); err != nil || s == storageUp {
		return err
	}
	return fmt.Errorf("put %s: %w: the reply is lost", key, storage.ErrUnreachable)
}

func (f *fickle) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if _, err := f.now(); err != nil {
		return nil, err
	}
	return f.Bucket.Get(ctx, key, off, n)
}

func (f *fickle) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if _, err := f.now(); err != nil {
		return err
	}
	return f.Bucket.List(ctx, prefix, after, fn)
}

// copied is what the objects are now.
func (f *fickle) copied(ctx context.Context) (*mem.Bucket, error) {
	c := mem.New()
	err := f.Bucket.List(ctx, "", "", func(o storage.Info) error {
		r, err := f.Bucket.Get(ctx, o.Key, 0, -1)
		if err != nil {
			return err
		}
		defer r.Close() //nolint:errcheck // only read
		return c.Put(ctx, o.Key, r, storage.PutOptions{Size: o.Size})
	})
	return c, err
}

// process is a run of tidemark.
type process struct {
	cancel context.CancelFunc
	ready  chan struct{} // closed when the database is followed
	done   chan struct{} // closed when it has ended, with err
	err    error
	// attached tells that ready was noticed.
	attached bool
}

func begin(opts replica.Options, run func(context.Context, replica.Options) (replica.Report, error)) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, ready: make(chan struct{}), done: make(chan struct{})}
	opts.Ready = sync.OnceFunc(func() { close(p.ready) })
	go func() {
		defer close(p.done)
		_, p.err = run(ctx, opts)
	}()
	return p
}

// end tells it to stop, and waits.
func (p *process) end() error { p.cancel(); <-p.done; return p.err }

// client is the application's side: a database that is open or not.
type client struct {
	path, pragmas string
	db            *sql.DB // nil: closed
	reader        *sql.DB // not nil: it is in a read transaction
}

func connect(path, pragmas string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(0)&_pragma=cache_size(10)"+pragmas)
	if err == nil {
		db.SetMaxOpenConns(1)
		_, err = db.ExecContext(context.Background(), "PRAGMA journal_mode=WAL; SELECT count(*) FROM sqlite_schema")
	}
	return db, err
}

func (c *client) open() (err error) {
	if c.db == nil {
		c.db, err = connect(c.path, c.pragmas)
	}
	return err
}

func (c *client) close() error {
	if c.db == nil {
		return nil
	}
	err := c.db.Close()
	c.db = nil
	return err
}

// read opens a read transaction on a connection of its own, and unread ends it.
func (c *client) read() (err error) {
	if c.reader, err = connect(c.path, ""); err == nil {
		_, err = c.reader.ExecContext(context.Background(), "BEGIN; SELECT count(*) FROM t")
	}
	return err
}

func (c *client) unread() error {
	if c.reader == nil {
		return nil
	}
	err := c.reader.Close()
	c.reader = nil
	return err
}

func (c *client) exec(q string, args ...any) error {
	if _, err := c.db.ExecContext(context.Background(), q, args...); err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// blob is content that is seen once only.
func blob(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed)))
	_, _ = rng.Read(b) // never fails
	return b
}

// contentOf is the digest of a database's content.
func contentOf(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, v FROM t UNION ALL SELECT -1, n FROM mark ORDER BY 1")
	if err != nil {
		return "", err
	}
	defer rows.Close() //nolint:errcheck // only read
	h := sha256.New()
	for rows.Next() {
		var id int64
		var v []byte
		if err := rows.Scan(&id, &v); err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(h, "%d %d ", id, len(v))
		_, _ = h.Write(v)
	}
	return hex.EncodeToString(h.Sum(nil)[:4]), rows.Err()
}

// contentAt restores a commit to a file, and gives the digest.
func contentAt(ctx context.Context, b storage.Bucket, id state.TXID, out string) (digest string, err error) {
	_, err = restore.Run(ctx, restore.Options{Bucket: b, Output: out, Target: restore.Target{TXID: id}, Logger: discard()})
	if err != nil {
		return "", err
	}
	db, err := sql.Open("sqlite", "file:"+out+"?immutable=1&mode=ro")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return contentOf(ctx, db)
}

// headOf is an archive's newest commit.
func headOf(ctx context.Context, b storage.Bucket) (state.TXID, error) {
	a, err := archive.Open(ctx, b)
	if err != nil {
		return 0, err
	}
	h, err := a.Head(ctx)
	return h.Last, err
}

// walFacts are what can be told of a WAL from outside.
type walFacts struct {
	salts          wal.Salts // zero: it has no header
	frames, copied uint32
}

// beyond tells whether it holds commits past a position, which may be one of an
// earlier generation.
func (f walFacts) beyond(at wal.Position) bool {
	return f.salts == at.Salts && f.frames > at.Frame || f.salts != at.Salts && f.frames > 0
}

// facts looks at the WAL. The database must be open.
func (c *client) facts() (f walFacts, err error) {
	var busy int
	var frames, copied int64
	err = c.db.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &copied)
	if err != nil || busy != 0 || frames < 0 {
		return f, fmt.Errorf("look at the WAL: %w (busy: %d, frames: %d)", err, busy, frames)
	}
	file, err := os.Open(c.path + "-wal")
	if err != nil {
		return f, err
	}
	defer file.Close() //nolint:errcheck // only read
	if h, err := wal.ReadHeader(file); err == nil {
		f.salts = h.Salts
	}
	f.frames, f.copied = uint32(frames), uint32(copied)
	return f, nil
}

// repeats tells whether one of the WAL's frames is a page of a database file.
func (c *client) repeats(file []byte, frames uint32) (bool, error) {
	f, err := os.Open(c.path + "-wal")
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := wal.ReadHeader(f)
	if err != nil {
		return false, err
	}
	r := wal.NewReader(f, h, h.Start())
	for r.SetLimit(frames); r.Position().Frame < frames; {
		if _, err := r.Next(); err != nil {
			return false, err
		}
		for frame, err := range r.Frames() {
			at := h.PageSize.Offset(frame.Page)
			if err != nil || at < int64(len(file)) && bytes.Equal(file[at:at+int64(h.PageSize)], frame.Image) {
				return err == nil, err
			}
		}
	}
	return false, nil
}

// hasWAL tells whether there is a WAL file. SQLite deletes it with the last
// connection.
func (c *client) hasWAL() bool {
	_, err := os.Stat(c.path + "-wal")
	return err == nil
}

// snap is a folder's files at one moment, though it is being written to: they are
// read until two readings in a row are the same.
func snap(dir string) (map[string][]byte, error) {
	const most = 2000
	var before map[string][]byte
	for range most {
		now, err := readTree(dir)
		if err != nil {
			return nil, err
		}
		if now != nil && before != nil && maps.EqualFunc(before, now, slices.Equal) {
			return now, nil
		}
		before = now
	}
	return nil, fmt.Errorf("%s does not come to rest", dir)
}

// readTree reads a folder's files but the lock, or gives nil if one of them has
// gone meanwhile.
func readTree(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		b, err := os.ReadFile(path)
		files[path[len(dir):]] = b
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return files, err
}

// writeTree makes a folder of files.
func writeTree(dir string, files map[string][]byte) error {
	err := os.MkdirAll(filepath.Join(dir, "spool"), 0o700)
	for name, b := range files {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600))
	}
	return err
}

// await waits for a condition, or for what ends the wait.
func await(ok func() (bool, error), ended <-chan struct{}) error {
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := ok(); err != nil || done {
			return err
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("replication has ended")
		case <-deadline.C:
			return errors.New("a minute has passed")
		}
	}
}
