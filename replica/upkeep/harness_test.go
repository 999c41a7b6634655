package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/disk/disktest"
	"tidemark/replica/restore"
	"tidemark/replica/upkeep"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pageSize = 512

// world is a replica that is written, a Keeper that looks after it, and what the
// database was at each commit.
type world struct {
	t *testing.T
	// bucket is what there is; seen is what the Keeper works with.
	bucket  *mem.Bucket
	seen    storage.Bucket
	counter *storage.Counter
	arch    *archive.Archive // to put into bucket
	dir     string
	opts    upkeep.Options
	keeper  *upkeep.Keeper
	// tell, if not nil, is told of a segment instead of the Keeper.
	tell   func(archive.Segment, state.TXID, string) error
	now    time.Time
	rng    *rand.Rand
	states [][][]byte // pages at TXID - 1
	log    bytes.Buffer
}

// small is a policy that packs soon.
func small() upkeep.Packing { return upkeep.Packing{Newest: 2, Most: 4, Share: 1} }

func newWorld(t *testing.T, change func(*world)) *world {
	t.Helper()
	w := &world{t: t, bucket: mem.New(), dir: t.TempDir(), rng: rand.New(rand.NewPCG(3, 4))}
	w.now = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	w.opts = upkeep.Options{
		Packing: small(), Writer: "keeper", Now: func() time.Time { return w.now },
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	}
	w.counter = storage.Count(w.bucket)
	w.seen = w.counter
	if change != nil {
		change(w)
	}
	var err error
	if w.arch, err = archive.Create(t.Context(), w.bucket, pageSize, w.now); err != nil {
		t.Fatal(err)
	}
	w.states = [][][]byte{{w.page(), w.page(), w.page()}}
	w.snapshot()
	w.start()
	return w
}

func (w *world) page() []byte {
	b := make([]byte, pageSize)
	for i := range b[:60] {
		b[i] = byte(w.rng.Uint32())
	}
	return b
}

func (w *world) open() *archive.Archive {
	w.t.Helper()
	a, err := archive.Open(w.t.Context(), w.bucket)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// start begins with a new Keeper, as a new process does.
func (w *world) start() {
	w.t.Helper()
	a := w.open()
	opts := w.opts
	if opts.Cache == nil {
		opts.Cache = upkeep.NewCache(disk.OS{}, filepath.Join(w.dir, "cache"), 1<<20)
	}
	w.keeper = upkeep.New(archive.Known(w.seen, a.Meta()).As(a.Listing()), opts)
}

func (w *world) last() state.TXID { return state.TXID(len(w.states)) }

// table is the page sums after a commit.
func (w *world) table(id state.TXID) *state.Table {
	t := state.NewTable(pageSize)
	for i, p := range w.states[id-1] {
		t.Set(wal.PageNo(i+1), state.SumPage(wal.PageNo(i+1), p))
	}
	return t
}

// write puts a segment of some commits, and tells the Keeper.
func (w *world) write(commits int) {
	w.t.Helper()
	first := w.last() + 1
	path := filepath.Join(w.dir, "spooled")
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	was := w.table(first - 1)
	s := segment.NewWriter(f, segment.Header{
		PageSize: pageSize, Replica: w.arch.Meta().Replica, First: first, Before: was.Checksum(), PagesBefore: was.Len(), Time: w.now, Writer: "writer",
	})
	for range commits {
		w.commit(s)
	}
	if _, err := s.Close(w.table(w.last()).At); err != nil {
		w.t.Fatal(err)
	}
	size := s.Stored()
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	err = w.arch.PutSegment(w.t.Context(), first, archive.Body{Size: size, Open: func() (io.ReadCloser, error) { return os.Open(path) }})
	tell := w.tell
	if tell == nil {
		tell = w.keeper.Put
	}
	if err == nil {
		err = tell(archive.Segment{First: first, Size: size}, w.last(), path)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) commit(s *segment.Writer) {
	w.t.Helper()
	was := w.states[len(w.states)-1]
	now := slices.Clone(was)
	for range 1 + w.rng.IntN(2) {
		no := w.rng.IntN(len(now) + 1)
		page := w.page()
		var err error
		if no == len(now) {
			now = append(now, page)
			err = s.Full(wal.PageNo(no+1), page)
		} else {
			err = s.Delta(wal.PageNo(no+1), page, now[no])
			now[no] = page
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if len(now) > 6 {
		now = now[:3]
	}
	w.states = append(w.states, now)
	if _, err := s.Commit(segment.Commit{Time: w.now, Pages: uint32(len(now)), After: w.table(w.last()).Checksum()}); err != nil {
		w.t.Fatal(err)
	}
}

// pages is a database to be snapshotted.
type pages [][]byte

func (p pages) ReadPages(first wal.PageNo, buf []byte) error {
	for i := int(first) - 1; len(buf) > 0; i++ {
		buf = buf[copy(buf, p[i]):]
	}
	return nil
}

// snapshot puts a full snapshot of the newest commit, and tells the Keeper.
func (w *world) snapshot() {
	w.t.Helper()
	p := pages(w.states[len(w.states)-1])
	h := snapshot.Header{PageSize: pageSize, TXID: w.last(), Pages: uint32(len(p)), Time: w.now.UnixMilli()}
	sum, err := w.arch.PutSnapshot(w.t.Context(), h, p, snapshot.WriteOptions{Workers: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.keeper != nil {
		w.keeper.PutSnapshot(archive.Snapshot{TXID: h.TXID, Size: sum.Stored}, w.now)
	}
}

// work lets the Keeper work, and compares what it knows with what there is.
func (w *world) work() {
	w.t.Helper()
	w.keeper.Work(w.t.Context())
	if next := w.keeper.Next(); !next.IsZero() && !next.After(w.now) {
		w.t.Errorf("after Work there is something to do at %v, it is %v", next, w.now)
	}
	w.knows()
}

// knows checks that the Keeper knows what there is.
func (w *world) knows() {
	w.t.Helper()
	want, got := w.open().Listing(), w.keeper.Listing()
	if slices.Equal(want.Segments, got.Segments) && slices.Equal(want.Covered, got.Covered) && slices.Equal(want.Snapshots, got.Snapshots) {
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(archive.Listing{}), cmpopts.IgnoreFields(archive.Listing{}, "Marks"), cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("the archive as the keeper knows it (-is +known):\n%s", diff)
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

// restores restores commits and compares them.
func (w *world) restores(ids ...state.TXID) {
	w.t.Helper()
	for _, id := range ids {
		if err := w.restore(id); err != nil {
			w.t.Errorf("TXID %v: %v", id, err)
		}
	}
}

func (w *world) restore(id state.TXID) error {
	out := filepath.Join(w.t.TempDir(), "restored")
	_, err := restore.Run(w.t.Context(), restore.Options{
		Bucket: w.bucket, Output: out, Target: restore.Target{TXID: id}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, bytes.Join(w.states[id-1], nil)) {
		return errWrong
	}
	return nil
}

// errWrong is the worst that a restore can come to.
var errWrong = errors.New("it is another state")

// all are the commits from one on.
func (w *world) all(from state.TXID) (ids []state.TXID) {
	for id := from; id <= w.last(); id++ {
		ids = append(ids, id)
	}
	return ids
}

// keys are the objects there are under a prefix.
func (w *world) keys(prefix string) (keys []string) {
	w.t.Helper()
	err := w.bucket.List(w.t.Context(), prefix, "", func(o storage.Info) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

// object reads one.
func (w *world) object(key string) []byte {
	w.t.Helper()
	r, err := w.bucket.Get(w.t.Context(), key, 0, -1)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// overwrite replaces an object.
func (w *world) overwrite(key string, b []byte) {
	w.t.Helper()
	if err := w.bucket.Put(w.t.Context(), key, bytes.NewReader(b), storage.PutOptions{Size: -1}); err != nil {
		w.t.Fatal(err)
	}
}

// remove deletes an object behind the Keeper's back.
func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.bucket.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
}

// requests are those that do makes.
func (w *world) requests(do func()) storage.Requests {
	before := w.counter.Requests()
	do()
	return w.counter.Requests().Sub(before)
}

// faulty is a bucket of which each request is an operation of a disk's.
type faulty struct {
	storage.Bucket
	disk *disktest.Disk
}

func (f faulty) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	return f.disk.Do("put "+key, func() error { return f.Bucket.Put(ctx, key, body, opts) })
}

func (f faulty) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	err = f.disk.Do("get "+key, func() error { r, err = f.Bucket.Get(ctx, key, off, n); return err })
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (f faulty) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	return f.disk.Do("list "+prefix, func() error { return f.Bucket.List(ctx, prefix, after, fn) })
}

func (f faulty) Delete(ctx context.Context, key string) error {
	return f.disk.Do("delete "+key, func() error { return f.Bucket.Delete(ctx, key) })
}
