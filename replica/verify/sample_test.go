package verify_test

import (
	"errors"
	"fmt"
	"testing"

	"tidemark/replica/verify"
)

// What is a sample, and what is none.
func TestParseSample(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"5%", "0.5%", "100%", "3/30", "1/1", "30/30"} {
		s, err := verify.ParseSample(text)
		if err != nil || s.String() != text || s.All() {
			t.Errorf("%q is %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "5", "0%", "101%", "-5%", "NaN%", "%", "0/30", "31/30", "3/", "/30", "3/0", "-1/3", "a/b", "1/2/3"} {
		if s, err := verify.ParseSample(text); !errors.Is(err, verify.ErrSample) {
			t.Errorf("%q is %v, %v", text, s, err)
		}
	}
}

// The parts of a rotating sample read every object once, and each part reads the
// same again.
func TestRotatingSample(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.commits(29)
	for id := range 29 {
		h.segments(h.stored + 1)
		_ = id
	}
	const parts = 7
	read := map[int]int64{}
	total := int64(0)
	for part := 1; part <= parts; part++ {
		for range 2 {
			opts := options(t, h.bucket, verify.Objects)
			opts.Sample, opts.Seed = verify.Sample{Part: part, Parts: parts}, uint64(total)
			r := run(t, opts)
			n := r.Counts[verify.Segment].Read + r.Counts[verify.Snapshot].Read
			if was, again := read[part]; again && was != n {
				t.Errorf("part %d has %d objects, and %d", part, was, n)
			}
			read[part] = n
		}
		total += read[part]
	}
	if total != 30 {
		t.Errorf("all parts read %d of 30 objects: %v", total, read)
	}
	// What is wrong is found by one of the parts.
	flip("log/0000000000000009.seg", middle)(h)
	found := 0
	for part := 1; part <= parts; part++ {
		opts := options(t, h.bucket, verify.Objects)
		opts.Sample = verify.Sample{Part: part, Parts: parts}
		found += len(run(t, opts).Findings)
	}
	if found != 1 {
		t.Errorf("%d parts find it", found)
	}
}

// A share is of the number of objects, and is drawn anew with another seed.
func TestShare(t *testing.T) {
	t.Parallel()
	h := begin(t)
	h.commits(29)
	for range 29 {
		h.segments(h.stored + 1)
	}
	flip("log/0000000000000009.seg", middle)(h)
	found := 0
	for seed := range uint64(40) {
		opts := options(t, h.bucket, verify.Objects)
		opts.Sample, opts.Seed = verify.Sample{Share: 0.17}, seed
		r, again := run(t, opts), run(t, opts)
		if n := r.Counts[verify.Segment].Read + r.Counts[verify.Snapshot].Read; n != 6 { // 5.1, rounded up
			t.Errorf("%d objects of 30 read", n)
		}
		if fmt.Sprint(lines(r)) != fmt.Sprint(lines(again)) || r.Seed != seed {
			t.Errorf("seed %d: %v, then %v", seed, lines(r), lines(again))
		}
		found += len(r.Findings)
	}
	if found < 1 || found > 20 { // 8 are to be expected
		t.Errorf("%d of 40 samples find it", found)
	}
}
