package verify_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/replica/verify"
	"tidemark/snapshot/state"
)

// most is how much memory one verification of a small bucket may ask for in all.
const most = 1 << 30

// play changes a replica as a script says: four bytes for each step.
func play(h *history, script []byte) {
	for len(script) >= 4 {
		op, which, a, b := script[0]%7, int(script[1]), int(script[2]), script[3]
		script = script[4:]
		keys := h.keys()
		if len(keys) == 0 {
			return
		}
		key := keys[which%len(keys)]
		content := bytes.Clone(h.object(key))
		switch op {
		case 0:
			h.drop(key)
		case 1:
			if len(content) > 0 {
				content[(a<<8|int(b))%len(content)] ^= b | 1
				h.put(key, content)
			}
		case 2:
			h.put(key, content[:min(len(content), a<<4)])
		case 3:
			h.put(keys[a%len(keys)], content)
		case 4:
			n := min(len(script), int(b))
			h.put(key, script[:n])
			script = script[n:]
		case 5:
			h.put(archive.SegmentKey(state.TXID(a)+1), content)
		default:
			name := []string{
				archive.PackKey(state.TXID(a)+1, state.TXID(a)+1+state.TXID(b)), archive.SnapshotKey(state.TXID(a)+1+state.TXID(b), state.TXID(b)),
				"log/ffffffffffffffff.seg", "pack/0000000000000001-ffffffffffffffff.seg", "snapshot/ffffffffffffffff-0000000000000000.snap",
				"mark/" + strconv.Itoa(a) + ".json", "log/x", "x/" + strconv.Itoa(int(b)),
			}[a%8]
			h.put(name, content)
		}
	}
}

// FuzzBucket verifies whatever lies in a bucket. That never panics, never hangs and
// takes little memory; and if it finds nothing wrong, the newest commit can be
// restored, and is what was committed.
func FuzzBucket(f *testing.F) {
	for _, script := range []string{
		"", "\x00\x01\x00\x00", "\x01\x02\x01\x07", "\x02\x03\x04\x00", "\x03\x01\x02\x00", "\x04\x05\x00\x08{\"format\"", "\x05\x02\x04\x00",
		"\x06\x03\x02\x09", "\x06\x03\x03\x01", "\x06\x02\x04\x01", "\x06\x00\x00\x03", "\x06\x05\x01\x02", "\x00\x06\x00\x00\x00\x05\x00\x00", "\x04\x07\x00\x00",
	} {
		f.Add([]byte(script))
	}
	var mu sync.Mutex
	var whole *history
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		mu.Lock()
		if whole == nil {
			whole = sample(t)
		}
		h := whole.copied(t)
		mu.Unlock()
		play(h, script)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		opts := options(t, h.bucket, verify.Restore)
		opts.Points = 2
		r, err := verify.Run(t.Context(), opts)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("it took %d bytes of memory", n)
		}
		if err != nil {
			if !errors.Is(err, archive.ErrNoReplica) {
				t.Fatal(err)
			}
			return
		}
		if n, _ := r.Errors(); n > 0 {
			return
		}
		out := filepath.Join(t.TempDir(), "out.db")
		res, err := restore.Run(t.Context(), restore.Options{Bucket: h.bucket, Output: out, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("nothing is wrong, but a restore fails: %v\n%v", err, r.Findings)
		}
		got, err := os.ReadFile(out)
		if err != nil || res.TXID > h.last() || !bytes.Equal(got, slices.Concat(h.states[res.TXID-1]...)) {
			t.Errorf("nothing is wrong, but TXID %v is restored to something else (%v)", res.TXID, err)
		}
	})
}
