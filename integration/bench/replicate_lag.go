package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/storage"
)

// stored is an object that holds commits.
type stored struct {
	// first is the TXID of the first commit in it, for tidemark.
	first uint64
	// until is the time up to which it has all commits, for Litestream.
	until time.Time
	// put is when the storage has got it, by its own clock, which is this machine's.
	put time.Time
}

// segments lists tidemark's, in order. Those that are in packs meanwhile are there for
// an hour more.
func segments(ctx context.Context, at place) (all []stored, err error) {
	err = at.store.List(ctx, "log/", "", func(o storage.Info) error {
		name := strings.TrimSuffix(strings.TrimPrefix(o.Key, "log/"), ".seg")
		first, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return fmt.Errorf("%s is no segment: %w", o.Key, err)
		}
		all = append(all, stored{first: first, put: o.Modified})
		return nil
	})
	return all, err
}

// lags tells for each commit how long it took until it was stored, in milliseconds and
// in order. The commits have the TXIDs that follow base. ok is false if one of them is
// in no segment.
func lags(commits []time.Time, base uint64, segments []stored) (all []float64, ok bool) {
	i := 0
	for n, at := range commits {
		id := base + 1 + uint64(n)
		for i+1 < len(segments) && segments[i+1].first <= id {
			i++
		}
		if i >= len(segments) || segments[i].first > id {
			return nil, false
		}
		all = append(all, milliseconds(at, segments[i].put))
	}
	slices.Sort(all)
	return all, len(all) > 0
}

// milliseconds is the time from one moment to another, which the clock of the storage
// can have in milliseconds only.
func milliseconds(from, to time.Time) float64 {
	return max(0, float64(to.Sub(from))/float64(time.Millisecond))
}

// ltxName is the end of an LTX file's key: its level, first and last TXID.
var ltxName = regexp.MustCompile(`(?:^|/)([0-9a-f]+)/([0-9a-f]{16})-([0-9a-f]{16})\.ltx$`)

// ltx is an LTX file of a Litestream replica.
type ltx struct {
	key         string
	level       uint64
	first, last uint64
	put         time.Time
}

// ltxFiles lists them.
func ltxFiles(ctx context.Context, at place) (all []ltx, err error) {
	err = at.store.List(ctx, "", "", func(o storage.Info) error {
		m := ltxName.FindStringSubmatch(o.Key)
		if m == nil {
			return nil
		}
		f := ltx{key: o.Key, put: o.Modified}
		for i, n := range []*uint64{&f.level, &f.first, &f.last} {
			if *n, err = strconv.ParseUint(m[i+1], 16, 64); err != nil {
				return fmt.Errorf("%s is no LTX file: %w", o.Key, err)
			}
		}
		all = append(all, f)
		return nil
	})
	return all, err
}

// points is how many TXIDs the files end with: to each of them Litestream can restore.
func points(files []ltx) int {
	ends := map[uint64]bool{}
	for _, f := range files {
		ends[f.last] = true
	}
	return len(ends)
}

// errHeader says that an LTX file is not as this program knows them.
var errHeader = errors.New("the header of an LTX file is not as expected")

// ltxHeader is the part of an LTX file's header up to its time: magic, flags, page size
// and pages, four bytes each, then the first and the last TXID and the time in
// milliseconds since 1970, eight bytes each, big-endian.
const ltxHeader = 40

// writtenAt reads from the header when Litestream has read the WAL for a file.
func writtenAt(ctx context.Context, at place, f ltx) (time.Time, error) {
	r, err := at.store.Get(ctx, f.key, 0, ltxHeader)
	if err != nil {
		return time.Time{}, err
	}
	defer r.Close() //nolint:errcheck // only read
	raw := make([]byte, ltxHeader)
	if _, err := io.ReadFull(r, raw); err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %w", errHeader, f.key, err)
	}
	if string(raw[:3]) != "LTX" || binary.BigEndian.Uint64(raw[16:]) != f.first || binary.BigEndian.Uint64(raw[24:]) != f.last {
		return time.Time{}, fmt.Errorf("%w: %s", errHeader, f.key)
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(raw[32:]))), nil
}

// ltxStored are the files of level 0, which commits go to first, with the times up to
// which they have them.
func ltxStored(ctx context.Context, at place, files []ltx) (all []stored, err error) {
	for _, f := range files {
		if f.level != 0 {
			continue
		}
		until, err := writtenAt(ctx, at, f)
		if err != nil {
			return nil, err
		}
		all = append(all, stored{until: until, put: f.put})
	}
	slices.SortFunc(all, func(a, b stored) int { return cmp.Or(a.until.Compare(b.until), a.put.Compare(b.put)) })
	return all, nil
}

// lagsByTime is as lags, for objects that have times and no commits. A commit's object
// is the first that was begun after it: it can have been a little too late for that one,
// so the figures are never too high.
func lagsByTime(commits []time.Time, files []stored) (all []float64, ok bool) {
	i := 0
	for _, at := range commits {
		for i < len(files) && files[i].until.Before(at) {
			i++
		}
		if i == len(files) {
			return nil, false
		}
		all = append(all, milliseconds(at, files[i].put))
	}
	slices.Sort(all)
	return all, len(all) > 0
}
