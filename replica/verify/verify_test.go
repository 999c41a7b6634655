package verify_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/replica/verify"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage/mem"
	"tidemark/wal"
)

func levels() []verify.Level {
	return []verify.Level{verify.List, verify.Objects, verify.Chain, verify.Restore}
}

// A sound replica is found sound at every level, and every commit of it can be
// rebuilt to what package restore makes of it.
func TestSound(t *testing.T) {
	t.Parallel()
	h := sample(t)
	for _, level := range levels() {
		opts := options(t, h.bucket, level)
		opts.Points = 100
		r := run(t, opts)
		if len(r.Findings) > 0 {
			t.Errorf("level %d: %v", level, r.Findings)
		}
		if got := fmt.Sprint(r.Ranges); got != "[TXID 1 to 13 (2026-01-02T03:04:06.000Z to 2026-01-02T03:04:18.000Z)]" {
			t.Errorf("level %d: restorable %s", level, got)
		}
		wantRead := int64(0)
		if level >= verify.Objects {
			wantRead = 3
		}
		if n := r.Counts[verify.Snapshot]; n.Objects != 3 || n.Read != wantRead {
			t.Errorf("level %d: snapshots %+v", level, n)
		}
		if level < verify.Restore {
			continue
		}
		if len(r.Restores) != 13 {
			t.Errorf("%d commits restored", len(r.Restores))
		}
		for _, x := range r.Restores {
			out := filepath.Join(t.TempDir(), "out.db")
			res, err := restore.Run(t.Context(), restore.Options{Bucket: h.bucket, Output: out, Target: restore.Target{TXID: x.TXID}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil || !x.OK || x.Checksum != res.Checksum || x.Pages != res.Pages || !x.Time.Equal(res.Time) {
				t.Errorf("verify has %+v, restore %+v (%v)", x, res, err)
			}
		}
	}
}

// damageCase is something wrong with a replica, and what must be found: nothing below
// a level, and from there on exactly these findings.
type damageCase struct {
	name   string
	do     func(h *history)
	level  verify.Level
	want   []string
	lost   string // of the first finding
	within string // of the first problem
}

func flip(key string, at func(n int) int) func(*history) {
	return func(h *history) {
		b := bytes.Clone(h.object(key))
		b[at(len(b))] ^= 4
		h.put(key, b)
	}
}

func middle(n int) int { return n / 3 }

const (
	pack   = "pack/0000000000000002-0000000000000007.seg"
	third  = "log/0000000000000008.seg"
	fourth = "log/000000000000000b.seg"
	snap1  = "snapshot/0000000000000001-0000000000000000.snap"
	snap7  = "snapshot/0000000000000007-0000000000000001.snap"
	snap10 = "snapshot/000000000000000a-0000000000000007.snap"
)

// fork makes another history of the same replica from a commit on.
func fork(h *history, from state.TXID) *history {
	other := *h
	other.states = slices.Clone(h.states[:from])
	other.path = filepath.Join(h.t.TempDir(), "fork.db")
	if err := os.WriteFile(other.path, bytes.Join(h.states[from-1], nil), 0o600); err != nil {
		h.t.Fatal(err)
	}
	for state.TXID(len(other.states)) < h.last() {
		other.exec("INSERT INTO other VALUES('another writer')")
	}
	return &other
}

func damageCases() []damageCase {
	return []damageCase{
		{"a bit of a segment", flip(third, middle), verify.Objects, []string{"error objects segment " + third}, "[TXID 8 to 9", "corrupt"},
		{"a bit of a pack", flip(pack, middle), verify.Objects, []string{"error objects pack " + pack}, "[TXID 2 to 6", "corrupt"},
		{"a bit of a full snapshot", flip(snap1, middle), verify.Objects, []string{"error objects snapshot " + snap1}, "[TXID 1 to 13", "corrupt"},
		{"a bit of an incremental snapshot", flip(snap7, middle), verify.Objects, []string{"error objects snapshot " + snap7}, "[]", "corrupt"},
		{"a bit of a segment's end", flip(fourth, func(n int) int { return n - 30 }), verify.List, []string{"error list segment " + fourth}, "[TXID 11", "trailer"},
		{"a bit of a pack's header", flip(pack, func(int) int { return 40 }), verify.List, []string{"error list pack " + pack, "error list mark mark/release.json"}, "[TXID 2 to 6", "header"},
		{"a bit of a snapshot's header", flip(snap10, func(int) int { return 40 }), verify.List, []string{"error list snapshot " + snap10}, "[]", "header"},
		{"tidemark.json is garbage", func(h *history) { h.put("tidemark.json", []byte("{")) }, verify.List, []string{"error list meta tidemark.json"}, "[TXID 1 to 13", "JSON"},
		{"tidemark.json of a later version", func(h *history) { h.put("tidemark.json", []byte(`{"format":2}`)) }, verify.List, []string{"error list meta tidemark.json"}, "[TXID 1 to 13", "2, this program reads 1"},
		{"tidemark.json is another replica's", func(h *history) {
			b := h.object("tidemark.json")
			at := bytes.Index(b, []byte(`"replica":"`)) + len(`"replica":"`)
			b[at] ^= 1 // a hexadecimal digit still
			h.put("tidemark.json", b)
		}, verify.List, []string{"error list meta tidemark.json"}, "[TXID 1 to 13", "all that is here of replica"},
		{"tidemark.json is missing", func(h *history) { h.drop("tidemark.json") }, verify.List, []string{"error list meta tidemark.json"}, "[TXID 1 to 13", "missing"},
		{"a mark is garbage", func(h *history) { h.put("mark/release.json", []byte("?")) }, verify.List, []string{"error list mark mark/release.json"}, "[]", "invalid"},
		{"a mark names another commit", func(h *history) {
			h.put("mark/release.json", bytes.Replace(h.object("mark/release.json"), []byte(`"txid":6`), []byte(`"txid":5`), 1))
		}, verify.Chain, []string{"error chain mark mark/release.json"}, "[]", "TXID 5"},
		{"a mark names no commit", func(h *history) { h.mark("later", 99, at(99)) }, verify.List, []string{"error list mark mark/later.json"}, "[TXID 99", "can't be restored"},
		{"a segment is missing", func(h *history) { h.drop(third) }, verify.List, []string{"error list snapshot " + snap10}, "[TXID 8 to 9", "TXID 8 to 9 are missing"},
		{"a pack is missing", func(h *history) { h.drop(pack) }, verify.List, []string{"error list snapshot " + snap7, "error list mark mark/release.json"}, "[TXID 2 to 6", "TXID 2 to 6 are missing"},
		{"a segment is missing after others", func(h *history) {
			h.drop(pack)
			h.put("log/0000000000000002.seg", h.encode(2, 4, forgery{}))
		}, verify.List, []string{"error list snapshot " + snap7, "error list mark mark/release.json"}, "[TXID 5 to 6", "TXID 5 to 6 are missing"},
		{"a segment is missing after others, and no mark needs these", func(h *history) {
			h.drop(pack, "mark/release.json")
			h.put("log/0000000000000002.seg", h.encode(2, 4, forgery{}))
		}, verify.List, []string{"error list segment log/0000000000000002.seg"}, "[TXID 5 to 6", "goes on after a gap"},
		{"a segment is missing before others", func(h *history) {
			h.drop(third, snap10)
		}, verify.List, []string{"error list segment " + fourth}, "[TXID 11 to 13", "no snapshot leads to"},
		{"a base is missing", func(h *history) { h.drop(snap7) }, verify.List, []string{"error list snapshot " + snap10}, "[]", "adds to the snapshot of TXID 7, which is not there"},
		{"the base is missing", func(h *history) { h.drop(snap1) }, verify.List, []string{
			"error list mark mark/release.json", "error list pack " + pack, "error list snapshot " + snap7, "error list snapshot " + snap10,
		}, "[TXID 2 to 13", "no snapshot is there that is whole"},
		{"a segment is cut off", func(h *history) { b := h.object(third); h.put(third, b[:len(b)/2]) }, verify.List, []string{"error list segment " + third}, "[TXID 8 to 9", "cut off"},
		{"a pack is cut off", func(h *history) { b := h.object(pack); h.put(pack, b[:len(b)/2]) }, verify.Objects, []string{"error objects pack " + pack}, "[TXID 2 to 6", "corrupt"},
		{"a snapshot is cut off", func(h *history) { b := h.object(snap7); h.put(snap7, b[:len(b)-1]) }, verify.Objects, []string{"error objects snapshot " + snap7}, "[]", "trailer"},
		{"a snapshot is longer", func(h *history) { h.put(snap7, append(bytes.Clone(h.object(snap7)), 0)) }, verify.Objects, []string{"error objects snapshot " + snap7}, "[]", "after the trailer"},
		{"an object is empty", func(h *history) { h.put(snap7, nil) }, verify.List, []string{"error list snapshot " + snap7}, "[]", "not a snapshot"},
		{
			"a segment is left over", func(h *history) { h.put("log/0000000000000002.seg", h.encode(2, 4, forgery{})) }, verify.List,
			[]string{"warning list segment log/0000000000000002.seg"},
			"[]", "left over",
		},
		{
			"a segment reaches out of a pack", func(h *history) { h.put("log/0000000000000006.seg", h.encode(6, 9, forgery{})) }, verify.List,
			[]string{"warning list segment log/0000000000000006.seg"},
			"[]", "after its end",
		},
		{"a foreign file", func(h *history) { h.put("log/readme.txt", []byte("hello")) }, verify.List, []string{"warning list foreign log/readme.txt"}, "[]", "no object of a replica"},
		{
			"a key that can't be", func(h *history) { h.put("log/ffffffffffffffff.seg", h.object(third)) }, verify.List,
			[]string{"error list foreign log/ffffffffffffffff.seg"},
			"[]", "no commit has",
		},
		{"a segment of another replica", func(h *history) {
			other := *h
			b := mem.New()
			var err error
			if other.arch, err = archive.Create(h.t.Context(), b, pageSize, at(0)); err != nil {
				h.t.Fatal(err)
			}
			h.put(third, other.encode(8, 10, forgery{}))
		}, verify.List, []string{"error list segment " + third}, "[TXID 8 to 9", "belongs to replica"},
		{"a segment under another key", func(h *history) { h.put(third, h.object(fourth)) }, verify.List, []string{"error list segment " + third}, "[TXID 8 to 9", "its key says TXID 8"},
		{
			"a hybrid", func(h *history) { h.put(third, fork(h, 6).encode(8, 10, forgery{})) }, verify.Chain,
			[]string{"error chain segment " + third},
			"[TXID 8 to 9", "it is of another history",
		},
		{
			"a hybrid at the end", func(h *history) { h.put(fourth, fork(h, 8).encode(11, 13, forgery{})) }, verify.Chain,
			[]string{"error chain segment " + fourth},
			"[TXID 11 to 13", "one of the two is of another history",
		},
		{
			"a full snapshot of a wrong state", func(h *history) { h.snapshotOf(9, 0, fork(h, 3).states[8], nil) }, verify.Chain,
			[]string{"error chain snapshot snapshot/0000000000000009-0000000000000000.snap"},
			"[]", "has state",
		},
		{
			"an incremental snapshot of a wrong state", func(h *history) { h.snapshotOf(12, 10, fork(h, 10).states[11], nil) }, verify.Chain,
			[]string{"error chain snapshot snapshot/000000000000000c-000000000000000a.snap"},
			"[]", "has state",
		},
		{"an incremental snapshot lacks a page", func(h *history) {
			runs := snapshot.Diff(h.states[9].table(), h.states[11].table())
			h.lacking(12, 10, runs[1:])
		}, verify.Chain, []string{"error chain snapshot snapshot/000000000000000c-000000000000000a.snap"}, "[]", "does not hold page"},
		{"a page sum of an index is wrong", func(h *history) { h.put(third, h.encode(8, 10, forgery{wrongSum: 1})) }, verify.Chain, []string{"error chain segment " + third}, "[TXID 8 to 9", "its page sums lead from"},
		{"a page sum of an index is not that of the page", func(h *history) {
			h.put(fourth, h.encode(11, 13, forgery{wrongSum: wal.PageNo(len(h.states[12]))}))
		}, verify.Chain, []string{"error chain segment " + fourth}, "[TXID 11 to 13", "not that of the image"},
		{
			"a state within a segment is wrong", func(h *history) { h.put(fourth, h.encode(11, 13, forgery{wrongAfter: 12})) }, verify.Restore,
			[]string{"error restore segment " + fourth},
			"[TXID 11 to 13", "TXID 12 has state",
		},
		{
			"a page is wrong", func(h *history) { h.put(fourth, h.encode(11, 13, forgery{wrongDelta: 11})) }, verify.Restore,
			[]string{"error restore segment " + fourth},
			"[TXID 11 to 13", "TXID 11 has state",
		},
		{"a covered segment of another writer", func(h *history) {
			h.put("log/0000000000000005.seg", fork(h, 4).encode(5, 6, forgery{writer: "intruder"}))
		}, verify.Chain, []string{"warning chain segment log/0000000000000005.seg"}, "[]", "intruder"},
		{"a pack that changed what it was made of", func(h *history) {
			h.put("log/0000000000000002.seg", h.encode(2, 4, forgery{}))
			h.put(pack, h.encode(2, 7, forgery{wrongDelta: 3}))
		}, verify.Chain, []string{"error chain pack " + pack}, "[TXID 2 to 6", "holds other changes"},
		{"a covered segment is damaged", func(h *history) {
			b := h.encode(2, 4, forgery{})
			b[len(b)/3] ^= 1
			h.put("log/0000000000000002.seg", b)
		}, verify.Objects, []string{"warning objects segment log/0000000000000002.seg"}, "[]", "corrupt"},
	}
}

// Each kind of damage is found at its level, by no lower one, under its name, and
// alone.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole := sample(t)
	for _, c := range damageCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := whole.copied(t)
			c.do(h)
			for _, level := range levels() {
				r := h.verify(level)
				r.Findings = slices.DeleteFunc(r.Findings, func(f verify.Finding) bool {
					return level >= c.level && c.level > verify.List && strings.Contains(f.Problem, "left over")
				})
				var want []string
				got := lines(r)
				slices.Sort(got)
				if level >= c.level {
					want = slices.Sorted(slices.Values(c.want))
				} else if slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return strings.Contains(f.Problem, "left over") }) {
					continue // what is covered is named at once
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("level %d (-want +got):\n%s%v", level, diff, r.Findings)
					continue
				}
				if level < c.level {
					continue
				}
				f := r.Findings[0]
				if got := fmt.Sprint(f.Lost); !strings.HasPrefix(got, c.lost) {
					t.Errorf("level %d: lost are %s, want %s", level, got, c.lost)
				}
				if !strings.Contains(f.Problem, c.within) || f.Means == "" || f.Do == "" {
					t.Errorf("level %d: %v", level, f)
				}
			}
		})
	}
}

// Every bit counts: wherever one flips in an object with checksums, reading all
// objects finds it and names that object.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	h := sample(t)
	for _, key := range []string{pack, third, snap1, snap7} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			h := h.copied(t)
			good := h.object(key)
			for i := 0; i < len(good); i += max(1, len(good)/150) {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << (i % 8)
				h.put(key, bad)
				if r := h.verify(verify.Objects); !has(r, key) {
					t.Errorf("byte %d: %v", i, lines(r))
				}
			}
			for n := 0; n < len(good); n += max(1, len(good)/40) {
				h.put(key, good[:n])
				if r := h.verify(verify.Objects); !has(r, key) {
					t.Errorf("cut off after %d bytes: %v", n, lines(r))
				}
			}
		})
	}
}

// All findings are told, not only the first.
func TestAllFindings(t *testing.T) {
	t.Parallel()
	h := sample(t)
	for _, key := range []string{pack, third, snap7} {
		flip(key, middle)(h)
	}
	h.put("stray", nil)
	want := []string{"warning list foreign stray", "error objects segment " + third, "error objects pack " + pack, "error objects snapshot " + snap7}
	r := h.verify(verify.Restore)
	got := lines(r)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := fmt.Sprint(r.Ranges); !strings.HasPrefix(s, "[TXID 1 (") {
		t.Errorf("restorable is %s", s)
	}
}

// What retention leaves is no damage: single snapshots, the stretch of a mark, and
// an object that begins before the snapshot that it follows.
func TestRetention(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.commits(19)
	h.segments(4, 7, 10, 13, 16, 20)
	for _, id := range []state.TXID{6, 9, 15, 19} {
		h.snapshotAt(id, at(id).AddDate(0, 0, int(id)))
	}
	h.mark("release", 8, at(8))
	h.drop(archive.SegmentKey(2), archive.SegmentKey(11)) // 5 to 10 stay for the mark, 14 to 20 since 15
	r := run(t, options(t, h.bucket, verify.List))
	if len(r.Findings) > 0 || len(r.Gaps) != 2 || !r.Gaps[0].Retention || !r.Gaps[1].Retention {
		t.Errorf("%v, gaps %+v", r.Findings, r.Gaps)
	}
}
