package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/verify"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// Nothing there, or not yet, is its own error.
func TestNothing(t *testing.T) {
	t.Parallel()
	opts := options(t, mem.New(), verify.Restore)
	if _, err := verify.Run(t.Context(), opts); !errors.Is(err, archive.ErrNoReplica) {
		t.Errorf("an empty bucket: %v", err)
	}
	if _, err := archive.Create(t.Context(), opts.Bucket, pageSize, at(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Run(t.Context(), opts); !errors.Is(err, archive.ErrNoReplica) {
		t.Errorf("no snapshot yet: %v", err)
	}
}

// That it can't look is an error, at whichever request; what was found before is
// reported all the same.
func TestCannotLook(t *testing.T) {
	t.Parallel()
	h := sample(t)
	h.put("stray", nil)
	for n := range 60 {
		ctx, cancel := context.WithCancelCause(t.Context())
		var mu sync.Mutex
		left := n
		opts := options(t, vanishing{h.bucket, func(string) {
			mu.Lock()
			defer mu.Unlock()
			if left--; left < 0 {
				cancel(errAway)
			}
		}}, verify.Restore)
		r, err := verify.Run(ctx, opts)
		mu.Lock()
		done := left >= 0
		mu.Unlock()
		if done {
			if err != nil || n < 20 {
				t.Errorf("after %d reads: %v", n, err)
			}
			return
		}
		if err == nil || slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Severity == verify.Error }) {
			t.Errorf("after %d reads: %v, %v", n, err, lines(r))
		}
		if entries, _ := os.ReadDir(opts.TempDir); len(entries) > 0 {
			t.Errorf("after %d reads %v is left", n, entries)
		}
	}
	t.Error("there is no end to it")
}

// Objects that are packed while they are verified are no fault, whichever read that
// happens before, and nor is a log that is pruned.
func TestPackedMeanwhile(t *testing.T) {
	t.Parallel()
	whole := sample(t)
	for n := range 40 {
		h := whole.copied(t)
		var mu sync.Mutex
		reads := 0
		opts := options(t, vanishing{h.bucket, func(string) {
			mu.Lock()
			defer mu.Unlock()
			if reads++; reads == n {
				h.pack(8, 13)
			}
		}}, verify.Restore)
		opts.Points = 3
		if r := run(t, opts); len(r.Findings) > 0 || len(r.Restores) != 4 {
			t.Errorf("packed before read %d: %v, %d restored", n, r.Findings, len(r.Restores))
		}
		if reads < n {
			return
		}
	}
}

// What is pruned while it is verified is no fault either: neither that it is gone, nor
// what hangs loose as long as not everything is.
func TestPrunedMeanwhile(t *testing.T) {
	t.Parallel()
	whole := sample(t)
	whole.snapshotAt(11, at(11).AddDate(0, 0, 9))
	whole.snapshotAt(13, at(11).AddDate(0, 0, 12))
	whole.drop("mark/release.json")
	goes := []string{snap10, third, snap7, pack} // from the end, as retention does it
	for n := 1; n < 40; n++ {
		h := whole.copied(t)
		var mu sync.Mutex
		reads := 0
		opts := options(t, vanishing{h.bucket, func(string) {
			mu.Lock()
			defer mu.Unlock()
			if reads++; reads >= n && reads-n < len(goes) {
				h.drop(goes[reads-n])
			}
		}}, verify.Objects)
		r := run(t, opts)
		if len(r.Findings) > 0 && reads >= n+len(goes) {
			t.Errorf("pruned from read %d of %d on: %v", n, reads, r.Findings)
		}
		if reads < n {
			return
		}
	}
}

// pruning is a bucket of which something is deleted before each listing.
type pruning struct {
	storage.Bucket
	goes *[][]string
}

func (p pruning) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if len(*p.goes) > 0 {
		for _, key := range (*p.goes)[0] {
			if err := p.Delete(ctx, key); err != nil {
				return err
			}
		}
		*p.goes = (*p.goes)[1:]
	}
	return p.Bucket.List(ctx, prefix, after, fn)
}

// What hangs loose since it is just being pruned is not taken for damage; what stays
// so is.
func TestHalfPruned(t *testing.T) {
	t.Parallel()
	whole := sample(t)
	whole.snapshotAt(11, at(11).AddDate(0, 0, 9))
	whole.snapshotAt(13, at(11).AddDate(0, 0, 12))
	whole.drop("mark/release.json")
	for _, c := range []struct {
		goes [][]string
		want int
	}{
		{[][]string{{snap10, third, snap7}, {pack}}, 0},
		{[][]string{{snap10, third, snap7}, {}}, 1},
	} {
		h := whole.copied(t)
		r := run(t, options(t, pruning{h.bucket, &c.goes}, verify.List))
		if len(r.Findings) != c.want {
			t.Errorf("%v", r.Findings)
		}
	}
}

// One commit that is missing is a gap as any other is.
func TestOneMissing(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.commits(5)
	h.segments(2, 3, 6)
	h.drop(archive.SegmentKey(2))
	r := h.verify(verify.List)
	if diff := cmp.Diff([]string{"error list segment log/0000000000000003.seg"}, lines(r)); diff != "" || fmt.Sprint(r.Ranges) != "[TXID 1 (2026-01-02T03:04:06.000Z)]" {
		t.Errorf("%s%v", diff, r.Ranges)
	}
}

// A database that was damaged before it was committed is told from a replica that is.
func TestCommittedSo(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.commits(3)
	bad := slices.Clone(h.states[3])
	last := bytes.Clone(bad[len(bad)-1])
	clear(last)
	bad[len(bad)-1] = last
	h.states = append(h.states, bad)
	h.segments(5)
	if r := h.verify(verify.Chain); len(r.Findings) > 0 {
		t.Errorf("the replica: %v", r.Findings)
	}
	r := h.verify(verify.Restore)
	if diff := cmp.Diff([]string{"error restore database log/0000000000000002.seg"}, lines(r)); diff != "" {
		t.Fatal(diff)
	}
	if f := r.Findings[0]; !strings.Contains(f.Problem, "integrity_check says") || !strings.Contains(f.Means, "committed so") || r.Restores[0].OK {
		t.Errorf("%v", f)
	}
}

// The proof of a file does not rely on anything that was computed while it was made.
func TestProve(t *testing.T) {
	t.Parallel()
	h := begin(t)
	path := filepath.Join(t.TempDir(), "db")
	content := bytes.Join(h.states[0], nil)
	sum, n := h.states[0].table().Checksum(), uint32(len(h.states[0]))
	for i, c := range []struct {
		content []byte
		ok      bool
	}{{content, true}, {content[:len(content)-1], false}, {append(bytes.Clone(content), 0), false}, {append([]byte{content[0] ^ 1}, content[1:]...), false}} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		problem, err := verify.Prove(t.Context(), f, pageSize, n, sum)
		if err = errors.Join(err, f.Close()); err != nil || (problem == "") != c.ok {
			t.Errorf("%d: %q, %v", i, problem, err)
		}
	}
}

// A replica that never holds still is given up at some point.
func TestRestless(t *testing.T) {
	t.Parallel()
	h := sample(t)
	opts := options(t, gone{h.bucket, third}, verify.Objects)
	if _, err := verify.Run(t.Context(), opts); !errors.Is(err, verify.ErrRestless) {
		t.Errorf("error %v", err)
	}
}

// gone lists an object that can't be read.
type gone struct {
	storage.Bucket
	key string
}

func (g gone) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if key == g.key {
		return nil, storage.ErrNotExist
	}
	return g.Bucket.Get(ctx, key, off, n)
}
