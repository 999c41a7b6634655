package restore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// verdict restores a commit from a bucket in which something is wrong with one
// object: what comes out is right, or there is an error that says what is wrong
// with which object, and no output.
func verdict(t *testing.T, h *history, b storage.Bucket, id state.TXID, key string) (failed bool) {
	t.Helper()
	opts := options(t, b)
	opts.Target.TXID, opts.WithoutDamaged = id, h.damaged > 0
	res, err := restore.Run(t.Context(), opts)
	if err == nil {
		got, err := os.ReadFile(opts.Output)
		if err != nil || !bytes.Equal(got, h.want(id)) || res.TXID != id {
			t.Errorf("TXID %v: other content than was committed, without an error (%v)", id, err)
		}
		return false
	}
	assertFiles(t, filepath.Dir(opts.Output))
	known := errors.Is(err, block.ErrCorrupt) || errors.Is(err, block.ErrVersion) || errors.Is(err, archive.ErrBroken)
	if !known && !errors.Is(err, restore.ErrChecksum) {
		t.Errorf("TXID %v: %v", id, err)
	}
	if !strings.Contains(err.Error(), key) {
		t.Errorf("TXID %v: %q does not name %s", id, err, key)
	}
	return true
}

// A bit that has flipped, wherever, is found, or does no harm.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	h := small(t)
	for _, key := range h.keys() {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			good := h.object(key)
			step := max(1, len(good)/250)
			found := 0
			for i := 0; i < len(good); i += step {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << (i % 8)
				b := h.with(key, bad)
				if verdict(t, h, b, h.last(), key) {
					found++
				}
				if i%7 == 0 {
					verdict(t, h, b, 6, key) // in the last segment
				}
			}
			if key != "tidemark.json" && found < 100 && found < len(good)/step/2 {
				t.Errorf("%d errors of %d flipped bits", found, len(good)/step)
			}
		})
	}
}

// An object that is cut off, empty, too long or missing is found.
func TestCutObjects(t *testing.T) {
	t.Parallel()
	h := small(t)
	for _, key := range h.keys() {
		if key == "tidemark.json" {
			continue
		}
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			good := h.object(key)
			for n := 0; n < len(good); n += 1 + len(good)/100 {
				if !verdict(t, h, h.with(key, good[:n:n]), h.last(), key) {
					t.Errorf("%d of %d bytes are not missed", n, len(good))
				}
			}
			if !verdict(t, h, h.with(key, append(bytes.Clone(good), 0)), h.last(), key) {
				t.Error("a byte more is not noticed")
			}
		})
	}
}

// Every object of another replica, or of another place, is told from the right
// one.
func TestSwappedObjects(t *testing.T) {
	t.Parallel()
	h, other := small(t), small(t)
	all := h.keys()[:len(h.keys())-1] // all but tidemark.json
	for _, key := range all {
		if !verdict(t, h, h.with(key, other.object(key)), h.last(), key) {
			t.Errorf("%s: another replica's is taken", key)
		}
		for _, from := range all {
			if from != key && !verdict(t, h, h.with(key, h.object(from)), h.last(), key) {
				t.Errorf("%s: %s is taken for it", key, from)
			}
		}
	}
}

// The same replica with another history, as after a fence that did not hold, is
// told by the states that its segments connect.
func TestOtherHistory(t *testing.T) {
	t.Parallel()
	h := small(t)
	fork := *h
	fork.states, fork.times = h.states[:3:3], h.times[:3:3]
	fork.commits(4)
	fork.stored = 1
	for first, last := range map[state.TXID]state.TXID{2: 4, 5: 7} {
		key := archive.SegmentKey(first)
		theirs, err := os.ReadFile(fork.file(first, last))
		if err != nil {
			t.Fatal(err)
		}
		b := h.with(key, theirs)
		opts := options(t, b)
		_, err = restore.Run(t.Context(), opts)
		if !errors.Is(err, archive.ErrBroken) || !strings.Contains(err.Error(), archive.SegmentKey(5)) {
			t.Errorf("segment of TXID %v: %v", first, err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// A segment that is missing makes what follows it unreachable, and no more; the
// error says what there is instead.
func TestMissingSegment(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 6)
	h.commits(12)
	for _, last := range []state.TXID{4, 8, 13} {
		h.segmentUpTo(last)
	}
	h.snapshot(11)
	for _, gone := range []state.TXID{2, 5, 9} {
		b := h.with(archive.SegmentKey(gone), nil)
		for id := state.TXID(1); id <= h.last(); id++ {
			opts := options(t, b)
			opts.Target.TXID = id
			res, err := restore.Run(t.Context(), opts)
			if err == nil && res.TXID == id {
				h.compare(id, res)
			}
			switch reachable := id < gone || id == 11 || id > 11 && gone != 9; {
			case err != nil && (!errors.Is(err, archive.ErrOutOfRange) || !strings.Contains(err.Error(), "TXID "+(gone-1).String()+" (")):
				t.Errorf("without %v, TXID %v: %v", gone, id, err)
			case gone == 9: // the log's end: that there was more can't be known
			case reachable != (err == nil):
				t.Errorf("without %v, TXID %v: %v", gone, id, err)
			}
			if err != nil {
				assertFiles(t, filepath.Dir(opts.Output))
			}
		}
	}
}

// A missing snapshot is not replaced by what adds to it, under any key.
func TestIncrementalAsFull(t *testing.T) {
	t.Parallel()
	h := small(t)
	h.incremental(7, 1)
	h.check(7)
	full := archive.SnapshotKey(7, 0)
	h.put(full, h.object(archive.SnapshotKey(7, 1)))
	for _, h.damaged = range []int{1, 0} {
		if h.damaged > 0 {
			h.check(7) // it is done without
			h.drop(archive.SnapshotKey(1, 0))
		}
		if !verdict(t, h, h.bucket, 7, full) {
			t.Error("it is taken for a full one")
		}
	}
}

// A snapshot of a state that the log does not have at its TXID is not mixed with
// the log: an older one is, or nothing.
func TestSnapshotBesideLog(t *testing.T) {
	t.Parallel()
	for _, id := range []state.TXID{4, 6} { // at a segment's end, and in a segment
		h := small(t)
		committed := h.states[id-1]
		h.states[id-1] = append(append(pages(nil), committed[:2]...), append(pages{h.page()}, committed[3:]...)...)
		h.snapshot(id)
		h.states[id-1] = committed
		for _, h.damaged = range []int{1, 0} {
			if h.damaged > 0 {
				h.check(7)
				h.drop(archive.SnapshotKey(1, 0))
			}
			if !verdict(t, h, h.bucket, 7, archive.SegmentKey(5)) {
				t.Errorf("snapshot of %v: it is mixed with the log", id)
			}
		}
	}
}

// A snapshot that lacks pages, or has others than were committed, in blocks that
// are whole, is found by the state that the log leads to, and done without.
func TestForgedSnapshot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		forge func(pages)
		from  state.TXID // from this target on
	}{
		"pages are left out": {func(pages) {}, 6},
		"another page":       {func(p pages) { p[0] = bytes.Repeat([]byte{7}, 512) }, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := small(t)
			now := append(pages(nil), h.states[5]...)
			tc.forge(now)
			// All page sums are right, but that of page 1, which alone is stored.
			changes := &snapshot.Changes{Base: h.states[5].table(512), Runs: []snapshot.Run{{First: 1, Pages: 1}}}
			head := snapshot.Header{PageSize: 512, TXID: 6, Base: 1, Pages: 6, Time: at(5).UnixMilli()}
			if _, err := h.arch.PutSnapshot(t.Context(), head, now, snapshot.WriteOptions{Changes: changes}); err != nil {
				t.Fatal(err)
			}
			h.damaged = 1
			for id := tc.from; id <= h.last(); id++ {
				h.check(id)
			}
			for _, without := range []bool{false, true} {
				opts := options(t, h.bucket)
				opts.WithoutDamaged = without
				_, err := restore.Run(t.Context(), opts)
				if !errors.Is(err, restore.ErrChecksum) && !errors.Is(err, archive.ErrBroken) {
					t.Errorf("got %v", err)
				}
				assertFiles(t, filepath.Dir(opts.Output))
				h.drop(archive.SegmentKey(2)) // without which there is no other way
			}
		})
	}
}

// Pages that are not what was committed are found although every object is
// whole: by the checksum that was recorded when the commit was made.
func TestWrongChecksum(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 6)
	h.commits(6)
	h.wrong = 4
	h.segment()
	for id := range h.last() {
		if id+1 != h.wrong {
			h.check(id + 1)
			continue
		}
		opts := options(t, h.bucket)
		opts.Target.TXID = id + 1
		if _, err := restore.Run(t.Context(), opts); !errors.Is(err, restore.ErrChecksum) || !strings.Contains(err.Error(), "TXID 4") {
			t.Errorf("got %v", err)
		}
		assertFiles(t, filepath.Dir(opts.Output))
	}
}

// A pack that does not hold what its key says is found, wherever the target is.
func TestWrongPack(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 5)
	h.commits(11)
	h.segmentUpTo(5)
	h.segmentUpTo(9)
	h.segment()
	joined := h.encode(2, 9)
	for _, tc := range []struct {
		key   string
		found state.TXID // from this target on
	}{
		{archive.PackKey(2, 8), 10},
		{archive.PackKey(2, 11), 10},
		{archive.PackKey(1, 9), 2},
		{archive.PackKey(3, 9), 2},
	} {
		b := h.with(tc.key, nil)
		c := &history{t: t, bucket: b}
		c.put(tc.key, joined)
		c.drop(archive.SegmentKey(2), archive.SegmentKey(6))
		for id := tc.found; id < 12; id++ {
			opts := options(t, b)
			opts.Target.TXID = id
			_, err := restore.Run(t.Context(), opts)
			if !errors.Is(err, archive.ErrBroken) && !errors.Is(err, archive.ErrOutOfRange) {
				t.Errorf("%s, TXID %v: %v", tc.key, id, err)
			}
			assertFiles(t, filepath.Dir(opts.Output))
		}
	}
}
