package verify

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// ErrSample says that a text is no sample.
var ErrSample = errors.New("not a sample")

// Sample is which objects are read at the level Objects. The zero value is all.
type Sample struct {
	// Share is a share, more than 0 and at most 1, that is drawn anew each time.
	Share float64
	// Part of Parts are those objects, about as many each time, whose keys fall
	// into that part. Which these are depends on nothing but the key, so that
	// Parts runs with Part from 1 on read every object that was there all the time.
	Part, Parts int
}

// ParseSample reads a share ("5%") or a part ("3/30"). Anything else is ErrSample.
func ParseSample(text string) (Sample, error) {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p > 0 && p <= 100) {
			return Sample{}, fmt.Errorf("%w: %q: give a share from more than 0%% up to 100%%, such as 5%%", ErrSample, text)
		}
		return Sample{Share: p / 100}, nil
	}
	left, right, ok := strings.Cut(text, "/")
	part, err1 := strconv.ParseUint(left, 10, 31)
	parts, err2 := strconv.ParseUint(right, 10, 31)
	if !ok || err1 != nil || err2 != nil || part < 1 || part > parts {
		return Sample{}, fmt.Errorf("%w: %q: give a share such as 5%%, or a part such as 3/30, from 1/30 to 30/30", ErrSample, text)
	}
	return Sample{Part: int(part), Parts: int(parts)}, nil
}

// All tells that it is no sample but everything.
func (s Sample) All() bool { return s.Share == 0 && s.Parts == 0 }

// String is what ParseSample reads; "all" for everything.
func (s Sample) String() string {
	switch {
	case s.Parts > 0:
		return fmt.Sprintf("%d/%d", s.Part, s.Parts)
	case s.Share > 0:
		return strconv.FormatFloat(s.Share*100, 'f', -1, 64) + "%"
	default:
		return "all"
	}
}

// of picks the sample of some keys. A share is of their number, rounded up, so that
// it is never none.
func (s Sample) of(keys []string, seed uint64) map[string]bool {
	picked := map[string]bool{}
	switch {
	case s.Parts > 0:
		for _, k := range keys {
			if xxhash.Sum64String(k)%uint64(s.Parts) == uint64(s.Part-1) {
				picked[k] = true
			}
		}
	case s.Share > 0:
		drawn := slices.Clone(keys)
		slices.SortFunc(drawn, func(a, b string) int { return cmp.Or(cmp.Compare(draw(seed, a), draw(seed, b)), cmp.Compare(a, b)) })
		for _, k := range drawn[:min(len(drawn), int(math.Ceil(s.Share*float64(len(drawn)))))] {
			picked[k] = true
		}
	default:
		for _, k := range keys {
			picked[k] = true
		}
	}
	return picked
}

// draw gives a key its place in a random order.
func draw(seed uint64, key string) uint64 {
	return xxhash.Sum64(append(binary.BigEndian.AppendUint64(nil, seed), key...))
}
