package archive_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// tidal has TXIDs 1 to 20 in segments of 6, 1, 8 and 4 commits. Commits 9 to 12
// have the same time, across no border; 15 and 16 too, across one.
func tidal(t *testing.T) *history {
	t.Helper()
	h := begin(t, 512, 8)
	for id := 2; id <= 20; id++ {
		when := at(10 * id)
		switch {
		case id > 9 && id <= 12:
			when = at(90)
		case id == 16:
			when = at(150)
		}
		h.commitAt(8+id%3, when)
	}
	for _, last := range []state.TXID{7, 8, 15, 20} {
		h.segmentUpTo(last)
	}
	return h
}

func commits(t *testing.T, a *archive.Archive, q archive.Query) (ids []state.TXID) {
	t.Helper()
	err := a.Commits(t.Context(), q, func(c archive.Commit) error { ids = append(ids, c.TXID); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// span is the TXIDs from one down to another.
func span(from, to state.TXID) (ids []state.TXID) {
	for id := from; id >= to; id-- {
		ids = append(ids, id)
	}
	return ids
}

func TestCommits(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	a := h.open()
	for name, tc := range map[string]struct {
		q    archive.Query
		want []state.TXID
	}{
		"all":                     {archive.Query{}, span(20, 1)},
		"limit":                   {archive.Query{Limit: 3}, span(20, 18)},
		"limit of a segment":      {archive.Query{Limit: 5}, span(20, 16)},
		"limit of all":            {archive.Query{Limit: 20}, span(20, 1)},
		"limit of all but one":    {archive.Query{Limit: 19}, span(20, 2)},
		"limit past all":          {archive.Query{Limit: 100}, span(20, 1)},
		"since a commit":          {archive.Query{Since: at(180)}, span(20, 18)},
		"since between":           {archive.Query{Since: at(181)}, span(20, 19)},
		"since a segment's first": {archive.Query{Since: at(80)}, span(20, 8)},
		"since the first":         {archive.Query{Since: at(0)}, span(20, 1)},
		"since after the first":   {archive.Query{Since: at(1)}, span(20, 2)},
		"since before the first":  {archive.Query{Since: at(-5)}, span(20, 1)},
		"since after the last":    {archive.Query{Since: at(201)}, nil},
		"since equal times":       {archive.Query{Since: at(90)}, span(20, 9)},
		"until a commit":          {archive.Query{Until: at(40)}, span(4, 1)},
		"until between":           {archive.Query{Until: at(39)}, span(3, 1)},
		"until a segment's last":  {archive.Query{Until: at(70)}, span(7, 1)},
		"until equal times":       {archive.Query{Until: at(90)}, span(12, 1)},
		"until across a border":   {archive.Query{Until: at(150)}, span(16, 1)},
		"until just before it":    {archive.Query{Until: at(149)}, span(14, 1)},
		"until the first":         {archive.Query{Until: at(0)}, span(1, 1)},
		"until before the first":  {archive.Query{Until: at(-1)}, nil},
		"until after the last":    {archive.Query{Until: at(999)}, span(20, 1)},
		"one moment":              {archive.Query{Since: at(90), Until: at(90)}, span(12, 9)},
		"one without a commit":    {archive.Query{Since: at(41), Until: at(49)}, nil},
		"limited from an end":     {archive.Query{Until: at(90), Limit: 2}, span(12, 11)},
		"since, until and limit":  {archive.Query{Since: at(20), Until: at(90), Limit: 100}, span(12, 2)},
		"the wrong way round":     {archive.Query{Since: at(90), Until: at(20)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, commits(t, a, tc.q)); diff != "" {
				t.Errorf("TXIDs (-want +got):\n%s", diff)
			}
		})
	}
}

// What is told of each commit is what was put there.
func TestCommitDetails(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	a := h.open()
	var stored int64
	for _, s := range a.Listing().Segments {
		stored += s.Size
	}
	var sum int64
	id := h.last()
	err := a.Commits(t.Context(), archive.Query{}, func(c archive.Commit) error {
		if !c.Time.Equal(h.times[id-1]) || c.TXID != id || c.Resync || c.Snapshot != (id == 1) || c.Bytes <= 0 {
			t.Errorf("commit %+v, want TXID %v at %v", c, id, h.times[id-1])
		}
		if id == 1 && int(c.Pages) != len(h.states[0]) {
			t.Errorf("the first has %d pages, want %d", c.Pages, len(h.states[0]))
		}
		if id > 1 {
			sum += c.Bytes
		}
		id--
		return nil
	})
	if err != nil || id != 0 {
		t.Errorf("stopped at TXID %v: %v", id, err)
	}
	if sum <= 0 || sum >= stored {
		t.Errorf("the commits take %d bytes of %d", sum, stored)
	}
	errOurs := errors.New("ours")
	for _, stop := range []state.TXID{20, 16, 15, 1} {
		err := a.Commits(t.Context(), archive.Query{}, func(c archive.Commit) error {
			if c.TXID < stop {
				t.Errorf("TXID %v after the error at %v", c.TXID, stop)
			}
			if c.TXID == stop {
				return errOurs
			}
			return nil
		})
		if !errors.Is(err, errOurs) {
			t.Errorf("stopped at %v: %v", stop, err)
		}
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	a := tidal(t).open()
	for name, tc := range map[string]struct {
		when  time.Time
		want  state.TXID
		after bool
	}{
		"the first":             {at(0), 1, false},
		"after the first":       {at(19), 1, false},
		"a commit":              {at(40), 4, false},
		"just before it":        {at(40).Add(-time.Millisecond), 3, false},
		"less than a ms before": {at(40).Add(-time.Microsecond), 3, false},
		"just after it":         {at(40).Add(time.Microsecond), 4, false},
		"a segment's last":      {at(70), 7, false},
		"between segments":      {at(79), 7, false},
		"a segment of one":      {at(80), 8, false},
		"equal times":           {at(90), 12, false},
		"across a border":       {at(150), 16, false},
		"just before that":      {at(149), 14, false},
		"the last":              {at(200), 20, false},
		"after the last":        {at(200).Add(time.Millisecond), 20, true},
		"long after":            {at(1e6), 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, after, err := a.At(t.Context(), tc.when)
			if err != nil || got != tc.want || after != tc.after {
				t.Errorf("TXID %v, after %v, %v; want %v, %v", got, after, err, tc.want, tc.after)
			}
		})
	}
}

func TestBeforeTheFirst(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*history{"snapshot only": begin(t, 512, 3), "with a log": tidal(t)} {
		_, _, err := h.open().At(t.Context(), at(-1))
		var r *archive.RangeError
		if !errors.As(err, &r) || !errors.Is(err, archive.ErrOutOfRange) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, says := range []string{"2026-01-02T03:04:04.000Z", "before the first", "TXID 1 (2026-01-02T03:04:05.000Z)", "TXID " + h.last().String() + " ("} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %q does not say %q", name, err, says)
			}
		}
	}
}

func TestSnapshotOnly(t *testing.T) {
	t.Parallel()
	a := begin(t, 1024, 3).open()
	r, err := a.Range(t.Context())
	want := archive.Range{FirstTXID: 1, LastTXID: 1, FirstTime: epoch(), LastTime: epoch()}
	if diff := cmp.Diff(want, r); diff != "" || err != nil {
		t.Errorf("range (-want +got):\n%s%v", diff, err)
	}
	for when, after := range map[time.Time]bool{at(0): false, at(1): true} {
		if id, got, err := a.At(t.Context(), when); id != 1 || got != after || err != nil {
			t.Errorf("at %v: TXID %v, after %v, %v", when, id, got, err)
		}
	}
	for id, after := range map[state.TXID]bool{0: false, 1: false, 2: true} {
		if p, got, err := a.Plan(t.Context(), id); p.Target != 1 || got != after || err != nil {
			t.Errorf("plan of %v: %+v, after %v, %v", id, p, got, err)
		}
	}
}

// The first snapshot need not be of TXID 1, nor of a segment's last commit, and
// what lies before it can't be restored.
func TestLaterBeginning(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		segments []state.TXID // their last commits
		snapshot state.TXID
	}{
		"between segments":        {[]state.TXID{4, 9, 15}, 9},
		"in a segment":            {[]state.TXID{4, 9, 15}, 7},
		"in the last segment":     {[]state.TXID{4, 9, 15}, 12},
		"at the last commit":      {[]state.TXID{4, 9, 15}, 15},
		"in the only segment":     {[]state.TXID{15}, 8},
		"last but one of its own": {[]state.TXID{15}, 14},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := bare(t, 512, 6)
			h.commits(14)
			for _, last := range tc.segments {
				h.segmentUpTo(last)
			}
			h.snapshot(tc.snapshot)
			a := h.open()
			want := archive.Range{FirstTXID: tc.snapshot, LastTXID: 15, FirstTime: h.times[tc.snapshot-1], LastTime: h.times[14]}
			r, err := a.Range(t.Context())
			if diff := cmp.Diff(want, r); diff != "" || err != nil {
				t.Errorf("range (-want +got):\n%s%v", diff, err)
			}
			if diff := cmp.Diff(span(15, tc.snapshot), commits(t, a, archive.Query{})); diff != "" {
				t.Errorf("commits (-want +got):\n%s", diff)
			}
			for id := state.TXID(1); id <= 16; id++ {
				when := at(int(id) - 1)
				got, after, err := a.At(t.Context(), when)
				p, _, planErr := a.Plan(t.Context(), id)
				if id < tc.snapshot {
					if !errors.Is(err, archive.ErrOutOfRange) || !errors.Is(planErr, archive.ErrOutOfRange) {
						t.Errorf("TXID %v: %v; %v", id, err, planErr)
					}
					continue
				}
				if err != nil || got != min(id, 15) || after != (id == 16) || planErr != nil || p.Target != got {
					t.Errorf("at TXID %v: %v, after %v, %v; plan %+v, %v", id, got, after, err, p, planErr)
				}
			}
		})
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	h := begin(t, 512, 5)
	check := func() {
		t.Helper()
		now := h.states[len(h.states)-1].table(h.size)
		head, err := h.open().Head(t.Context())
		if err != nil || head.Last != h.last() || head.Checksum != now.Checksum() || head.Pages != now.Len() ||
			head.Commit.TXID != h.last() || !head.Commit.Time.Equal(h.times[len(h.times)-1]) {
			t.Errorf("head %+v, %v", head, err)
		}
	}
	check()
	for n := range 4 {
		h.commit(4 + n)
		h.commit(9 - n)
		h.segment()
		check()
	}
	h.snapshot(h.last())
	check()
}

func TestPlanOfArchive(t *testing.T) {
	t.Parallel()
	a := tidal(t).open()
	for id, want := range map[state.TXID]state.TXID{0: 20, 1: 1, 7: 7, 20: 20, 21: 20, ^state.TXID(0): 20} {
		p, after, err := a.Plan(t.Context(), id)
		if err != nil || p.Target != want || after != (id > 20) {
			t.Errorf("TXID %v: %+v, after %v, %v", id, p, after, err)
		}
	}
}

// The page sums after any segment follow from the newest snapshot, or from sums
// that are at hand.
func TestTable(t *testing.T) {
	t.Parallel()
	h := tidal(t)
	a := h.open()
	for _, to := range []state.TXID{1, 7, 8, 15, 20} {
		want := h.states[to-1].table(h.size)
		for _, from := range []state.TXID{0, 1, 7, 8, 15, 20} {
			if from > to {
				continue
			}
			var base *state.Table
			if from > 0 {
				base = h.states[from-1].table(h.size)
			}
			got, err := a.Table(t.Context(), from, base, to)
			if err != nil || got.Checksum() != want.Checksum() || got.Len() != want.Len() {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
		}
	}
	if got, err := a.Table(t.Context(), 0, nil, 0); err != nil || got.Checksum() != h.states[19].table(h.size).Checksum() {
		t.Errorf("the newest: %v", err)
	}
	if _, err := a.Table(t.Context(), 7, h.states[3].table(h.size), 0); !errors.Is(err, archive.ErrBroken) {
		t.Errorf("from the wrong sums: %v", err)
	}
	if err := h.bucket.Delete(t.Context(), archive.SegmentKey(8)); err != nil {
		t.Fatal(err)
	}
	a = h.open()
	if _, err := a.Table(t.Context(), 0, nil, 0); !errors.Is(err, archive.ErrBroken) || !strings.Contains(err.Error(), "TXID 8") {
		t.Errorf("over a gap: %v", err)
	}
	if got, err := a.Table(t.Context(), 0, nil, 7); err != nil || got.Checksum() != h.states[6].table(h.size).Checksum() {
		t.Errorf("up to a gap: %v", err)
	}
}
