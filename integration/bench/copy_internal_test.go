package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"tidemark/integration/minio"
	"tidemark/replica/archive"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal/segment"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		objects []storage.Info
		want    []span
	}{
		{"none", nil, nil},
		{"empty", []storage.Info{{Key: "a"}}, nil},
		{"shorter", []storage.Info{{Key: "a", Size: 9}}, []span{{"a", 0, 9}}},
		{"exactly one", []storage.Info{{Key: "a", Size: 10}}, []span{{"a", 0, 10}}},
		{"one more byte", []storage.Info{{Key: "a", Size: 11}}, []span{{"a", 0, 10}, {"a", 10, 11}}},
		{"several", []storage.Info{{Key: "a", Size: 12}, {Key: "b"}, {Key: "c", Size: 1}}, []span{{"a", 0, 10}, {"a", 10, 12}, {"c", 0, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, spans(tt.objects, 10), cmp.AllowUnexported(span{})); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMakeDatabase(t *testing.T) {
	t.Parallel()
	for _, what := range []content{records, blobs} {
		t.Run(string(what), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			const size = 3 << 20
			if err := makeDatabase(t.Context(), path, what, size); err != nil {
				t.Fatal(err)
			}
			// All of a hundred rows are inserted before it looks again.
			if n, err := fileSize(path); err != nil || n < size || n > size+100*(blobSize+2*pageSize) {
				t.Errorf("it has %d bytes (%v), want about %d", n, err, size)
			}
			if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
				t.Errorf("integrity_check says %s", got)
			}
			if got := query(t, path, "PRAGMA journal_mode"); got != "wal" {
				t.Errorf("its journal mode is %s", got)
			}
			if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a WAL is left: %v", err)
			}
		})
	}
}

func query(t *testing.T, path, query string) (value string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestPlainCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	want := bytes.Repeat([]byte("tidemark"), 1<<17)
	if err := os.WriteFile(from, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := plainCopy(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy has %d bytes (%v), want %d others", len(got), err, len(want))
	}
	if _, err := plainCopy(from, to); !errors.Is(err, os.ErrExist) {
		t.Errorf("a copy over a file: %v", err)
	}
	if err := sameSize(from, to); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(to, 7); err != nil {
		t.Fatal(err)
	}
	if err := sameSize(from, to); err == nil || !strings.Contains(err.Error(), "7 bytes") {
		t.Errorf("a copy of 7 bytes: %v", err)
	}
}

func TestWriteLitestream(t *testing.T) {
	t.Parallel()
	path, err := writeLitestream(t.TempDir(), litestreamAt("/a.db", "http://x:1", "b", "p/a.db"), litestreamAt("/c.db", "http://x:1", "b", "p/c.db"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string][]map[string]any
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"path": "/c.db",
		"replica": map[string]any{
			"type": "s3", "bucket": "b", "path": "p/c.db", "endpoint": "http://x:1", "region": "us-east-1",
			"force-path-style": true, "sync-interval": "1s",
		},
	}
	if len(got["dbs"]) != 2 {
		t.Fatalf("it has %d databases", len(got["dbs"]))
	}
	if diff := cmp.Diff(want, got["dbs"][1]); diff != "" {
		t.Errorf("the second database (-want +got):\n%s", diff)
	}
}

// copyBench is a bench of the smallest profile, with MinIO and without Litestream.
func copyBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), profile: smoke, log: slog.New(slog.DiscardHandler)}
	b.minio = minio.Start(t)
	if err := b.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCopyWorks does each work of these files once, small.
func TestCopyWorks(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts MinIO and many processes")
	}
	b := copyBench(t)
	for _, w := range slices.Concat(copyWorks(), latencyWorks(), idleWorks()) {
		if w.in(smoke) {
			t.Run(w.Name, func(t *testing.T) { //nolint:paralleltest // works run one at a time
				doWork(t, b, w)
			})
		}
	}
	// Whatever was left would be on the disk until the end.
	left, err := filepath.Glob(filepath.Join(b.dir, "*"))
	if err != nil || len(left) != 1 || left[0] != b.tidemark {
		t.Errorf("the works have left %q (%v)", left, err)
	}
}

// doWork does a work, and checks that its targets are about figures that there are.
func doWork(t *testing.T, b *bench, w work) {
	t.Helper()
	if err := w.Prepare(t.Context(), b, smoke); err != nil {
		t.Fatal(err)
	}
	got := map[side]map[string]figure{}
	for _, s := range w.Sides {
		if s == litestream {
			continue
		}
		figures, err := w.Run(t.Context(), b, s, 0)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		got[s] = map[string]figure{}
		for _, f := range figures {
			if _, twice := got[s][f.Name]; twice {
				t.Errorf("%s has two figures %s", s, f.Name)
			}
			got[s][f.Name] = f
		}
	}
	for _, target := range w.Targets {
		// A process can end before anybody has read its size.
		if _, ok := got[target.of()][target.Figure]; !ok && target.Figure != memoryFigure {
			t.Errorf("%s has no %s, for the target: %s", target.of(), target.Figure, target.Text)
		}
		if target.Against == "" || target.Against == litestream {
			continue
		}
		if f := got[target.Against][target.otherFigure()]; f.Value == 0 {
			t.Errorf("%s has no %s, for the target: %s", target.Against, target.otherFigure(), target.Text)
		}
	}
	if w.Clean != nil {
		if err := w.Clean(b); err != nil {
			t.Error(err)
		}
	}
	t.Log(got)
}

// TestPlainTransfer uploads a file in several parts and reads it back.
func TestPlainTransfer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts MinIO")
	}
	b := &bench{dir: t.TempDir(), minio: minio.Shared(t)}
	at, err := b.bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef\n"), plainPart/8)
	path := filepath.Join(b.dir, "file")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := plainUpload(t.Context(), b.minio, path, at); err != nil {
		t.Fatal(err)
	}
	r, err := at.store.Get(t.Context(), "plain", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back %d bytes (%v), want %d others", len(got), err, len(want))
	}
	before, err := b.minioTraffic(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plainDownload(t.Context(), b.minio, at); err != nil {
		t.Error(err)
	}
	after, err := b.minioTraffic(t.Context())
	if made := after.since(before); err != nil || made.others < 4 { // a listing, three parts; others use the server, too
		t.Errorf("%v requests (%v), want at least 4", made.others, err)
	}
}

// TestTail makes a tail, looks at its segments, and has them packed.
func TestTail(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs tidemark")
	}
	b := &bench{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	if err := b.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	made, err := tail{size: 50 << 10, segments: 130, commits: 2}.make(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), made)
	if err != nil {
		t.Fatal(err)
	}
	log := a.Listing().Segments
	if len(log) != 130 {
		t.Fatalf("%d segments, want 130", len(log))
	}
	for i, s := range log {
		h, x, err := a.Index(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if want := tailBegin().Unix() + int64(i); h.Time.Unix() != want || x.Trailer.Time.Unix() != want {
			t.Errorf("segment %d is of %v to %v", i, h.Time, x.Trailer.Time)
		}
		if x.Trailer.Commits != 2 {
			t.Errorf("segment %d has %d commits", i, x.Trailer.Commits)
		}
	}
	want := commitsOf(t, made)
	if err := pack(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if a, err = archive.Open(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if l := a.Listing(); len(l.Segments) > 120 || len(l.Covered) > 0 {
		t.Errorf("packed there are %d objects of the log, and %d superfluous ones", len(l.Segments), len(l.Covered))
	}
	if diff := cmp.Diff(want, commitsOf(t, made)); diff != "" {
		t.Errorf("packed it has other commits (-want +got):\n%s", diff)
	}
}

// commitsOf is the log of a bucket, each commit with its checksum.
func commitsOf(t *testing.T, b *mem.Bucket) (commits []segment.Commit) {
	t.Helper()
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Listing().Segments {
		commits = append(commits, readCommits(t.Context(), t, b, s)...)
	}
	return commits
}

func readCommits(ctx context.Context, t *testing.T, b *mem.Bucket, s archive.Segment) (commits []segment.Commit) {
	t.Helper()
	src, err := b.Get(ctx, s.Key(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := segment.NewReader(src, s.Size)
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return commits
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.Commit.TXID != 0 {
			commits = append(commits, rec.Commit)
		}
	}
}
