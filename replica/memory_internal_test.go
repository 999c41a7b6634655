package replica

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// Caches that share too little memory keep to it, give deltas against the right
// image or none, and give everything back.
func TestCacheMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const size = 512
		shared := &memory{size: rapid.Int64Range(0, 8).Draw(t, "pages") * size}
		caches := []*pageCache{{from: shared}, {from: shared}, {from: shared}}
		images := make([]map[wal.PageNo][]byte, len(caches))
		for i := range images {
			images[i] = map[wal.PageNo][]byte{}
		}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, len(caches)-1).Draw(t, "cache")
			if rapid.IntRange(0, 30).Draw(t, "drop") == 0 {
				caches[i].drop()
				continue
			}
			no := wal.PageNo(rapid.IntRange(1, 12).Draw(t, "page"))
			image := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, size)
			old := images[i][no]
			err := caches[i].swap(no, image, state.SumPage(no, old), state.SumPage(no, image), func(prev []byte) error {
				if prev != nil && !bytes.Equal(prev, old) {
					t.Fatalf("page %v of cache %d: not the image before", no, i)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			images[i][no] = image
			if used := shared.used.Load(); used > shared.size || used < 0 {
				t.Fatalf("%d bytes are used of %d", used, shared.size)
			}
		}
		for _, c := range caches {
			c.drop()
		}
		if used := shared.used.Load(); used != 0 {
			t.Fatalf("%d bytes are not given back", used)
		}
	})
}
