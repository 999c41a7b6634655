package upkeep_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark/replica/upkeep"
)

// rewriting is a log that grows, is packed, and is counted.
type rewriting struct {
	policy upkeep.Packing
	log    []upkeep.Object
	// in and again are the bytes that came and those that were written again.
	in, again      int64
	joins, longest int
}

func (r *rewriting) grow(t rapid.TB, size int64) {
	r.log = append(r.log, upkeep.Object{Size: size})
	r.in += size
	for {
		from, to, ok := r.policy.Due(r.log)
		if !ok {
			break
		}
		pack := r.join(t, from, to)
		r.log = slices.Replace(r.log, from, to, pack)
		r.again += pack.Size
		r.joins++
	}
	r.longest = max(r.longest, len(r.log))
}

// join checks what every pack must be.
func (r *rewriting) join(t rapid.TB, from, to int) upkeep.Object {
	if to-from < 2 || from < 0 || to > len(r.log)-r.policy.Newest || to-from > r.policy.Run {
		t.Fatalf("joins [%d,%d) of %d objects", from, to, len(r.log))
	}
	pack := r.log[from]
	for _, o := range r.log[from+1 : to] {
		pack.Size += o.Size
		if o.Severed {
			t.Fatalf("joins [%d,%d), in which an object is severed", from, to)
		}
	}
	if pack.Size > r.policy.Limit {
		t.Fatalf("a pack of %d bytes, the limit is %d", pack.Size, r.policy.Limit)
	}
	return pack
}

// bound is how many objects the policy allows.
func (r *rewriting) bound() int {
	p := r.policy
	closed := int(max(2*int64(p.Share), 2*r.in/p.Limit)) + 1
	return p.Newest + closed + max(p.Most, closed+1)
}

func (r *rewriting) factor() float64 { return float64(r.again) / float64(r.in) }

func defaults() upkeep.Packing {
	return upkeep.Packing{
		Newest: upkeep.DefaultNewest, Most: upkeep.DefaultMost, Share: upkeep.DefaultShare,
		Limit: upkeep.DefaultLimit, Run: upkeep.DefaultRun,
	}
}

// TestDay packs a day of a segment a second, as different applications write it.
func TestDay(t *testing.T) {
	t.Parallel()
	const day = 86_400
	rng, other := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2)) // the subtests run in parallel
	for name, size := range map[string]func(i int) int64{
		"equal":     func(int) int64 { return 20_000 },
		"tiny":      func(int) int64 { return 500 },
		"scattered": func(int) int64 { return 350 + int64(math.Exp(8.5+1.5*rng.NormFloat64())) },
		"outliers":  func(int) int64 { return int64(min(1000*math.Pow(other.Float64(), -1.1), 1e8)) },
		"by day":    func(i int) int64 { return 1000 + int64(40_000*math.Pow(max(0, math.Sin(float64(i)/day*2*math.Pi)), 2)) },
		"ruler":     func(i int) int64 { return 500 * int64((i+1)&-(i+1)) },
		"falling":   func(i int) int64 { return 400 + 50_000_000/int64(i+1) },
		"rising":    func(i int) int64 { return 400 + int64(i)/2 },
		"hourly":    func(i int) int64 { return 500 + 9_000_000*int64((i%3600)/3599) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rewriting{policy: defaults()}
			for i := range day {
				r.grow(t, size(i))
			}
			t.Logf("%d objects, %d at most; %.2f × %d MB written again, in %d packs", len(r.log), r.longest, r.factor(), r.in/1e6, r.joins)
			if r.longest >= 160 {
				t.Errorf("a restore may have to read %d objects", r.longest)
			}
			if r.factor() > 3 {
				t.Errorf("each byte is written again %.2f times", r.factor())
			}
		})
	}
}

// TestLargeLog packs more than the limit allows to be joined.
func TestLargeLog(t *testing.T) {
	t.Parallel()
	r := rewriting{policy: defaults()}
	for range 10_000 {
		r.grow(t, 5_000_000)
	}
	t.Logf("%d objects, bound %d; %.2f × written again", len(r.log), r.bound(), r.factor())
	if r.longest > r.bound() || r.factor() > 1.5 {
		t.Errorf("%d objects, bound %d; %.2f × written again", r.longest, r.bound(), r.factor())
	}
}

// TestBound packs whatever there may be.
func TestBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rewriting{policy: upkeep.Packing{
			Newest: rapid.IntRange(1, 8).Draw(t, "newest"), Most: rapid.IntRange(4, 30).Draw(t, "most"),
			Share: rapid.IntRange(2, 16).Draw(t, "share"), Limit: rapid.Int64Range(1<<16, 1<<24).Draw(t, "limit"),
			Run: rapid.IntRange(8, 64).Draw(t, "run"),
		}}
		scale := rapid.SampledFrom([]float64{1, 2, 8, 15}).Draw(t, "scale") // powers of e
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		severed := rapid.SampledFrom([]int{0, 0, 0, 5}).Draw(t, "severed")
		n := 0
		for range rapid.IntRange(0, 600).Draw(t, "segments") {
			r.grow(t, 350+int64(math.Exp(scale*rng.Float64())))
			if severed > 0 && rng.IntN(100) < severed {
				r.log[len(r.log)-1].Severed = true
				n++
			}
			if len(r.log) > r.bound()+2*n {
				t.Fatalf("%d objects, bound %d", len(r.log), r.bound())
			}
		}
		// Every byte can be joined as often as the whole is larger than a segment.
		if most := 1 + 2*math.Log(float64(r.in)/350)/math.Log(float64(min(r.policy.Most, r.policy.Run))); n == 0 && r.factor() > most {
			t.Fatalf("each byte is written again %.2f times, of %.2f", r.factor(), most)
		}
	})
}

// TestBacklog packs a log that was never packed.
func TestBacklog(t *testing.T) {
	t.Parallel()
	r := rewriting{policy: defaults()}
	for range 20_000 {
		r.log = append(r.log, upkeep.Object{Size: 3000})
		r.in += 3000
	}
	r.grow(t, 3000)
	t.Logf("%d objects; %.2f × written again, in %d packs", len(r.log), r.factor(), r.joins)
	if len(r.log) > r.bound() || r.factor() > 3 {
		t.Errorf("%d objects, bound %d; %.2f × written again", len(r.log), r.bound(), r.factor())
	}
}

// TestDue asks about some logs.
func TestDue(t *testing.T) {
	t.Parallel()
	p := upkeep.Packing{Newest: 2, Most: 3, Share: 1, Limit: 1000}
	sizes := func(sizes ...int64) (log []upkeep.Object) {
		for _, s := range sizes {
			log = append(log, upkeep.Object{Size: s})
		}
		return log
	}
	sever := func(log []upkeep.Object, i int) []upkeep.Object {
		log[i].Severed = true
		return log
	}
	tests := []struct {
		name     string
		log      []upkeep.Object
		from, to int
		ok       bool
	}{
		{"nothing", nil, 0, 0, false},
		{"few", sizes(10, 10, 10, 10, 10), 0, 0, false},
		{"all but the newest", sizes(10, 10, 10, 10, 10, 10), 0, 4, true},
		{"not the large one", sizes(400, 10, 10, 10, 300, 300), 1, 4, true},
		{"nor between", sizes(10, 10, 400, 10, 10, 10, 10, 10), 3, 6, true},
		{"small ones beside large ones", sizes(200, 20, 10, 400, 400, 300, 300), 1, 5, true},
		{"closed ones do not count", sizes(500, 10, 500, 10, 500, 10, 10, 10), 0, 0, false},
		{"within the limit", sizes(300, 300, 300, 300, 10, 10), 0, 3, true},
		{"not over a gap", sever(sizes(10, 10, 10, 10, 10, 10), 1), 1, 4, true},
		{"lone ones", sizes(500, 10, 500, 10, 500, 10, 500, 10, 500, 10, 10), 0, 0, false},
	}
	for _, tt := range tests {
		from, to, ok := p.Due(tt.log)
		if from != tt.from || to != tt.to || ok != tt.ok {
			t.Errorf("%s: [%d,%d) %v, want [%d,%d) %v", tt.name, from, to, ok, tt.from, tt.to, tt.ok)
		}
	}
}

// TestShare grows a log of equal segments: no pack is more than its share.
func TestShare(t *testing.T) {
	t.Parallel()
	r := rewriting{policy: defaults()}
	for range 5000 {
		r.grow(t, 1000)
		for _, o := range r.log {
			if o.Size > max(1000, r.in/upkeep.DefaultShare) {
				t.Fatalf("a pack of %d bytes in a log of %d", o.Size, r.in)
			}
		}
	}
}
