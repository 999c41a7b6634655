package upkeep

import "math"

// The defaults of Packing.
const (
	DefaultNewest = 8
	DefaultMost   = 112
	DefaultShare  = 8
	DefaultLimit  = 256 << 20
	DefaultRun    = 256
)

// backlog is how many objects are looked at when there are far too many.
const backlog = 4 * DefaultRun

// Packing decides which objects of the log are joined into packs. It is a pure
// function of their sizes, so that a restart goes on with the same decisions.
//
// An object is open as long as a pack can grow out of it: until it has half the
// length that packs may have. When there are more than Most open ones, a run of
// neighbours is joined. So what a restore must read is bounded, whatever the sizes
// are. With closed, the number of objects that are not open, it is
//
//	Newest + closed + max(Most, closed+1) objects
//
// since two open neighbours can always be joined; and closed is at most 2 × Share,
// or 2 × (bytes of the log ÷ Limit) if that is more.
//
// Which run is joined decides how often a byte is written again. Each joining
// makes the object that a byte is in larger by some factor, and the product of all
// these factors can't be more than the length of a pack over that of a segment. So
// that run is taken in which this factor is the greatest: the logarithm of it, as
// the mean over all bytes of the run, is the entropy of the objects' sizes. Of equal
// objects that is a run of as many as there are; a large object among small ones is
// left alone until there are others like it. A byte is then written about
// log(pack ÷ segment) ÷ log(Most) times: less than twice in a day of a segment a
// second, and three times in years.
//
// It is what tiered compaction does, without tiers: what tier an object is in
// would have to be remembered. (For the problem see C. Mathieu et al., "Bigtable
// Merge Compaction", 2014.)
type Packing struct {
	// Newest is the number of segments at the end of the log that are never
	// packed; 0 is the default. With those, local state can be compared.
	Newest int
	// Most is how many open objects there may be; 0 is the default.
	Most int
	// Share bounds a pack to this part of the log, as in 1/Share; 0 is the
	// default. What can be deleted are whole objects, so this is how finely
	// retention cuts.
	Share int
	// Limit bounds the length of a pack in bytes; 0 is the default.
	Limit int64
	// Run is how many objects are joined at once at most; 0 is the default.
	Run int
}

func (p Packing) withDefaults() Packing {
	if p.Newest == 0 {
		p.Newest = DefaultNewest
	}
	if p.Most == 0 {
		p.Most = DefaultMost
	}
	if p.Share == 0 {
		p.Share = DefaultShare
	}
	if p.Limit == 0 {
		p.Limit = DefaultLimit
	}
	if p.Run == 0 {
		p.Run = DefaultRun
	}
	return p
}

// Object is an object of the log as the policy sees it.
type Object struct {
	// Size is its length in bytes.
	Size int64
	// Severed tells that it can't be joined with the one before it: something
	// lies between them, or one of them can't be read.
	Severed bool
}

// Due gives the objects [from, to) of the log that are to be joined next. ok is
// false if there are none.
func (p Packing) Due(log []Object) (from, to int, ok bool) {
	p = p.withDefaults()
	p.Limit = p.limit(log)
	log = log[:max(0, len(log)-p.Newest)]
	open := 0
	for _, o := range log {
		if p.open(o) {
			open++
		}
	}
	if open <= p.Most {
		return 0, 0, false
	}
	best, looked := -1.0, 0
	for i, o := range log {
		if !p.open(o) {
			continue
		}
		if end, h := p.best(log[i:]); end > 0 && h > best {
			best, from, to, ok = h, i, i+end, true
		}
		if looked++; ok && looked > backlog {
			break
		}
	}
	return from, to, ok
}

// limit is how long a pack of a log may be.
func (p Packing) limit(log []Object) int64 {
	var total int64
	for _, o := range log {
		total += o.Size
	}
	return min(p.Limit, total/int64(p.Share))
}

func (p Packing) open(o Object) bool { return o.Size < p.Limit/2 }

// best finds the best run that begins with the first object, and how good it is. It
// gives 0 if there is none.
func (p Packing) best(log []Object) (end int, entropy float64) {
	entropy = -1
	var r run
	for i, o := range log[:min(len(log), p.Run)] {
		if !p.open(o) || i > 0 && o.Severed {
			break
		}
		if r.add(o.Size); r.size > p.Limit {
			break
		}
		if h := r.entropy(); i > 0 && h > entropy {
			end, entropy = i+1, h
		}
	}
	return end, entropy
}

// run adds up objects.
type run struct {
	size int64
	// logs is the sum of size × log size.
	logs float64
}

func (r *run) add(size int64) {
	r.size += size
	if size > 0 {
		r.logs += float64(size) * math.Log(float64(size))
	}
}

// entropy is the logarithm of the factor by which the object that a byte is in
// grows when the run is joined, as the mean over its bytes.
func (r *run) entropy() float64 {
	if r.size == 0 {
		return 0
	}
	return math.Log(float64(r.size)) - r.logs/float64(r.size)
}
