package corpus_test

import (
	"bytes"
	"fmt"
	"testing"

	"tidemark/replica/salvage/corpus"
	"tidemark/wal"
	"tidemark/wal/scan"
)

// TestScanned holds what the scanner says of each damaged WAL against what the
// corpus expects.
func TestScanned(t *testing.T) {
	t.Parallel()
	sizes := []wal.PageSize{512, 4096}
	if slowly {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		o := write(t, spec(size, 1))
		x := corpus.Others{Same: write(t, spec(size, 2)), Odd: write(t, spec(size*2, 3))}
		orders := []*corpus.Original{o, o.Reordered()}
		if slowly {
			orders = orders[:1]
		}
		for _, o := range orders {
			for _, d := range corpus.Damages(x) {
				if d.Closed || d.StrangeWAL != nil {
					continue
				}
				t.Run(fmt.Sprintf("%d/%d/%s", size, o.Header.Order, d.Name), func(t *testing.T) {
					f := o.Clone()
					d.Hurt(o, &f)
					e := corpus.Expect(o, f, d)
					r, err := scan.Scan(bytes.NewReader(f.WAL), int64(len(f.WAL)), scan.Options{PageSize: size})
					if err != nil {
						t.Fatal(err)
					}
					proven, probable := 0, 0
					for _, c := range r.Commits {
						if r.Generations[c.Generation].Salts != o.Header.Salts {
							continue
						}
						switch {
						case c.Proof == scan.Proven:
							proven++
						case c.Proof >= scan.Probable:
							probable++
						}
					}
					if e.Gone {
						return
					}
					if proven != e.Proven || probable != e.Probable {
						t.Errorf("of %d commits %d are proven and %d probable, want %d and %d", len(o.Frames), proven, probable, e.Proven, e.Probable)
					}
					t.Logf("proven %d, probable %d of %d; prefix exact %v, all exact %v, %d of %d rows", e.Proven, e.Probable, len(o.Frames),
						e.Prefix.Exact, e.All.Exact, len(e.All.Rows), len(e.All.State))
				})
			}
		}
	}
}
