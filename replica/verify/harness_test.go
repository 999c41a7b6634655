package verify_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"tidemark/replica/archive"
	"tidemark/replica/verify"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
	"tidemark/wal/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pageSize = 512

// at is the time of a commit: one comes every second.
func at(id state.TXID) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(id) * time.Second)
}

// pages is a database: page n is at n-1.
type pages [][]byte

func (p pages) ReadPages(first wal.PageNo, buf []byte) error {
	for i := int(first) - 1; len(buf) > 0; i++ {
		buf = buf[copy(buf, p[i]):]
	}
	return nil
}

func (p pages) table() *state.Table {
	t := state.NewTable(pageSize)
	for i, page := range p {
		t.Set(wal.PageNo(i+1), state.SumPage(wal.PageNo(i+1), page))
	}
	return t
}

// history is a replica of a real database, and what that was at each commit.
type history struct {
	t      *testing.T
	bucket storage.Bucket
	arch   *archive.Archive
	path   string
	states []pages // at TXID - 1
	stored state.TXID
	rng    *rand.Rand
}

// begin makes a replica with a first snapshot of TXID 1.
func begin(t *testing.T) *history {
	t.Helper()
	h := &history{t: t, bucket: mem.New(), path: filepath.Join(t.TempDir(), "app.db"), stored: 1, rng: rand.New(rand.NewPCG(1, 2))}
	h.put("tidemark.json", []byte(`{"format":1,"replica":"000102030405060708090a0b0c0d0e0f","page_size":512}`))
	var err error
	if h.arch, err = archive.Open(t.Context(), h.bucket); err != nil {
		t.Fatal(err)
	}
	h.exec("PRAGMA page_size=512; CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB); CREATE TABLE other(x)")
	h.snapshot(1, 0)
	return h
}

// exec executes statements, each a commit.
func (h *history) exec(statements ...string) {
	h.t.Helper()
	db, err := sql.Open("sqlite", h.path+"?_pragma=journal_mode(DELETE)")
	if err != nil {
		h.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.ExecContext(h.t.Context(), s); err != nil {
			h.t.Fatal(err)
		}
		h.states = append(h.states, readPages(h.t, h.path))
	}
	if err := db.Close(); err != nil {
		h.t.Fatal(err)
	}
}

func readPages(t *testing.T, path string) (p pages) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := range slices.Chunk(b, pageSize) {
		p = append(p, page)
	}
	return p
}

// commits makes some that add rows, the same in each run of a test.
func (h *history) commits(n int) {
	h.t.Helper()
	for range n {
		b := make([]byte, 700)
		for i := range b {
			b[i] = byte(h.rng.Uint32())
		}
		h.exec(fmt.Sprintf("INSERT INTO t(b) SELECT x'%x' || n FROM (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3)", b))
	}
}

func (h *history) last() state.TXID { return state.TXID(len(h.states)) }

// forgery is how an object of the log differs from the one that it should be.
type forgery struct {
	// wrongAfter is a commit whose state checksum is recorded wrong, wrongDelta one
	// of whose frames one is wrong, wrongSum a page of which the index has another sum.
	wrongAfter, wrongDelta state.TXID
	wrongSum               wal.PageNo
	writer                 string
}

// encode makes an object of the log.
func (h *history) encode(first, last state.TXID, f forgery) []byte {
	h.t.Helper()
	var b bytes.Buffer
	was := h.states[first-2].table()
	w := segment.NewWriter(&b, segment.Header{
		PageSize: pageSize, Replica: h.arch.Meta().Replica, First: first, Before: was.Checksum(), PagesBefore: was.Len(), Time: at(first), Writer: f.writer,
	})
	for id := first; id <= last; id++ {
		h.write(w, id, f)
	}
	end := h.states[last-1].table()
	_, err := w.Close(func(no wal.PageNo) state.Sum {
		if no == f.wrongSum {
			return end.At(no) + 1
		}
		return end.At(no)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes()
}

func (h *history) write(w *segment.Writer, id state.TXID, f forgery) {
	h.t.Helper()
	was, now := h.states[id-2], h.states[id-1]
	wrong := id == f.wrongDelta
	for i, page := range now {
		var err error
		switch {
		case i >= len(was):
			err = w.Full(wal.PageNo(i+1), page)
		case !bytes.Equal(was[i], page):
			if wrong {
				page, wrong = bytes.Clone(page), false
				page[100]++
			}
			err = w.Delta(wal.PageNo(i+1), page, was[i])
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	c := segment.Commit{Time: at(id), Pages: uint32(len(now)), After: now.table().Checksum()}
	if id == f.wrongAfter {
		c.After++
	}
	if _, err := w.Commit(c); err != nil {
		h.t.Fatal(err)
	}
}

// segments puts the commits up to each of some into a segment.
func (h *history) segments(ends ...state.TXID) {
	h.t.Helper()
	for _, last := range ends {
		h.put(archive.SegmentKey(h.stored+1), h.encode(h.stored+1, last, forgery{}))
		h.stored = last
	}
}

// pack puts a pack and deletes what it is made of.
func (h *history) pack(first, last state.TXID) {
	h.t.Helper()
	h.put(archive.PackKey(first, last), h.encode(first, last, forgery{}))
	for id := first; id <= last; id++ {
		h.drop(archive.SegmentKey(id))
	}
}

// snapshot puts a snapshot, full with base 0.
func (h *history) snapshot(id, base state.TXID) {
	h.t.Helper()
	h.snapshotOf(id, base, h.states[id-1], nil)
}

// snapshotOf puts a snapshot of a state; runs, if not nil, are the pages that it has.
func (h *history) snapshotOf(id, base state.TXID, p pages, runs []snapshot.Run) {
	h.t.Helper()
	head := snapshot.Header{PageSize: pageSize, TXID: id, Base: base, Pages: uint32(len(p)), Time: at(id).UnixMilli()}
	opts := snapshot.WriteOptions{Workers: 1}
	if base != 0 {
		was := h.states[base-1].table()
		if runs == nil {
			runs = snapshot.Diff(was, p.table())
		}
		opts.Changes = &snapshot.Changes{Base: was, Runs: runs}
	}
	h.drop(archive.SnapshotKey(id, base))
	if _, err := h.arch.PutSnapshot(h.t.Context(), head, p, opts); err != nil {
		h.t.Fatal(err)
	}
}

// lacking puts an incremental snapshot that has only some of the pages that have
// changed, and the sums of all.
func (h *history) lacking(id, base state.TXID, runs []snapshot.Run) {
	h.t.Helper()
	p := h.states[id-1]
	head := snapshot.Header{PageSize: pageSize, TXID: id, Base: base, Pages: uint32(len(p)), Time: at(id).UnixMilli()}
	opts := snapshot.WriteOptions{Workers: 1, Changes: &snapshot.Changes{Base: p.table(), Runs: runs}}
	if _, err := h.arch.PutSnapshot(h.t.Context(), head, p, opts); err != nil {
		h.t.Fatal(err)
	}
}

// snapshotAt puts a full snapshot that says that it is of another time.
func (h *history) snapshotAt(id state.TXID, when time.Time) {
	h.t.Helper()
	p := h.states[id-1]
	head := snapshot.Header{PageSize: pageSize, TXID: id, Pages: uint32(len(p)), Time: when.UnixMilli()}
	if _, err := h.arch.PutSnapshot(h.t.Context(), head, p, snapshot.WriteOptions{Workers: 1}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) mark(name string, id state.TXID, when time.Time) {
	h.t.Helper()
	if err := h.arch.PutMark(h.t.Context(), archive.Mark{Name: name, TXID: id, Time: when, Created: at(100)}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) put(key string, b []byte) {
	h.t.Helper()
	if err := h.bucket.Put(h.t.Context(), key, bytes.NewReader(b), storage.PutOptions{Size: -1}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) drop(keys ...string) {
	h.t.Helper()
	for _, k := range keys {
		if err := h.bucket.Delete(h.t.Context(), k); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *history) object(key string) []byte {
	h.t.Helper()
	r, err := h.bucket.Get(h.t.Context(), key, 0, -1)
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *history) keys() (keys []string) {
	h.t.Helper()
	err := h.bucket.List(h.t.Context(), "", "", func(o storage.Info) error { keys = append(keys, o.Key); return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return keys
}

// copied is the same history in a bucket of its own.
func (h *history) copied(t *testing.T) *history {
	t.Helper()
	from, c := *h, *h
	from.t, c.t, c.bucket, c.states = t, t, mem.New(), slices.Clone(h.states)
	for _, k := range from.keys() {
		c.put(k, from.object(k))
	}
	var err error
	if c.arch, err = archive.Open(t.Context(), c.bucket); err != nil {
		t.Fatal(err)
	}
	return &c
}

// sample is a replica with objects of every kind.
func sample(t *testing.T) *history {
	t.Helper()
	h := begin(t)
	h.commits(6)
	h.exec("DELETE FROM t WHERE n < 6", "VACUUM", "INSERT INTO other VALUES(1)")
	h.commits(3) // 13 in all
	h.segments(4, 7, 10, 13)
	h.pack(2, 7)
	h.snapshot(7, 1)
	h.snapshot(10, 7)
	h.mark("release", 6, at(6))
	return h
}

// options verify a bucket.
func options(t *testing.T, b storage.Bucket, level verify.Level) verify.Options {
	t.Helper()
	return verify.Options{Bucket: b, Level: level, Logger: slog.New(slog.DiscardHandler), TempDir: t.TempDir(), Parallel: 3}
}

// run verifies a bucket, and wants that it could look.
func run(t *testing.T, opts verify.Options) *verify.Report {
	t.Helper()
	r, err := verify.Run(t.Context(), opts)
	if err != nil {
		t.Fatalf("level %d: %v", opts.Level, err)
	}
	left, err := os.ReadDir(opts.TempDir)
	if err != nil || len(left) > 0 {
		t.Errorf("the temporary folder holds %v (%v)", left, err)
	}
	return r
}

func (h *history) verify(level verify.Level) *verify.Report {
	h.t.Helper()
	return run(h.t, options(h.t, h.bucket, level))
}

// lines are the findings, a line each: what is compared in tests.
func lines(r *verify.Report) (out []string) {
	for _, f := range r.Findings {
		out = append(out, strings.Join([]string{string(f.Severity), string(f.Check), string(f.Class), f.Key}, " "))
	}
	return out
}

// has tells whether there is an error about an object.
func has(r *verify.Report, key string) bool {
	return slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Severity == verify.Error && f.Key == key })
}

// vanishing is a bucket in which something happens when an object is read.
type vanishing struct {
	storage.Bucket
	before func(key string) // of each Get
}

func (v vanishing) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	v.before(key)
	return v.Bucket.Get(ctx, key, off, n)
}

var errAway = errors.New("away")
